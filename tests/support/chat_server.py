"""A server that plays the part of `heddle serve` for the chat page. What it answers depends on the last message; a
stream may wait at a gate until the test opens it, so that nothing depends on time."""
import http.server
import json
import pathlib
import socket
import threading
import time

PAGE = pathlib.Path(__file__).resolve().parent.parent.parent / "tools/serve/page/index.html"
POLICY = ("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
          "img-src data:; base-uri 'none'; form-action 'none'")
USAGE = {"prompt_tokens": 1441, "completion_tokens": 48, "total_tokens": 1489,
         "prompt_tokens_details": {"cached_tokens": 1341},
         "heddle": {"cached_tokens": 1341, "replayed_tokens": 12, "not_reused": "diverged_at", "known_tokens": 1353}}
GATE = object()   # wait until the test opens the gate
PAUSE = object()  # 4 ms, as a model would take
BREAK = object()  # an error in the middle of the stream
CUT = object()    # the stream ends as if that were all
TORN = object()   # every event from here on comes in two parts, within characters too


class ChatServer:
    """`answers`: word in the last message -> pieces: texts, deltas (dict), or one of these objects."""

    def __init__(self, answers):
        self.answers = answers
        self.gate = threading.Event()
        self.key = ""
        self.requests = []      # (path, body)
        self.left = threading.Event()  # a client went away in the middle of a stream
        self.port = 0
        self.http = None
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def start(self):
        self.sockets = set()
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.http.daemon_threads = True
        self.http.owner = self
        self.port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self):
        """As if the process were killed: open connections end, too."""
        self.http.shutdown()
        self.http.server_close()
        for connection in list(self.sockets):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def reset(self):
        self.key = ""
        self.gate.clear()
        self.left.clear()
        self.requests.clear()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    torn = False

    def setup(self):
        super().setup()
        self.server.owner.sockets.add(self.connection)

    def finish(self):
        self.server.owner.sockets.discard(self.connection)
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

    def send_whole(self, status, body, kind="application/json", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def send_error_body(self, status, message, code, **headers):
        self.send_whole(status, {"error": {"message": message, "type": "error", "param": None, "code": code}}, **headers)

    def is_allowed(self):
        key = self.server.owner.key
        if not key or self.headers.get("authorization") == "Bearer " + key:
            return True
        self.send_error_body(401, "a key is needed", "invalid_api_key")
        return False

    def do_GET(self):
        if self.path == "/":
            self.send_whole(200, PAGE.read_bytes(), "text/html; charset=utf-8", content_security_policy=POLICY)
        elif self.path == "/health":
            self.send_whole(200, {"status": "ok"})
        elif self.path == "/v1/models" and self.is_allowed():
            self.send_whole(200, {"object": "list", "data": [{"id": "mock-chat", "max_model_len": 8192},
                                                             {"id": "mock-plain", "max_model_len": 4096}]})
        elif self.path != "/v1/models":
            self.send_error_body(404, f"there is no {self.path}", "not_found")

    def do_POST(self):
        owner = self.server.owner
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self.is_allowed():
            return
        owner.requests.append((self.path, body))
        raw = self.path == "/v1/completions"
        if not raw and body["model"] == "mock-plain":
            self.send_error_body(400, "the model has no chat template: use /v1/completions", "chat_template_error")
            return
        said = body["prompt"] if raw else next(m for m in reversed(body["messages"]) if m["role"] == "user")["content"]
        if "busy" in said:
            self.send_error_body(429, "too many requests wait", "queue_full", retry_after="7")
            return
        pieces = next((pieces for word, pieces in owner.answers.items() if word in said), ["You said: ", said])
        self.stream(pieces, raw, body)

    def stream(self, pieces, raw, body):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            self.send_pieces(pieces, raw, body)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
            self.server.owner.left.set()

    def send_text(self, text):
        data = text.encode()
        middle = len(data) * 2 // 3 if self.torn else len(data)
        for part in filter(None, (data[:middle], data[middle:])):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            if self.torn:
                time.sleep(0.004)

    def send_pieces(self, pieces, raw, body):
        self.send_text(": ping\n\n")
        finish = "stop"
        for piece in pieces:
            if piece is GATE:
                self.wait_at_gate()
                continue
            if piece is PAUSE:
                time.sleep(0.004)
                continue
            if piece is CUT:
                return
            if piece is TORN:
                self.torn = True
                continue
            if piece is BREAK:
                self.send_text('data: {"error":{"message":"the engine stopped: out of memory","type":"server_error",'
                               '"param":null,"code":"engine_dead"}}\n\n')
                return
            if isinstance(piece, dict) and "prompt_progress" in piece:
                chunk = {"choices": [{"index": 0, "delta": {}, "finish_reason": None}], **piece}
            elif isinstance(piece, dict) and "finish" in piece:
                finish = piece["finish"]
                continue
            else:
                delta = piece if isinstance(piece, dict) else {"content": piece}
                choice = {"text": delta.get("content", "")} if raw else {"delta": delta}
                chunk = {"choices": [{"index": 0, "finish_reason": None, **choice}]}
            self.send_text(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n")
        last = {"index": 0, "finish_reason": finish, **({"text": ""} if raw else {"delta": {}})}
        end = f"data: {json.dumps({'choices': [last]})}\r\n\r\n"
        if body.get("stream_options", {}).get("include_usage"):
            end += f"data: {json.dumps({'choices': [], 'usage': USAGE})}\n\n"
        self.send_text(end + "data: [DONE]\n\n")

    def wait_at_gate(self):
        """Comments go out meanwhile, and tell whether the client is still there."""
        while not self.server.owner.gate.wait(0.03):
            self.send_text(": ping\n\n")
