"""`heddle serve` on the wire: what is refused (cases H1 to H11 and H21 to H23 of a server's bad inputs), what is taken,
and that each leaves the server as it was. HEDDLE names the executable; exit status 77: skipped."""
import http.client
import json
import pathlib
import select
import socket
import struct
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import run_with_tiny_models  # noqa: E402
from server import Server, statuses, tiny_model  # noqa: E402

FOLDER = SERVER = None
CHAT = {"messages": [{"role": "user", "content": "pear and word"}], "max_tokens": 4, "temperature": 0}


def setUpModule():
    global FOLDER, SERVER
    FOLDER = tempfile.TemporaryDirectory()
    SERVER = Server(tiny_model(FOLDER.name), "--ctx", 4096)


def tearDownModule():
    code, log = SERVER.stop()
    FOLDER.cleanup()
    assert code == 0, log


def head(first="GET /v1/models HTTP/1.1", *lines, host="Host: a"):
    return "\r\n".join([first, *([host] if host else []), *lines, "", ""]).encode("latin-1")


def post(body, *lines):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head("POST /v1/chat/completions HTTP/1.1", f"Content-Length: {len(body)}",
                "Content-Type: application/json", *lines) + body


class Wire(unittest.TestCase):
    def tearDown(self):
        self.assertEqual(SERVER.request("GET", "/health")[0], 200)

    def assertClosedWith(self, status, data, pieces=None):
        out = SERVER.raw(data, pieces=pieces)
        self.assertEqual(statuses(out), [status], out[:300])
        self.assertIn(b"connection: close", out)
        error = json.loads(out.split(b"\r\n\r\n", 1)[1])["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        return error

    # H1, H3, H9
    def test_heads_that_are_refused(self):
        many = [f"X-A: {i}" for i in range(101)]
        for status, data in [
            (414, head("GET /" + "a" * 9000 + " HTTP/1.1")),
            (431, head("GET / HTTP/1.1", "X-A: " + "b" * 70000)),
            (431, head("GET / HTTP/1.1", *many)),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n"),
            (400, b"GET / HTTP/1.1\nHost: a\n\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"),
            (400, head("GET / HTTP/1.1", "X: a", " folded")),
            (400, head("GET / HTTP/1.1", "X : a")),
            (400, head("GET / HTTP/1.1", "no colon")),
            (400, head("GET / HTTP/1.1", "X: a\x01b")),
            (400, head("GET / HTTP/1.1", host=None)),
            (400, head("GET / HTTP/1.1", "Host: b")),
            (400, head("GET / HTTP/1.1", host="Host: a/b")),
            (400, head("GET / HTTP/1.1", host="Host: a?b")),
            (400, head("GET / HTTP/1.1", host="Host: a#b")),
            (400, head("GET / HTTP/1.1", host="Host: u@a")),
            (400, head("GET / HTTP/1.1", host="Host: a b")),
            (400, head("GET http://u@a/ HTTP/1.1")),
            (400, head("GET ftp://a/ HTTP/1.1")),
            (400, head("GET /\x7f HTTP/1.1")),
            (400, head("GET /a b HTTP/1.1")),
            (400, head("GET  / HTTP/1.1")),
            (400, head("GET / ")),
            (400, head("G(T / HTTP/1.1")),
            (400, head("A" * 1024 + " / HTTP/1.1")),
            (505, head("GET / HTTP/2.0")),
            (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
            (400, head("GET / HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade")),
            (417, head("POST /tokenize HTTP/1.1", "Expect: something", "Content-Length: 2")),
        ]:
            with self.subTest(data[:60]):
                self.assertClosedWith(status, data)

    # H2, H4
    def test_lengths_and_codings_that_are_refused(self):
        first = "POST /tokenize HTTP/1.1"
        for status, lines in [
            (400, ["Content-Length: 2", "Transfer-Encoding: chunked"]),
            (400, ["Content-Length: 2", "Content-Length: 2"]),
            (400, ["Content-Length: +5"]), (400, ["Content-Length: -2"]), (400, ["Content-Length: 0x10"]),
            (400, ["Content-Length: 5,5"]), (400, ["Content-Length: "]), (400, ["Content-Length: 5 5"]),
            (400, ["Authorization: Bearer a", "Authorization: Bearer b"]), (400, ["Content-Type: application/json", "Content-Type: text/plain"]),
            (413, ["Content-Length: 18446744073709551616"]), (413, ["Content-Length: 99999999999"]),
            (501, ["Transfer-Encoding: gzip"]), (501, ["Transfer-Encoding: chunked, gzip"]),
            (501, ["Transfer-Encoding: xchunked"]),
            (400, ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]),
            (415, ["Content-Encoding: gzip", "Content-Length: 2"]),
            (413, ["Expect: 100-continue", "Content-Length: 99999999"]),
        ]:
            with self.subTest(lines):
                self.assertClosedWith(status, head(first, *lines) + b"{}")
        self.assertClosedWith(400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n")

    # H2
    def test_chunks_that_are_refused(self):
        first = head("POST /tokenize HTTP/1.1", "Transfer-Encoding: chunked", "Content-Type: application/json")
        for body in [b"-2\r\n{}\r\n", b"zz\r\n", b"5\n{\"a\":", b"2\r\n{}X\r\n0\r\n\r\n", b"2;" + b"e" * 5000 + b"\r\n{}\r\n0\r\n\r\n", b"2;x=\"a\ny\"\r\n{}\r\n0\r\n\r\n",
                     b"fffffffffffffffff\r\n{}\r\n", b"2\r\n{}\r\n0\r\nX-Trailer: a\r\n\r\n"]:
            with self.subTest(body[:40]):
                self.assertClosedWith(400, first + body)

    # H4
    def test_a_body_over_the_limit_is_refused_however_it_comes(self):
        self.assertEqual(self.assertClosedWith(413, head("POST /tokenize HTTP/1.1", "Content-Length: 16777217"))["code"],
                         "body_too_large")
        chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        self.assertClosedWith(413, b"", pieces=[head("POST /tokenize HTTP/1.1", "Transfer-Encoding: chunked")] + [chunk] * 20)

    def test_many_large_bodies_have_a_bound_together(self):
        size, answers = 16 << 20, []
        open_ones = [socket.create_connection(("127.0.0.1", SERVER.port), timeout=40) for _ in range(17)]
        try:
            for s in open_ones:  # all but the last byte of each: more than all bodies may take
                try:
                    s.sendall(head("POST /tokenize HTTP/1.1", f"Content-Length: {size}") + b" " * (size - 1))
                except (BrokenPipeError, ConnectionResetError):
                    pass  # refused
            for s in select.select(open_ones, [], [], 40)[0]:
                try:
                    answers.append(s.recv(65536))
                except ConnectionResetError:
                    answers.append(b"")  # cut while it still sent
            self.assertEqual(len(answers), 1)
            if answers[0]:
                self.assertEqual(statuses(answers[0]), [503])
                self.assertIn(b"server_is_overloaded", answers[0])
            self.assertEqual(SERVER.post("/tokenize", {"prompt": "a"})[0], 200)  # what is small goes on
        finally:
            for s in open_ones:
                s.close()
        end, status = time.time() + 40, 503
        while status == 503 and time.time() < end:  # until the server has seen that they are gone
            status = SERVER.post("/tokenize", {"prompt": "a " * 50000})[0]
        self.assertEqual(status, 200)

    def test_chunked_bodies_are_read_however_they_are_cut(self):
        body = json.dumps({"prompt": "pear and word"}).encode()
        data = head("POST /tokenize HTTP/1.1", "Transfer-Encoding: chunked", "Connection: close")
        for i in range(0, len(body), 3):
            data += b"%x;ext=1\r\n" % len(body[i:i + 3]) + body[i:i + 3] + b"\r\n"
        data += b"0\r\n\r\n"
        whole = SERVER.raw(data)
        self.assertEqual(statuses(whole), [200])
        with socket.create_connection(("127.0.0.1", SERVER.port)) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(len(data)):
                s.sendall(data[i:i + 1])
            out = b""
            while more := s.recv(65536):
                out += more
        self.assertEqual(out.split(b"\r\n\r\n", 1)[1], whole.split(b"\r\n\r\n", 1)[1])

    # H4
    def test_expect_100_continue_is_answered_before_the_body(self):
        body = b'{"prompt": "pear"}'
        with socket.create_connection(("127.0.0.1", SERVER.port), timeout=10) as s:
            s.sendall(head("POST /tokenize HTTP/1.1", "Expect: 100-continue", f"Content-Length: {len(body)}"))
            self.assertTrue(s.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n"))
            s.sendall(body)
            self.assertTrue(s.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n"))

    # H3
    def test_an_absolute_target_is_taken_and_names_the_host(self):
        for target in ("http://a/health", "HTTP://other:80/health?x=1"):
            self.assertEqual(statuses(SERVER.raw(head(f"GET {target} HTTP/1.1", "Connection: close"))), [200])
        self.assertEqual(statuses(SERVER.raw(head("GET http://a HTTP/1.1", "Connection: close"))), [200])
        body = b'{"prompt": "pear"}'
        for origin, status in (("http://b", 200), ("http://a", 403)):  # another host than the header's
            lines = ("Content-Type: application/json", f"Content-Length: {len(body)}", f"Origin: {origin}", "Connection: close")
            self.assertEqual(statuses(SERVER.raw(head("POST http://b/tokenize HTTP/1.1", *lines) + body)), [status])

    # H6
    def test_pipelined_requests_are_answered_in_order(self):
        data = b"".join(head(f"GET /v1/models/{i} HTTP/1.1") for i in range(15)) + head("GET /version HTTP/1.1", "Connection: close")
        self.assertEqual(statuses(SERVER.raw(data)), [404] * 15 + [200])

    # H6
    def test_pipelined_requests_within_the_bound_are_answered(self):
        one = head("GET /health HTTP/1.1")
        out = SERVER.raw(b"", pieces=[one * 3000])
        bound = 65536 // len(one)
        self.assertEqual(set(statuses(out)), {200})
        self.assertGreaterEqual(len(statuses(out)), bound)
        self.assertEqual(SERVER.get("/health")[0], 200)

    # H6
    def test_bodies_where_none_is_expected(self):
        out = SERVER.raw(head("GET /version HTTP/1.1", "Content-Length: 3") + b"abc" + head("GET /nothing HTTP/1.1", "Content-Length: 2", "Connection: close") + b"{}")
        self.assertEqual(statuses(out), [200, 404])

    # H7
    def test_old_and_half_closed_clients_get_their_answer(self):
        self.assertEqual(statuses(SERVER.raw(b"GET /version HTTP/1.0\r\n\r\n")), [200])
        body = json.dumps(CHAT).encode()
        for data in (head("GET /version HTTP/1.1"), post(body), post({**CHAT, "stream": True})):
            with self.subTest(data[:40]), socket.create_connection(("127.0.0.1", SERVER.port), timeout=20) as s:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                out = b""
                while more := s.recv(65536):
                    out += more
                self.assertEqual(statuses(out), [200], out[:200])
        self.assertIn(b"[DONE]", out)

    def test_a_stream_to_http_1_0_ends_with_the_connection(self):
        body = json.dumps({**CHAT, "stream": True}).encode()
        out = SERVER.raw(b"POST /v1/chat/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        self.assertEqual(statuses(out), [200])
        self.assertNotIn(b"chunked", out)
        self.assertTrue(out.endswith(b"data: [DONE]\n\n"))

    # H22
    def test_methods_and_paths(self):
        for method, path, status in [
            ("HEAD", "/v1/models", 200), ("OPTIONS", "/v1/models", 204), ("DELETE", "/v1/models", 405), ("TRACE", "/", 405),
            ("get", "/v1/models", 405), ("GET", "/v1/chat/completions", 405), ("POST", "/health", 405),
            ("GET", "//v1/models", 404), ("GET", "/v1/../v1/models", 404), ("GET", "/v1/models/", 404), ("GET", "/%2e%2e", 404),
            ("GET", "/v1/models/%00", 404), ("GET", "/v1/models/%zz", 404), ("GET", "/nothing", 404), ("PUT", "/nothing", 404),
        ]:
            with self.subTest(f"{method} {path}"):
                got, headers, data = SERVER.request(method, path)
                self.assertEqual(got, status)
                if status >= 400:
                    self.assertEqual(set(json.loads(data)["error"]), {"message", "type", "param", "code"})
                    self.assertEqual(headers["content-type"], "application/json")
                if status == 405:
                    self.assertIn("OPTIONS", headers["allow"])
                if method == "HEAD":
                    self.assertEqual(data, b"")
                    self.assertGreater(int(headers["content-length"]), 100)
                self.assertNotIn("access-control-allow-origin", headers)

    # H10
    def test_media_types(self):
        for kind, status in [(None, 200), ("application/json", 200), ("Application/JSON; charset=UTF-8", 200), ("text/plain", 415),
                             ("application/json; charset=\"Utf-8\"", 200), ("application/json ;charset=utf-8", 200), ("application/jsonx", 415),
                             ("application/json; charset=utf-16", 415), ("application/x-www-form-urlencoded", 415)]:
            with self.subTest(kind):
                lines = [f"Content-Type: {kind}"] if kind else []
                body = b'{"prompt": "pear"}'
                out = SERVER.raw(head("POST /tokenize HTTP/1.1", f"Content-Length: {len(body)}", "Connection: close", *lines) + body)
                self.assertEqual(statuses(out), [status])

    # H11
    def test_bodies_that_are_no_json(self):
        deep = b"[" * 100000
        for body in [b"", b"null", b"[]", b"3", b'"a"', b"{", b"{} x", b"\xef\xbb\xbf{}", b'{"a": "\xff"}', b'{"a": "\xc0\x80"}',
                     b'{"a": "\\ud800"}', b'{"a": NaN}', b'{"a": Infinity}', b'{"a": 1e400}', b'{"a": 1, "a": 2}', deep, b'{"a": ' + deep,
                     b'{"a": "\0"}', b"{'a': 1}", b'{"a": [' + b"1," * 1000001 + b"1]}", b'{"a": 01}']:
            with self.subTest(body[:30]):
                status, _, data = SERVER.request("POST", "/v1/chat/completions", body)
                self.assertEqual(status, 400, data[:200])
                self.assertEqual(json.loads(data)["error"]["code"], "invalid_json")
                self.assertRegex(json.loads(data)["error"]["message"], r"^(body:1:[0-9]+: |the body is [a-z]+, allowed an object|body: more than 1000000 )")

    # H21
    def test_request_ids(self):
        for given, kept in [("abc-1.2_X", True), ("a" * 128, True), ("a" * 129, False), ("a b", False), ("%n", False), ("\x1b[31m", False), ("", False)]:
            with self.subTest(given):
                out = SERVER.raw(head("GET /version HTTP/1.1", "X-Request-Id: " + given, "Connection: close")) if "\x1b" not in given else None
                if out is None:
                    continue
                got = [x for x in out.decode().split("\r\n") if x.startswith("x-request-id: ")][0][14:]
                self.assertEqual(got == given, kept)
                self.assertTrue(got)

    # H8
    def test_clients_that_go_leave_nothing_behind(self):
        before = SERVER.metric("heddle:disconnected_total")
        long = {**CHAT, "max_tokens": 3000, "ignore_eos": True}
        n = 0
        for stream in (False, True):
            for choices in (1, 3):
                for wait in (0.0, 0.05, 0.3):
                    for reset in (False, True):
                        s = socket.create_connection(("127.0.0.1", SERVER.port))
                        s.sendall(post({**long, "stream": stream, "n": choices, "seed": n}))
                        time.sleep(wait)
                        if reset:
                            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        s.close()
                        n += 1
        self.assertTrue(SERVER.wait_idle(), "requests of clients that have gone go on")
        self.assertGreaterEqual(SERVER.metric("heddle:disconnected_total") - before, n // 2)  # some went before they were read, or were answered

    def test_a_client_that_sends_on_and_goes_is_seen(self):
        before = SERVER.metric("heddle:disconnected_total")
        body = json.dumps({"prompt": "a", "max_tokens": 4000, "ignore_eos": True}).encode()
        for more in (70_000, 200_000):  # more than is read ahead
            with socket.create_connection(("127.0.0.1", SERVER.port), timeout=20) as s:
                s.sendall(head("POST /v1/completions HTTP/1.1", f"Content-Length: {len(body)}") + body + b"x" * more)
                end = time.time() + 20
                while SERVER.metric("vllm:num_requests_running") == 0 and time.time() < end:
                    time.sleep(0.01)
        end = time.time() + 20
        while SERVER.metric("heddle:disconnected_total") < before + 2 and time.time() < end:
            time.sleep(0.01)
        self.assertEqual(SERVER.metric("heddle:disconnected_total"), before + 2)
        self.assertTrue(SERVER.wait_idle())

    def test_one_connection_serves_many_requests(self):
        connection = http.client.HTTPConnection("127.0.0.1", SERVER.port)
        for i in range(20):
            connection.request("POST", "/tokenize", json.dumps({"prompt": "pear " * i}), {"content-type": "application/json"})
            reply = connection.getresponse()
            self.assertEqual(reply.status, 200)
            self.assertEqual(len(json.loads(reply.read())["tokens"]) > 0, i > 0)
            socket_now = connection.sock
            self.assertIsNotNone(socket_now, "the connection was closed")
        connection.close()


class Timers(unittest.TestCase):
    # H5
    def test_slow_heads_end_with_408(self):
        with socket.create_connection(("127.0.0.1", SERVER.port), timeout=30) as s:
            s.sendall(b"GET / HT")
            start = time.time()
            out = b""
            while more := s.recv(65536):
                out += more
            self.assertEqual(statuses(out), [408])
            self.assertLess(abs(time.time() - start - 10), 3)

    # H5
    def test_streams_of_clients_that_do_not_read_do_not_hold_others(self):
        stuck = []
        for i in range(8):
            s = socket.create_connection(("127.0.0.1", SERVER.port))
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.sendall(post({**CHAT, "stream": True, "max_tokens": 500, "ignore_eos": True, "logprobs": True, "top_logprobs": 20}))
            stuck.append(s)
        self.assertEqual(SERVER.post("/v1/chat/completions", CHAT)[0], 200)
        for s in stuck:
            s.close()
        self.assertTrue(SERVER.wait_idle())


if __name__ == "__main__":
    run_with_tiny_models()
