"""A headless Chromium, driven over its DevTools protocol. Messages go through two pipes, so nothing but Python's own
library is needed: no driver, no websocket."""
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time

NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT = 60
KEYS = {"Enter": 13, "Escape": 27, "ArrowUp": 38, "Tab": 9, "k": 75}
CTRL, SHIFT = 2, 8


def find_chromium():
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One process; `page()` gives a tab with a storage of its own."""

    def __init__(self, program):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_read, self.to = os.pipe()
        self.of, of_write = os.pipe()

        def as_3_and_4():
            high = [os.dup(to_read), os.dup(of_write)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        arguments = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                     "--disable-background-networking", "--disable-component-update", "--disable-extensions",
                     "--remote-debugging-pipe", f"--user-data-dir={self.profile.name}", "about:blank"]
        self.process = subprocess.Popen(arguments, preexec_fn=as_3_and_4, close_fds=False, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(of_write)
        self.lock = threading.Lock()
        self.n_sent = 0
        self.answers = {}  # id -> queue
        self.pages = {}    # session -> Page
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        rest = b""
        while data := os.read(self.of, 1 << 20):
            *messages, rest = (rest + data).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self.answers[message["id"]].put(message)
                elif message.get("sessionId") in self.pages:
                    self.pages[message["sessionId"]].on_event(message["method"], message["params"])

    def call(self, method, session=None, timeout=TIMEOUT, **params):
        with self.lock:
            self.n_sent += 1
            n = self.n_sent
            self.answers[n] = queue.Queue()
            message = {"id": n, "method": method, "params": params}
            if session:
                message["sessionId"] = session
            data = json.dumps(message).encode() + b"\0"
            while data:
                data = data[os.write(self.to, data):]
        answer = self.answers[n].get(timeout=timeout)
        del self.answers[n]
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def page(self):
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, context, session)
        for domain in ("Page", "Runtime", "Log", "Performance"):
            page.call(f"{domain}.enable")
        page.size(1280, 800)
        return page

    def close(self):
        try:
            self.call("Browser.close")
            self.process.wait(10)
        except (OSError, queue.Empty, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.profile.cleanup()


class Page:
    """A tab. `errors`: exceptions, messages of console.error and what the content security policy forbade."""

    def __init__(self, browser, context, session):
        self.browser, self.context, self.session = browser, context, session
        self.errors = []

    def on_event(self, method, params):
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error" and params["entry"]["source"] != "network":
            self.errors.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(str(params["args"]))

    def call(self, method, **params):
        return self.browser.call(method, session=self.session, **params)

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.protocol !== 'about:'")

    def reload(self):
        self.run("window.before_reload = true")
        self.call("Page.reload")
        self.wait("document.readyState === 'complete' && location.protocol !== 'about:' && !window.before_reload")

    def run(self, expression):
        """The value of a JavaScript expression, awaited."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise AssertionError(f"{expression}: {details.get('exception', {}).get('description', details['text'])}")
        return result["result"].get("value")

    def wait(self, condition, seconds=60):
        """Until the expression is true."""
        script = f"""new Promise((resolve) => {{
          const end = performance.now() + {min(seconds, 5) * 1000};
          const look = () => {{
            let value = false;
            try {{ value = !!({condition}); }} catch {{ }}
            if (value || performance.now() > end) resolve(value);
            else setTimeout(look, 15);
          }};
          look();
        }})"""
        end = time.monotonic() + seconds
        done = False
        while not done and time.monotonic() < end:
            try:
                done = self.run(script)
            except (RuntimeError, AssertionError) as error:  # navigated meanwhile
                if "navigated" not in str(error) and "context" not in str(error):
                    raise
        if not done:
            shown = self.run("document.body.innerText")
            raise AssertionError(f"waited {seconds} s for {condition}; the page shows:\n{shown[:2000]}")

    def type(self, text):
        self.call("Input.insertText", text=text)

    def key(self, name, modifiers=0):
        code = KEYS[name]
        event = {"key": name, "code": "KeyK" if name == "k" else name, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        text = {"text": "\r"} if name == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **event, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def click(self, selector):
        self.run(f"(() => {{ const node = [...document.querySelectorAll({json.dumps(selector)})].at(-1);"
                 f"if (!node) throw Error('there is no ' + {json.dumps(selector)}); node.click(); }})()")

    def text(self, selector):
        """Of the last element that matches; None if there is none."""
        return self.run(f"[...document.querySelectorAll({json.dumps(selector)})].at(-1)?.textContent ?? null")

    def size(self, width, height, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def media(self, **features):
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": name.replace("_", "-"), "value": value} for name, value in features.items()])

    def metric(self, name):
        return next(m["value"] for m in self.call("Performance.getMetrics")["metrics"] if m["name"] == name)

    def close(self):
        self.browser.pages.pop(self.session, None)
        self.browser.call("Target.disposeBrowserContext", browserContextId=self.context)
