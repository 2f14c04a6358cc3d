"""A running `heddle serve` as tests call it: requests through http.client or raw bytes."""
import http.client
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

from command_line import HEDDLE, ROOT, environment


def tiny_model(folder, family="llama", *flags):
    out = pathlib.Path(folder) / family
    subprocess.run([sys.executable, "-B", ROOT / "tools/make_tiny_model.py", "--family", family, "--format",
                    "safetensors", "--seed", "17", "--out", out, *flags], check=True, capture_output=True)
    return str(out)


class Server:
    """Starts at a free port and waits until it answers."""

    def __init__(self, model, *flags, env=None):
        self.process = subprocess.Popen([HEDDLE, "serve", model, "--port", "0", *map(str, flags)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(**(env or {})))
        self.log = []
        while True:
            line = self.process.stderr.readline().decode()
            if not line:
                raise AssertionError(f"the server has ended: {self.process.wait()} {''.join(self.log)}")
            self.log.append(line)
            found = re.search(r" at (https?)://\S+:(\d+) \(ready", line)
            if found:
                self.port = int(found.group(2))
                break

    def stop(self, sig=signal.SIGTERM, timeout=60):
        """Exit code and what was logged."""
        if sig and self.process.poll() is None:
            self.process.send_signal(sig)
        code = self.process.wait(timeout)
        self.log.append(self.process.stderr.read().decode())
        self.process.stderr.close()
        return code, "".join(self.log)

    def request(self, method, path, body=None, headers=None, timeout=60):
        """(status, headers in lower case, body)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        send = dict(headers or {})
        if body is not None:
            send.setdefault("content-type", "application/json")
        connection.request(method, path, body, send)
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply.status, {k.lower(): v for k, v in reply.getheaders()}, data

    def post(self, path, body, **kw):
        """(status, JSON)"""
        status, _, data = self.request("POST", path, body, **kw)
        return status, json.loads(data)

    def get(self, path, **kw):
        status, _, data = self.request("GET", path, **kw)
        return status, json.loads(data)

    def metric(self, name, headers=None):
        """Sum of the samples of a name."""
        _, _, data = self.request("GET", "/metrics", headers=headers)
        values = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", data.decode(), re.M)
        assert values, name
        return sum(map(float, values))

    def events(self, path, body, headers=None):
        """The data of a stream's events."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", path, json.dumps({**body, "stream": True}), {"content-type": "application/json", **(headers or {})})
        reply = connection.getresponse()
        assert reply.status == 200, (reply.status, reply.read())
        assert reply.getheader("content-type").startswith("text/event-stream"), reply.getheaders()
        for line in reply:
            if line.startswith(b"data: "):
                yield line[6:].strip().decode()
        connection.close()

    def raw(self, data, timeout=20, pieces=None):
        """All bytes that come back to `data` until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s:
            for piece in pieces or [data]:
                try:
                    s.sendall(piece)
                except (BrokenPipeError, ConnectionResetError):
                    break
            out = b""
            try:
                while True:
                    more = s.recv(65536)
                    if not more:
                        return out
                    out += more
            except ConnectionResetError:
                return out

    def wait_idle(self, seconds=20, headers=None):
        """Until nothing runs and all blocks that requests used are free."""
        end = time.time() + seconds
        while time.time() < end:
            if all(self.metric("vllm:" + name, headers) == 0 for name in ("num_requests_running", "kv_cache_usage_perc", "num_requests_waiting")):
                return True
            time.sleep(0.02)
        return False


def statuses(data):
    """Of the answers in raw bytes, interim ones left out."""
    return [int(s) for s in re.findall(rb"HTTP/1\.1 (\d{3}) ", data) if s != b"100"]
