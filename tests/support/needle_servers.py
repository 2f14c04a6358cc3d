"""Servers that `heddle needle --url` is tested with: one that knows the needles and errs as it is told to, and one that
passes everything on to another and keeps what it saw. Tokens are words."""
import http.client
import http.server
import json
import re
import socket
import threading

CHAT_TOKENS = 5  # of the template


def count(text):
    return len(text.split())


def chat_text(messages):
    return " ".join(m["content"] for m in messages)


class NeedleServer:
    """`style`: how tokens are counted: vllm, llama, or none. `answer(n, prompt)`: what to do for the n-th completion, a dict:
    texts (default: the number in the prompt), usage (default: what is true; None: none), finish, status with message and
    headers, raw (events as they are), cut (the connection ends without an end), hang (says nothing more until the server
    closes), pings (comments until the client leaves). `model`: what /v1/models says beside the id. `tokenize(n)`: (status, body) of the n-th /tokenize in place of the
    count, or None."""

    def __init__(self, style="vllm", answer=None, model=None, chat=False, context=4096, forward=None, tokenize=None):
        self.style, self.chat, self.context, self.forward = style, chat, context, forward
        self.tokenize, self.n_tokenized = tokenize, 0
        self.answer = answer or (lambda n, prompt: {})
        self.model = {"max_model_len": context} if model is None else model
        self.completions, self.paths = [], []  # bodies in the order in which they came; all paths
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.sockets = set()
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads, self.http.owner = True, self
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self.http.shutdown()
        self.http.server_close()
        for connection in list(self.sockets):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def prompts(self):
        """What was asked, as text."""
        return [body.get("prompt") or json.dumps(body["messages"]) for body in self.completions]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.owner = self.server.owner
        self.owner.sockets.add(self.connection)

    def finish(self):
        self.owner.sockets.discard(self.connection)
        try:
            super().finish()
        except OSError:
            pass

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass

    def log_message(self, *_):
        pass

    def say(self, status, value, headers=()):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        lines = [f"HTTP/1.1 {status} -", "content-type: application/json", f"content-length: {len(data)}", *headers]
        self.wfile.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    def do_GET(self):
        self.owner.paths.append(self.path)
        if self.owner.forward:
            return self.pass_on("GET", None)
        if self.path == "/v1/models":
            return self.say(200, {"data": [{"id": "fake", **self.owner.model}]})
        if self.path == "/props" and self.owner.style == "llama":
            return self.say(200, {"default_generation_settings": {"n_ctx": self.owner.context}})
        return self.say(404, {"error": {"message": f"there is no {self.path}"}})

    def do_POST(self):
        owner = self.owner
        data = self.rfile.read(int(self.headers["content-length"]))
        body = json.loads(data)
        owner.paths.append(self.path)
        if self.path in ("/v1/completions", "/v1/chat/completions"):
            with owner.lock:
                n = len(owner.completions)
                owner.completions.append(body)
            return self.pass_on("POST", data) if owner.forward else self.complete(n, body)
        if owner.forward:
            return self.pass_on("POST", data)
        if owner.tokenize and self.path == "/tokenize":
            owner.n_tokenized += 1
            instead = owner.tokenize(owner.n_tokenized - 1)
            if instead:
                return self.say(*instead)
        if owner.style == "vllm" and self.path == "/tokenize" and "prompt" in body:
            return self.say(200, {"count": count(body["prompt"]), "tokens": [], **owner.model})
        if owner.style == "vllm" and self.path == "/tokenize" and "messages" in body and owner.chat:
            return self.say(200, {"count": count(chat_text(body["messages"])) + CHAT_TOKENS, "tokens": []})
        if owner.style == "llama" and self.path == "/tokenize" and "content" in body:
            return self.say(200, {"tokens": [0] * count(body["content"])})
        if owner.style == "llama" and self.path == "/apply-template" and owner.chat:
            return self.say(200, {"prompt": "a b c d e " + chat_text(body["messages"])})
        return self.say(404, {"error": {"message": f"there is no {self.path} for this"}})

    def pass_on(self, method, data):
        connection = http.client.HTTPConnection("127.0.0.1", self.owner.forward, timeout=60)
        connection.request(method, self.path, data, {"content-type": "application/json"})
        reply = connection.getresponse()
        whole = reply.read()
        kind = reply.getheader("content-type")
        connection.close()
        lines = [f"HTTP/1.1 {reply.status} -", f"content-type: {kind}", f"content-length: {len(whole)}"]
        self.wfile.write("\r\n".join(lines).encode() + b"\r\n\r\n" + whole)

    def complete(self, n, body):
        chat = "messages" in body
        prompt = chat_text(body["messages"]) if chat else body["prompt"]
        plan = self.owner.answer(n, prompt)
        if "status" in plan:
            return self.say(plan["status"], plan.get("message", {}), plan.get("headers", ()))
        found = re.findall(r"\b\d{7}\b", prompt)
        n_prompt = count(prompt) + (CHAT_TOKENS if chat else 0)
        usage = plan.get("usage", {"prompt_tokens": n_prompt, "completion_tokens": 1})
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for text in plan.get("texts", [" ", found[0] if found else "none"]):
            self.event({"choices": [{"index": 0, "finish_reason": None, **piece(chat, text)}]})
        for raw in plan.get("raw", ()):
            self.chunk(raw)
        while plan.get("pings") and not self.owner.over.wait(0.02):
            self.chunk(": ping\n\n")
        if plan.get("hang"):
            self.owner.over.wait()
        if plan.get("cut"):
            return
        if plan.get("finish", "stop"):
            self.event({"choices": [{"index": 0, "finish_reason": plan.get("finish", "stop"), **piece(chat, "")}]})
        if usage is not None and body.get("stream_options", {}).get("include_usage"):
            self.event({"choices": [], "usage": usage})
        self.chunk("data: [DONE]\n\n" if plan.get("finish", "stop") else "")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, value):
        self.chunk(f"data: {json.dumps(value)}\n\n")

    def chunk(self, text):
        data = text.encode()
        if data:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


def piece(chat, text):
    return {"delta": {"content": text}} if chat else {"text": text}
