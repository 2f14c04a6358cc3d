"""`heddle needle --ruler-data` and `--judge-url`. HEDDLE names the executable."""
import http.server
import json
import pathlib
import sys
import tempfile
import threading
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import Cli  # noqa: E402
from needle_runs import needle, rows_of  # noqa: E402
from needle_servers import NeedleServer  # noqa: E402

MODEL = "needle-hybrid"
PASS = {"index": 7, "input": "The pass key is 48213. Remember it. 48213 is the pass key. The sky is blue. What is the pass key?",
        "outputs": ["48213"], "answer_prefix": " The pass key is"}


class Judge:
    """Says `reply` to every answer."""

    def __init__(self, reply, status=200):
        judge, self.asked = self, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, code, value):
                data = json.dumps(value).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                self.answer(200, {"data": [{"id": "judge"}]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                judge.asked.append(body["messages"][0]["content"])
                self.answer(status, {"choices": [{"message": {"content": reply}}]})

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


class Folder(Cli):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.out = self.folder.name + "/out"

    def file(self, *lines, name="passkey.jsonl"):
        path = pathlib.Path(self.folder.name) / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
        return path


class RulerData(Folder):
    def test_lines_are_cells_and_stop_texts_end_answers(self):
        path = self.file(PASS, "", {**PASS, "outputs": ["48213", "nowhere"]}, name="one/validation.jsonl")
        code, _, err = needle(MODEL, "--ruler-data", path, "--stop", ".", "--out", self.out)
        self.assertEqual(code, 0, err)
        self.assertEqual([(r["task"], r["sample"], r["depth"], r["score"], r["answer"]) for r in rows_of(self.out)],
                         [("one", 0, None, 1.0, " 48213"), ("one", 1, None, 0.5, " 48213")])

    def test_questions_want_one_of_the_outputs(self):
        path = self.file({**PASS, "outputs": ["nowhere", "48213"]}, name="qa_1.jsonl")
        self.assertEqual(needle(MODEL, "--ruler-data", path, "--out", self.out)[0], 0)
        self.assertEqual([r["score"] for r in rows_of(self.out)], [1.0])

    def test_the_bytes_that_are_sent_are_the_file_s(self):
        lines = [{**PASS, "input": "Two lines?\n", "answer_prefix": "\nAnswer:"}, {**PASS, "input": "Q", "answer_prefix": "A:"},
                 PASS, {k: PASS[k] for k in ("input", "outputs")}]
        for chat in (False, True):
            out = f"{self.out}{chat}"
            with NeedleServer(chat=chat) as server:
                needle("--url", server.url, "--model", "m", "--template", "chat" if chat else "raw", "--ruler-data", self.file(*lines), "--out", out)
                sent = server.completions
            for line, body in zip(lines, sent, strict=True):
                prefix = line.get("answer_prefix", "")
                if not chat:
                    self.assertEqual(body["prompt"], line["input"] + prefix)
                    continue
                self.assertEqual([m["content"] for m in body["messages"]], [line["input"]] + [prefix] * bool(prefix))

    def test_what_is_no_such_file_is_named(self):
        for line, part in (({"input": "x"}, "'outputs'"), ({**PASS, "input": 5}, "'input'"), ({**PASS, "outputs": [""]}, "'outputs'"), ("[]", "object"), ("{", "JSON")):
            code, _, err = needle(MODEL, "--ruler-data", self.file(PASS, line), "--out", self.out)
            self.assertEqual(code, 2)
            self.assertIn("passkey.jsonl:2", err)
            self.assertIn(part, err)
        code, _, err = needle(MODEL, "--ruler-data", self.file({**PASS, "input": "word " * 140000}), "--out", self.out)
        self.assertEqual((code, "the model's context, 131072" in err), (2, True), err)
        for flag, value in (("--answer-prefix", "x"), ("--lengths", "1k"), ("--suite", "ruler")):
            code, _, err = needle(MODEL, "--ruler-data", self.file(PASS), flag, value, "--out", self.out)
            self.assertEqual((code, flag in err), (2, True), err)


class Judged(Folder):
    GRID = ("--task", "number", "--lengths", "512", "--depths", "0,100")

    def judged(self, reply, status=200):
        with Judge(reply, status) as judge:
            code, _, err = needle(MODEL, *self.GRID, "--judge-url", judge.url, "--out", self.out)
            return code, err, rows_of(self.out), judge.asked

    def test_its_number_is_the_score_and_it_sees_what_was_expected(self):
        code, err, rows, asked = self.judged("<think>10?</think>On a scale of 1 to 10 I give 3.")
        self.assertEqual((code, [r["score"] for r in rows]), (0, [0.3, 0.3]), err)
        for row, text in zip(rows, asked, strict=True):
            self.assertIn(row["expected"][0], text)
            self.assertIn(row["answer"], text)
            self.assertIn("Question:\nWhat", text)
        self.assertEqual(json.loads((pathlib.Path(self.out) / "run.json").read_text())["judge"], "judge")

    def test_the_scale_is_not_the_judgement(self):
        for reply, score in (("3/10", 0.3), ("Score: 3 out of 10.", 0.3), ("The score is 1 on a scale from 1 to 10.", 0.1), ("**10/10**", 1.0),
                             ("I give it 7.5", 0.75), ("Score: 10. The key was 5,934,139, not a1b2c3.", 1.0), ("5, I repeat: 5", 0.5)):
            with self.subTest(reply=reply):
                self.out += "x"
                code, err, rows, _ = self.judged(reply)
                self.assertEqual((code, [r["score"] for r in rows]), (0, [score, score]), (err, rows[0]["error"]))

    def test_without_a_judgement_a_row_has_an_error(self):
        for reply, status, part in (("good", 200, "not one number from 1 to 10"), ("11", 200, "not one number"), ("5", 500, "HTTP 500"),
                                    ("3 or 7", 200, "not one number"), ("0/10", 200, "not one number")):
            with self.subTest(reply=reply):
                self.out += "x"
                code, _, rows, _ = self.judged(reply, status)
                self.assertEqual((code, [r["score"] for r in rows]), (1, [None, None]))
                self.assertTrue(all(part in r["error"] for r in rows), rows)


if __name__ == "__main__":
    unittest.main()
