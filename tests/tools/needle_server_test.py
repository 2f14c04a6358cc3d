"""`heddle needle --url` against `heddle serve`, and against servers that are slow, fail, lie and count in other ways. HEDDLE
names the executable; exit status 77: skipped."""
import csv
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import HEDDLE, Cli, environment, run_with_tiny_models  # noqa: E402
from needle_runs import FILES, KEYS, answers, cells, needle, rows_of, settled, snapshot  # noqa: E402
from needle_servers import CHAT_TOKENS, NeedleServer, chat_text, count  # noqa: E402
from server import Server, tiny_model  # noqa: E402

HYBRID = "needle-hybrid"
GRID = ("--task", "number", "--lengths", "1k,1500", "--depths", 3)
SMALL = ("--task", "number", "--lengths", "300", "--depths", 3)  # a fake's tokens are words
ROOM = 64  # of an answer
ASKED = 300 - ROOM  # tokens of a prompt of SMALL
FOLDER = TINY = None


def setUpModule():
    global FOLDER, TINY
    FOLDER = tempfile.TemporaryDirectory()
    TINY = tiny_model(FOLDER.name)


def tearDownModule():
    FOLDER.cleanup()


def new_folder():
    return tempfile.mkdtemp(dir=FOLDER.name) + "/run"


def run(*args, code=0, out=None, env=None):
    """(folder, rows, stdout, stderr)"""
    out = out or new_folder()
    rc, said, err = needle(*args, "--out", out, env=env)
    assert rc == code, (rc, err, said)
    return out, rows_of(out), said, err


class AgainstHeddle(Cli):
    """The same prompts in this process and over HTTP."""

    @classmethod
    def setUpClass(cls):
        cls.hybrid, cls.tiny = Server(HYBRID, "--threads", 1), Server(TINY, "--threads", 1, "--api-key", "sesame")
        cls.url, cls.tiny_url = (f"http://127.0.0.1:{s.port}" for s in (cls.hybrid, cls.tiny))
        cls.out, cls.rows, *_ = run("--url", cls.url, *GRID)

    @classmethod
    def tearDownClass(cls):
        for server in (cls.hybrid, cls.tiny):
            code, log = server.stop()
            assert code == 0, log

    def test_answers_are_those_in_process(self):
        _, ours, *_ = run(HYBRID, *GRID, "--threads", 1)
        self.assertEqual([list(r) for r in self.rows], [KEYS] * 6)
        self.assertEqual(answers(self.rows), answers(ours))
        self.assertEqual(cells(self.rows), cells(ours), "in the same order")
        self.assertEqual({r["score"] for r in ours}, {1})
        self.assertEqual({(r["model"], r["attention"], r["kv_bytes"], r["state_bytes"]) for r in self.rows},
                         {(HYBRID, "server", None, None)})
        self.assertEqual({p.name for p in pathlib.Path(self.out).iterdir()}, FILES)
        self.assertTrue(any(r["cached_tokens"] > 0 for r in self.rows), "the server tells")

    def test_side_by_side_answers_are_the_same(self):
        _, rows, *_ = run("--url", self.url + "/v1", *GRID, "--concurrency", 4)
        self.assertEqual(settled(rows), settled(self.rows))

    def test_a_tokenizer_at_hand_makes_the_same_prompts(self):
        with NeedleServer(forward=self.hybrid.port) as fake:
            _, rows, *_ = run("--url", fake.url, *GRID, "--tokenizer", HYBRID)
            self.assertNotIn("/tokenize", fake.paths)
            known, fake.completions = fake.completions, []
            run("--url", fake.url, *GRID)
            self.assertIn("/tokenize", fake.paths)
        self.assertEqual(known, fake.completions)
        self.assertEqual(answers(rows), answers(self.rows))

    def test_chats(self):
        grid = ("--task", "number", "--task", "word", "--lengths", "800,1k", "--depths", 3)
        for flags in ((), ("--template", "raw"), ("--answer-prefix", "The answer is")):
            with self.subTest(flags):
                _, ours, *_ = run(TINY, *grid, *flags, "--threads", 1)
                url = ("--url", self.tiny_url, "--api-key-env", "MY_KEY", *grid, *flags)
                _, theirs, *_ = run(*url, env={"MY_KEY": "sesame"})
                self.assertEqual(answers(theirs), answers(ours))
                _, theirs, *_ = run(*url, "--tokenizer", TINY, env={"MY_KEY": "sesame"})
                self.assertEqual(answers(theirs), answers(ours))
                self.assertEqual({r["length"] - r["prompt_tokens"] for r in ours}, {64})

    def test_keys(self):
        url = ("needle", "--url", self.tiny_url, *SMALL, "--out", new_folder())
        self.assertRefused([*url, "--api-key-env", "NOT_SET"], "--api-key-env", "NOT_SET")
        self.assertRefused([*url, "--api-key-env", "MY_KEY"], "--api-key-env", "MY_KEY", env={"MY_KEY": "two words"})
        self.assertRefused([*url, "--api-key-env", "MY_KEY"], "--url", "HTTP 401", "--model", env={"MY_KEY": "wrong"}, code=1)
        self.assertRefused(url, "--url", "HTTP 401", code=1)
        self.assertRefused([*url, "--model", "llama"], "--url", "HTTP 401", "--tokenizer")
        out, rows, said, _ = run("--url", self.tiny_url, "--model", "llama", "--tokenizer", TINY, "--lengths", "800", "--task", "word",
                                 "--depths", 2, code=1)
        for row in rows:
            self.assertIsNone(row["score"])
            self.assertIn("HTTP 401", row["error"])
        self.assertIn("2 of 2 rows are errors and no part of any mean", said)
        _, again, *_ = run("--url", self.tiny_url, "--model", "llama", "--tokenizer", TINY, "--lengths", "800", "--task", "word",
                           "--depths", 2, "--resume", "--api-key-env", "K", env={"K": "sesame"}, out=out)
        self.assertEqual([r["error"] for r in again], [None, None])
        self.assertEqual(cells(again), cells(rows))
        for name in FILES:
            self.assertNotIn(b"sesame", pathlib.Path(out, name).read_bytes())

    def test_another_models_name_is_an_error_of_each_row(self):
        _, rows, said, err = run("--url", self.url, "--model", "nope", *GRID, code=1)
        self.assertEqual({(r["score"], r["model"], r["answer"]) for r in rows}, {(None, "nope", "")})
        for row in rows:
            self.assertIn("HTTP 404: this model is not served here; allowed: needle-hybrid", row["error"])
        self.assertIn("err", said)

    def test_lengths_beyond_the_servers_context(self):
        self.assertRefused(["needle", "--url", self.url, "--lengths", "256k", "--out", new_folder()], "--lengths", "262144", "131072")


class NoServer(Cli):
    def test_one_that_is_not_there(self):
        with socket.create_server(("127.0.0.1", 0)) as s:
            url = f"http://127.0.0.1:{s.getsockname()[1]}"
        out = new_folder()
        self.assertRefused(["needle", "--url", url, "--out", out], "--url", "cannot connect: Connection refused", code=1)
        self.assertRefused(["needle", "--url", url, "--model", "m", "--out", out], "--url", "Connection refused", "--tokenizer")
        self.assertFalse(pathlib.Path(out).exists())
        _, rows, *_ = run("--url", url, "--model", "m", "--tokenizer", TINY, "--task", "word", "--lengths", "800", "--depths", 2, code=1)
        self.assertEqual([(r["score"], r["error"]) for r in rows], [(None, "cannot connect: Connection refused")] * 2)
        self.assertRefused(["needle", "--url", "http://no-such-host.invalid", "--model", "m", "--out", out], "--url", "no host")

    def test_urls_that_are_none(self):
        for bad in ("", "localhost:80", "ftp://a", "http://", "http://a:0", "http://u@a"):
            self.assertRefused(["needle", "--url", bad, "--model", "m"], "--url", "http://HOST")

    def test_bad_times(self):
        for bad in ("-1", "x", "nan"):
            self.assertRefused(["needle", "--url", "http://127.0.0.1:1", "--timeout", bad], "--timeout", "600" if bad == "" else "number")


class Failing(Cli):
    """What a server does wrong is an error of the row, never a miss."""

    def rows(self, answer, *flags, code=0, **kw):
        with NeedleServer(answer=answer, **kw) as fake:
            out, rows, said, err = run("--url", fake.url, *SMALL, *flags, code=code)
            self.fake = fake
        with open(out + "/summary.csv", newline="") as file:
            errors = sum(int(x["errors"]) for x in csv.DictReader(file))
        self.assertEqual(errors, sum(r["error"] is not None for r in rows))
        for row in rows:
            self.assertEqual(row["score"] is None, row["error"] is not None, row)
        return rows

    def only_the_second_fails(self, plan, *parts, flags=()):
        rows = self.rows(lambda n, prompt: plan if n == 1 else {}, *flags, code=1)
        self.assertEqual([r["score"] for r in rows], [1, None, 1])
        for part in parts:
            self.assertIn(part, rows[1]["error"])
        return rows[1]

    def all_are_right(self, plan, **kw):
        rows = self.rows(lambda n, prompt: plan, **kw)
        self.assertEqual([(r["score"], r["error"]) for r in rows], [(1, None)] * 3)
        return rows

    def test_none_of_it(self):
        rows = self.all_are_right({})
        self.assertEqual([r["answer"].strip() for r in rows], [r["expected"][0] for r in rows])
        self.assertEqual({r["prompt_tokens"] for r in rows}, {ASKED})
        bodies = self.fake.completions
        self.assertEqual([count(b["prompt"]) for b in bodies], [ASKED] * 3)
        for body in bodies:
            self.assertEqual((body["model"], body["max_tokens"], body["temperature"], body["stream"]), ("fake", ROOM, 0, True))
        for row, body in zip(rows, bodies, strict=True):
            self.assertIn(row["expected"][0], body["prompt"])

    def test_one_that_does_not_answer_in_time(self):
        for plan in ({"hang": True, "texts": []}, {"hang": True, "texts": ["It"]}, {"pings": True, "texts": []}):
            rows = self.rows(lambda n, prompt, plan=plan: plan, "--timeout", "0.5", "--concurrency", 3, code=1)
            self.assertEqual({(r["score"], r["error"]) for r in rows}, {(None, "the time is over")})
            self.assertEqual({r["answer"] for r in rows}, {"".join(plan["texts"])})

    def test_errors_with_a_message(self):
        self.only_the_second_fails({"status": 500, "message": {"error": {"message": "out of\nmemory"}}}, "HTTP 500: out of")
        self.only_the_second_fails({"status": 503, "message": b"<html>"}, "HTTP 503")
        self.only_the_second_fails({"status": 400, "message": {"error": "too long"}}, "HTTP 400: too long")

    def test_streams_that_break(self):
        self.only_the_second_fails({"cut": True})
        row = self.only_the_second_fails({"cut": True, "texts": ["12", "34"]}, "closed the connection")
        self.assertEqual(row["answer"], "1234")
        self.only_the_second_fails({"finish": None}, "ended before the answer")
        self.only_the_second_fails({"raw": ["data: {no JSON\n\n"]}, "an event is not")
        self.only_the_second_fails({"raw": ["data: 17\n\n"]}, "an event is not")
        self.only_the_second_fails({"raw": ['data: {"error": {"message": "the engine died"}}\n\n']}, "in the stream: the engine died")

    def test_events_that_say_nothing_are_passed_over(self):
        for raw in (": ping\n\n", "data: {}\n\n", 'data: {"choices": [null]}\n\n', 'data: {"choices": {}}\n\n',
                    'data: {"choices": [{"index": 0, "text": 5}]}\n\n', 'data: {"choices": [], "usage": "much"}\n\n',
                    "event: x\nid: 1\nretry: 5\n\n", 'data: {"error": null}\n\n'):
            self.all_are_right({"raw": [raw]})

    def test_another_choice_is_no_part_of_the_answer(self):
        rows = self.all_are_right({"raw": ['data: {"choices": [{"index": 1, "text": " 7654321 beside it", "finish_reason": null}]}\n\n']})
        self.assertEqual([r["answer"].strip() for r in rows], [r["expected"][0] for r in rows])

    def test_an_answer_that_was_broken_off_is_no_miss(self):
        for reason in ("abort", "error", "content_filter"):
            event = 'data: {"choices": [{"index": 0, "text": "12", "finish_reason": "%s"}]}\n\n' % reason
            self.only_the_second_fails({"raw": [event], "finish": None, "texts": []}, reason)

    def test_an_empty_answer_is_a_miss(self):
        rows = self.rows(lambda n, prompt: {"texts": []} if n == 1 else {})
        self.assertEqual([(r["score"], r["error"]) for r in rows], [(1, None), (0, None), (1, None)])

    def test_too_many_requests_are_sent_once_more(self):
        busy = {"status": 429, "message": {"error": {"message": "later"}}}
        rows = self.rows(lambda n, prompt: busy if n == 1 else {})
        self.assertEqual([r["score"] for r in rows], [1, 1, 1])
        self.assertEqual(len(self.fake.completions), 4)
        self.assertEqual(self.fake.completions[1], self.fake.completions[2])

    def test_usage(self):
        row = self.only_the_second_fails({"usage": {"prompt_tokens": 100, "completion_tokens": 1}}, "100", str(ASKED))
        self.only_the_second_fails({"usage": {"prompt_tokens": 5000, "completion_tokens": 1}}, "5000", str(ASKED))
        self.assertEqual(row["prompt_tokens"], 100)
        row = self.only_the_second_fails({"usage": {"prompt_tokens": ASKED, "prompt_tokens_details": {"cached_tokens": 999}}},
                                         "999", str(ASKED))
        self.all_are_right({"usage": None})
        self.all_are_right({"usage": {}})
        rows = self.all_are_right({"usage": {"prompt_tokens": ASKED, "prompt_tokens_details": {"cached_tokens": 170}}})
        self.assertEqual({(r["prompt_tokens"], r["cached_tokens"]) for r in rows}, {(ASKED, 170)})
        for bad in (2**63, 2**64, -5, str(ASKED), 1e300, None, [ASKED]):
            rows = self.all_are_right({"usage": {"prompt_tokens": bad, "completion_tokens": bad,
                                                 "prompt_tokens_details": {"cached_tokens": bad}}})
            self.assertEqual({(r["prompt_tokens"], r["cached_tokens"]) for r in rows}, {(ASKED, 0)})

    def test_resuming_asks_what_failed_once_more(self):
        """The file is that of a run in which nothing failed."""
        flags = ("--task", "number", "--lengths", "300,400", "--depths", 3)
        with NeedleServer(answer=lambda n, prompt: {"status": 500} if n in (1, 4) else {}) as fake:
            out, rows, *_ = run("--url", fake.url, *flags, code=1)
            self.assertEqual([r["score"] for r in rows], [1, None, 1, 1, None, 1])
            _, again, *_ = run("--url", fake.url, *flags, "--resume", out=out)
            self.assertEqual(len(fake.completions), 8)
            _, whole, *_ = run("--url", fake.url, *flags)
        self.assertEqual(settled(again), settled(whole))
        self.assertEqual({oct(p.stat().st_mode) for p in pathlib.Path(out).iterdir()}, {"0o100644"})

    def test_ctrl_c_while_an_answer_is_missing(self):
        out = new_folder()
        with NeedleServer(answer=lambda n, prompt: {"hang": True, "texts": ["a"]} if n == 2 else {}) as fake:
            process = subprocess.Popen([HEDDLE, "needle", "--url", fake.url, *map(str, SMALL), "--out", out], env=environment(),
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while process.poll() is None and len(fake.completions) < 3:
                time.sleep(0.005)
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(60), 130)
        self.assertEqual([r["score"] for r in rows_of(out)], [1, 1])

    def test_a_folder_with_results_stays_as_it_is(self):
        with NeedleServer(answer=lambda n, prompt: {"status": 500} if n else {}) as fake:
            out, *_ = run("--url", fake.url, *SMALL, code=1)
            before = snapshot(out)
            self.assertRefused(["needle", "--url", fake.url, *SMALL, "--out", out], "--out", "--resume")
            self.assertRefused(["needle", "--url", fake.url, *SMALL, "--out", out, "--resume", "--scorer", "exact"], "scorer")
            self.assertEqual(snapshot(out), before)


class Counting(Cli):
    """Servers count tokens in two ways, or not at all."""

    def lengths(self, fake, *flags, chat):
        _, rows, *_ = run("--url", fake.url, *SMALL, *flags)
        self.assertEqual([r["score"] for r in rows], [1, 1, 1])
        self.assertEqual({r["prompt_tokens"] for r in rows}, {ASKED})
        for body in fake.completions:
            self.assertEqual("messages" in body, chat)
            said = count(chat_text(body["messages"])) + CHAT_TOKENS if chat else count(body["prompt"])
            self.assertEqual(said, ASKED)
        return fake.completions

    def test_both_ways(self):
        asked = {}
        for style in ("vllm", "llama"):
            for chat in (False, True):
                with NeedleServer(style=style, chat=chat) as fake:
                    asked[style, chat] = self.lengths(fake, chat=chat)
        self.assertEqual(asked["vllm", False], asked["llama", False])
        self.assertEqual(asked["vllm", True], asked["llama", True])

    def test_a_begun_answer(self):
        with NeedleServer(chat=True) as fake:
            asked = self.lengths(fake, "--answer-prefix", "The number is", chat=True)
        for body in asked:
            self.assertEqual([m["role"] for m in body["messages"]], ["user", "assistant"])
            self.assertEqual(body["messages"][1]["content"], "The number is")
            self.assertEqual((body["continue_final_message"], body["add_generation_prompt"]), (True, False))

    def test_raw_where_there_is_a_template(self):
        with NeedleServer(chat=True) as fake:
            self.lengths(fake, "--template", "raw", chat=False)

    def test_a_server_that_does_not_count(self):
        out = new_folder()
        with NeedleServer(style="none") as fake:
            self.assertRefused(["needle", "--url", fake.url, *SMALL, "--out", out], "--url", "/tokenize", "--tokenizer MODEL")
            _, rows, *_ = run("--url", fake.url, "--tokenizer", TINY, "--template", "raw", "--task", "number", "--lengths", "1k",
                              "--depths", 3, code=1)
            for row in rows:
                self.assertIn("tokens of a prompt of", row["error"], "its tokens are words, not ours")
        self.assertFalse(pathlib.Path(out).exists())

    def test_counts_that_are_none(self):
        """After some that were right: what cannot be built is an error of its row."""
        for instead in ((500, {"error": "out of it"}), (200, {"count": 2**63 + 9}), (200, {"count": -1}), (200, {"count": "7"}),
                        (200, [])):
            with NeedleServer(tokenize=lambda n, instead=instead: instead if n > 5 else None) as fake:
                _, rows, *_ = run("--url", fake.url, *SMALL, code=1)
                self.assertEqual(fake.completions, [])
            for row in rows:
                self.assertIn("POST /tokenize: ", row["error"])
                self.assertIsNone(row["score"])
        with NeedleServer(tokenize=lambda n: (200, {"count": 200})) as fake:
            _, rows, *_ = run("--url", fake.url, *SMALL, code=1)
        for row in rows:
            self.assertIn("no prompt of exactly 236 tokens", row["error"])

    def test_contexts(self):
        for model, lengths in (({"max_model_len": 300}, [300]), ({"max_model_len": 1300}, [1024])):
            with NeedleServer(model=model) as fake:
                _, rows, *_ = run("--url", fake.url, "--task", "number", "--depths", 1)
            self.assertEqual([r["length"] for r in rows], lengths)
        for bad in ({}, {"max_model_len": None}, {"max_model_len": 0}, {"max_model_len": -1}, {"max_model_len": "many"},
                    {"max_model_len": 1e300}, {"max_model_len": 2**63}, {"max_model_len": 2**40}, {"max_model_len": [1]}):
            with NeedleServer(model=bad) as fake:
                self.assertRefused(["needle", "--url", fake.url, "--task", "number", "--out", new_folder()],
                                   "--lengths is missing", "context")
                self.lengths(fake, chat=False)
        with NeedleServer(style="llama", model={}, context=300) as fake:
            _, rows, *_ = run("--url", fake.url, "--task", "number", "--depths", 1)
            self.assertEqual([r["length"] for r in rows], [300])
            self.assertRefused(["needle", "--url", fake.url, "--lengths", "301", "--out", new_folder()], "--lengths", "301", "300")

    def test_servers_without_a_model(self):
        for reply in ({"id": 5}, {"id": None}):
            with NeedleServer(model=reply) as fake:
                self.assertRefused(["needle", "--url", fake.url, "--out", new_folder()], "--url", "--model", code=1)


if __name__ == "__main__":
    run_with_tiny_models()
