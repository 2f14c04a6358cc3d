"""`heddle bench serve` against `heddle serve`, and against servers that err, refuse and die. HEDDLE names the executable;
exit status 77: skipped."""
import json
import pathlib
import socket
import sys
import tempfile
import threading
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import Cli, good, heddle, run_with_tiny_models  # noqa: E402
from server import Server, tiny_model  # noqa: E402

FOLDER = SERVER = None
KEYS = {"date", "endpoint", "model_id", "num_prompts", "request_rate", "max_concurrency", "seed", "duration", "completed",
        "failed", "total_input_tokens", "total_output_tokens", "cached_tokens", "request_throughput", "request_goodput",
        "output_throughput", "total_token_throughput", "errors",
        *(f"{s}_{m}_ms" for s in ("mean", "median", "std", "p99") for m in ("ttft", "tpot", "itl", "e2el"))}


def setUpModule():
    global FOLDER, SERVER
    FOLDER = tempfile.TemporaryDirectory()
    SERVER = Server(tiny_model(FOLDER.name), "--ctx", 2048)


def tearDownModule():
    code, log = SERVER.stop()
    FOLDER.cleanup()
    assert code == 0, log


def url(server=None):
    return f"http://127.0.0.1:{(server or SERVER).port}"


def bench(*flags, **kw):
    """(exit code, JSON, stderr)"""
    code, out, err = heddle("bench", "serve", *flags, "--json", **kw)
    return code, json.loads(out) if out else None, err


EVENT = 'data: {"choices":[{"index":0,"text":"%s","finish_reason":%s}]}\n\n'
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


class Fake:
    """Answers each connection's one request with the bytes of `answers`, in turn, then closes it."""

    def __init__(self, *answers):
        self.answers, self.requests, self.n = answers, [], 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            answer, self.n = self.answers[self.n % len(self.answers)], self.n + 1
            with connection:
                data = b""
                while b"\r\n\r\n" not in data:
                    data += connection.recv(65536)
                head, body = data.split(b"\r\n\r\n", 1)
                length = [int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length")]
                while length and len(body) < length[0]:
                    body += connection.recv(65536)
                self.requests.append((head.decode(), json.loads(body) if body else None))
                connection.sendall(answer.encode())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


class AgainstHeddle(Cli):
    def test_counts_times_and_keys(self):
        before = SERVER.metric("vllm:generation_tokens_total")
        code, out, err = bench("--url", url(), "--num-prompts", 20, "--input-len", 12, "--output-len", 6, "--ignore-eos",
                               "--max-concurrency", 4)
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(set(out), KEYS)
        self.assertEqual((out["completed"], out["failed"], out["errors"]), (20, 0, {}))
        self.assertEqual(out["total_output_tokens"], 120)
        self.assertEqual(SERVER.metric("vllm:generation_tokens_total") - before, 120)
        self.assertGreater(out["total_input_tokens"], 20)
        for name in ("ttft", "tpot", "itl", "e2el"):
            self.assertGreater(out[f"mean_{name}_ms"], 0)
            self.assertLessEqual(out[f"median_{name}_ms"], out[f"p99_{name}_ms"])
        self.assertGreater(out["mean_e2el_ms"], out["mean_ttft_ms"])
        self.assertAlmostEqual(out["request_throughput"], 20 / out["duration"], places=6)
        self.assertAlmostEqual(out["output_throughput"], 120 / out["duration"], places=6)
        self.assertIsNone(out["request_goodput"])
        self.assertEqual(out["max_concurrency"], 4)

    def test_chat_and_rate_and_goodput(self):
        code, out, _ = bench("--url", url() + "/v1", "--endpoint", "chat", "--num-prompts", 10, "--input-len", 5,
                             "--output-len", 4, "--ignore-eos", "--request-rate", 200, "--goodput", "ttft:60000,e2el:60000")
        self.assertEqual((code, out["completed"], out["total_output_tokens"]), (0, 10, 40))
        self.assertEqual(out["request_goodput"], out["request_throughput"])
        self.assertEqual((out["endpoint"], out["request_rate"]), ("chat", 200))
        _, out, _ = bench("--url", url(), "--num-prompts", 3, "--output-len", 4, "--goodput", "e2el:0.001")
        self.assertEqual((out["completed"], out["request_goodput"]), (3, 0))

    def test_a_salt_keeps_prompts_from_being_known(self):
        flags = ("--url", url(), "--num-prompts", 2, "--input-len", 200, "--output-len", 2, "--seed", 5, "--max-concurrency", 1)
        for _ in range(2):
            _, out, _ = bench(*flags)
            self.assertLess(out["cached_tokens"], 40)
        for _ in range(2):
            _, out, _ = bench(*flags, "--no-salt")
        self.assertGreater(out["cached_tokens"], out["total_input_tokens"] / 2, "the same prompts once more")

    def test_dataset(self):
        lines = b'{"prompt": "one two"}\n\n{"prompt": "three", "max_tokens": 3}\n'
        code, out, err = bench("--url", url(), "--dataset", "-", "--output-len", 5, "--ignore-eos", stdin=lines)
        self.assertEqual((code, out["completed"], out["total_output_tokens"]), (0, 2, 8), err)
        _, out, _ = bench("--url", url(), "--dataset", "-", "--output-len", 5, "--ignore-eos", "--num-prompts", 3, stdin=lines)
        self.assertEqual(out["total_output_tokens"], 13)

    def test_block_for_people(self):
        text = good("bench", "serve", "--url", url(), "--num-prompts", 2, "--output-len", 3)
        for part in (" Serving Benchmark Result ", "Successful requests:", "Output token throughput (tok/s):", "P99 TPOT (ms):"):
            self.assertIn(part, text)
        self.assertEqual({len(x) for x in text.splitlines()}, {52})

    def test_what_the_server_refuses_fails_with_its_words(self):
        code, out, err = bench("--url", url(), "--model", "other", "--num-prompts", 3)
        self.assertEqual((code, out["completed"], out["failed"]), (1, 0, 3))
        self.assertIn("failed: 3 of 3: HTTP 404: this model is not served here; allowed: ", err)
        self.assertEqual(list(out["errors"].values()), [3])


class AgainstOthers(Cli):
    def test_a_server_that_errs_at_times(self):
        whole = HEAD + EVENT % ("a", "null") + EVENT % ("b", '"length"') + "data: [DONE]\n\n"
        with Fake(whole, "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}",
                  HEAD + EVENT % ("a", "null"),                                     # dies
                  HEAD + EVENT % ("a", "null") + 'data: {"error": {"message": "out of it"}}\n\n',
                  HEAD + "data: {\n\n", HEAD + "data: [DONE]\n\n", "no HTTP\r\n\r\n", "") as fake:
            code, out, err = bench("--url", url(fake), "--model", "m", "--num-prompts", 8, "--max-concurrency", 1)
        self.assertEqual((code, out["completed"], out["failed"]), (0, 1, 7))
        self.assertEqual(out["total_output_tokens"], 2, "pieces, where usage is not told")
        for part in ("HTTP 500", "ended before the answer", "in the stream: out of it", "an event is not", "without text",
                     "not HTTP/1.1", "closed the connection"):
            self.assertTrue(any(part in e for e in out["errors"]), (part, out["errors"]))
        self.assertIn("failed: 2 other reasons", err)

    def test_a_stream_that_is_cut_in_the_middle_of_a_chunk(self):
        chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + EVENT % ("a", '"length"')
        with Fake(chunked) as fake:
            code, out, _ = bench("--url", url(fake), "--model", "m", "--num-prompts", 2)
        self.assertEqual((code, out["failed"]), (1, 2))

    def test_what_is_sent(self):
        models = 'HTTP/1.1 200 OK\r\nContent-Length: 33\r\nConnection: close\r\n\r\n{"data": [{"id": "theirs"}, {}]}\n'
        with Fake(models, HEAD + EVENT % ("a", '"stop"')) as fake:
            code, out, _ = bench("--url", url(fake), "--num-prompts", 1, "--output-len", 7, "--api-key", "sesame", "--ignore-eos")
        self.assertEqual((code, out["model_id"]), (0, "theirs"))
        head, body = fake.requests[1]
        self.assertIn("POST /v1/completions HTTP/1.1\r\n", head)
        self.assertIn("authorization: Bearer sesame", head)
        self.assertEqual((body["model"], body["max_tokens"], body["stream"], body["ignore_eos"]), ("theirs", 7, True, True))

    def test_a_server_that_is_not_there(self):
        with socket.create_server(("127.0.0.1", 0)) as s:
            port = s.getsockname()[1]
        code, out, err = bench("--url", f"http://127.0.0.1:{port}", "--model", "m", "--num-prompts", 2)
        self.assertEqual((code, out["failed"]), (1, 2))
        self.assertIn("failed: 2 of 2: cannot connect: Connection refused", err)
        self.assertRefused(["bench", "serve", "--url", f"http://127.0.0.1:{port}"], "which model", "--model", code=1)

    def test_one_that_says_nothing_runs_out_of_time(self):
        with socket.create_server(("127.0.0.1", 0)) as s:
            code, out, err = bench("--url", f"http://127.0.0.1:{s.getsockname()[1]}", "--model", "m", "--num-prompts", 2,
                                   "--timeout", "0.3")
        self.assertEqual((code, out["failed"]), (1, 2), err)
        self.assertIn("the time is over", err)

    def test_wrong_flags(self):
        serve = ["bench", "serve", "--url"]
        for bad in ("", "localhost:80", "ftp://a", "http://", "http://a:0", "http://a:99999", "http://u@a"):
            self.assertRefused([*serve, bad], "--url", "http://HOST")
        self.assertRefused([*serve, "http://no-such-host.invalid", "--model", "m"], "--url", "no host")
        self.assertRefused(["bench", "serve"], "bench serve: --url is missing")
        self.assertRefused([*serve, "http://a", "-n", "5"], "unknown flag")
        self.assertRefused([*serve, "http://a", "extra"], "unexpected argument")
        self.assertRefused([*serve, "http://a", "--request-rate", "-1"], "--request-rate", "inf")
        for bad in ("", "ttft", "ttft:x", "itl:5", "ttft:0", "ttft:5,"):
            self.assertRefused([*serve, "http://a", "--goodput", bad], "--goodput", "ttft:MS")
        self.assertRefused([*serve, "http://a", "--dataset", "-"], "line 1", "prompt", stdin=b"{}\n")
        self.assertRefused([*serve, "http://a", "--dataset", "-"], "no prompt")
        self.assertRefused([*serve, "http://a", "--dataset", "-", "--no-salt"], "exclude")

    def test_help_and_a_model_of_that_name(self):
        self.assertEqual(good("bench", "serve", "--help"), good("help", "bench", "serve"))
        self.assertIn("usage: heddle bench serve [flags]", good("help", "bench", "serve"))
        self.assertIn("usage: heddle bench MODEL", good("bench", "--help"))
        self.assertRefused(["bench", "./serve"], "./serve")


if __name__ == "__main__":
    run_with_tiny_models()
