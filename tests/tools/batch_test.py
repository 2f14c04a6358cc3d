"""`heddle batch`: answers are the server's, what is answered is not answered again, wrong lines are named first."""
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import HEDDLE, Cli, environment, heddle, run_with_tiny_models  # noqa: E402
from server import Server, tiny_model  # noqa: E402

FOLDER = None
MODEL = ""
BODY = {"messages": [{"role": "user", "content": "pear"}], "max_tokens": 5, "temperature": 0}


def setUpModule():
    global FOLDER, MODEL
    FOLDER = tempfile.TemporaryDirectory()
    MODEL = tiny_model(FOLDER.name)


def tearDownModule():
    FOLDER.cleanup()


def line(i, url="/v1/chat/completions", **body):
    return {"custom_id": f"r{i}", "method": "POST", "url": url, "body": {**BODY, **body}}


class Batch(Cli):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=FOLDER.name))
        self.out = self.folder / "out.jsonl"

    def write(self, lines):
        path = self.folder / "in.jsonl"
        path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
        return path

    def answers(self):
        found = [json.loads(x) for x in self.out.read_text().splitlines()]
        self.assertEqual(len({x["custom_id"] for x in found}), len(found))
        return {x["custom_id"]: x["response"] for x in found}

    def test_answers_are_the_servers(self):
        lines = [line(i, messages=[{"role": "user", "content": f"word {i}"}]) for i in range(40)]
        lines.append({"custom_id": "t", "url": "/v1/completions", "body": {"prompt": "pear", "max_tokens": 3, "temperature": 0}})
        self.assertEqual(heddle("batch", MODEL, self.write(lines), self.out)[0], 0)
        got = self.answers()
        self.assertEqual(len(got), 41)
        server = Server(MODEL)
        for i in (0, 17, 39):
            want = server.post("/v1/chat/completions", lines[i]["body"])[1]
            self.assertEqual(got[f"r{i}"]["body"]["choices"], want["choices"])
            self.assertEqual(got[f"r{i}"]["status_code"], 200)
        server.stop()

    def test_the_output_is_one_run_s_and_not_the_input(self):
        path = self.write([line(0)])
        self.assertRefused(["batch", MODEL, path, path], "OUT is IN")
        with open(self.out, "a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            self.assertRefused(["batch", MODEL, path, self.out], "another run writes to it")

    def test_an_output_that_is_no_regular_file_is_refused_before_the_model_is_loaded(self):
        path = self.write([line(0)])
        fifo = self.folder / "fifo"
        os.mkfifo(fifo)
        for out in (fifo, self.folder, "/dev/null"):
            with self.subTest(str(out)):
                self.assertRefused(["batch", "/nowhere/model", path, out], "OUT, got what is no regular file")
        done = subprocess.run([HEDDLE, "batch", "/nowhere/model", path, "/dev/stdout"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, env=environment())
        self.assertEqual((done.returncode, done.stdout), (2, b""))
        self.assertIn(b"OUT, got what is no regular file", done.stderr)

    def test_an_output_without_room_ends_the_run_and_keeps_what_it_holds(self):
        lines = self.write([line(i, max_tokens=40) for i in range(60)])
        few = subprocess.run(["bash", "-c", 'ulimit -f 8; exec "$@"', "-", HEDDLE, "batch", MODEL, str(lines), str(self.out)],
                             capture_output=True, text=True, timeout=120, env=environment())
        self.assertEqual(few.returncode, 1, few.stderr)
        self.assertEqual(few.stderr.count("cannot be written: File too large"), 1, few.stderr)
        self.assertGreater(self.out.stat().st_size, 0)
        self.assertEqual(heddle("batch", MODEL, lines, self.out)[0], 0)
        self.assertEqual(len(self.answers()), 60)

    def test_a_model_that_is_not_there_leaves_no_output(self):
        self.assertEqual(heddle("batch", self.folder / "no", self.write([line(0)]), self.out)[0], 2)
        self.assertFalse(self.out.exists())

    def test_a_standard_output_that_is_a_file_is_one(self):
        path = self.write([line(0)])
        with open(self.out, "ab") as out:
            self.assertEqual(subprocess.run([HEDDLE, "batch", MODEL, path, "/dev/stdout"], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, timeout=60, env=environment()).returncode, 0)
        self.assertEqual(self.answers()["r0"]["status_code"], 200)

    def test_what_is_no_output_of_a_batch_is_left_as_it_is(self):
        path = self.write([line(0)])
        self.out.write_text(json.dumps(line(0)) + "\n")
        before = self.out.read_bytes()
        self.assertRefused(["batch", MODEL, path, self.out], "not the output of a batch")
        self.assertEqual(self.out.read_bytes(), before)

    def test_errors_are_told_off_a_terminal_too(self):
        code, _, err = heddle("batch", MODEL, self.write([line(0, model="no-such")]), self.out)
        self.assertEqual(code, 1)
        self.assertIn("1 of them with an error", err)

    def test_lines_of_many_prompts_wait_for_room(self):
        lines = [{"custom_id": f"p{i}", "url": "/v1/completions", "body": {"prompt": ["a"] * 128, "max_tokens": 1, "temperature": 0}} for i in range(24)]
        self.assertEqual(heddle("batch", MODEL, self.write(lines), self.out)[0], 0)
        self.assertEqual([r["status_code"] for r in self.answers().values()], [200] * 24)

    def test_refused_requests_have_their_error(self):
        lines = [line(0), line(1, temperature=9), line(2, stream=True), line(3, model="other")]
        self.assertEqual(heddle("batch", MODEL, self.write(lines), self.out)[0], 1)
        self.assertEqual({k: v["status_code"] for k, v in self.answers().items()}, {"r0": 200, "r1": 400, "r2": 400, "r3": 404})
        self.assertTrue(all(v["request_id"] for v in self.answers().values()))

    def test_errors_are_answered_again(self):
        lines = [line(0), line(1, temperature=9), line(2, model="other"), line(3)]
        path = self.write(lines)
        self.assertEqual(heddle("batch", MODEL, path, self.out)[0], 1)
        whole = self.out.read_text().splitlines()
        for again in range(2):
            self.assertEqual(heddle("batch", MODEL, path, self.out)[0], 1, again)
            self.assertEqual({k: v["status_code"] for k, v in self.answers().items()}, {"r0": 200, "r1": 400, "r2": 404, "r3": 200})
        good = [x for x in whole if json.loads(x)["response"]["status_code"] == 200]
        self.assertEqual(self.out.read_text().splitlines()[:2], good)
        self.assertEqual(heddle("batch", MODEL, path, self.out, "--served-model-name", "other")[0], 1)
        self.assertEqual(self.answers()["r2"]["status_code"], 200)
        # An error of a request that is not asked now stays, and is told.
        self.assertEqual(heddle("batch", MODEL, self.write([line(0), line(3)]), self.out)[0], 1)
        self.assertEqual(len(self.answers()), 4)
        self.out.write_text("\n".join(x for x in self.out.read_text().splitlines() if '"r1"' not in x) + "\n")
        self.assertEqual(heddle("batch", MODEL, self.write([line(0), line(3)]), self.out)[0], 0)

    def test_an_answer_to_something_else_is_refused(self):
        self.assertEqual(heddle("batch", MODEL, self.write([line(0), line(1)]), self.out)[0], 0)
        before = self.out.read_bytes()
        turned = {**line(1), "body": dict(reversed(line(1)["body"].items()))}
        self.assertEqual(heddle("batch", MODEL, self.write([line(0), turned]), self.out)[0], 0)  # the same request
        for other in (line(1, max_tokens=6), line(1, messages=[{"role": "user", "content": "word"}]), {**line(1), "url": "/v1/responses"}):
            self.assertRefused(["batch", MODEL, self.write([line(0), other, line(2)]), self.out], "out.jsonl:", '"r1"', "another request")
            self.assertEqual(self.out.read_bytes(), before)
        path = self.write([line(0), line(1), line(2)])
        other = tiny_model(self.folder, "llama", "--seed", "18")
        self.assertRefused(["batch", other, path, self.out], "out.jsonl", "another model")
        self.assertEqual(self.out.read_bytes(), before)
        # Answers of another program say not what they answer.
        self.out.write_text("".join(json.dumps({k: v for k, v in json.loads(x).items() if k != "heddle"}) + "\n" for x in before.splitlines()))
        code, _, said = heddle("batch", other, path, self.out)
        self.assertEqual(code, 0, said)
        self.assertIn("2 answers do not say what they answer", said)
        self.assertEqual(len(self.answers()), 3)

    def test_lines_that_cannot_be_are_named_before_anything_runs(self):
        for bad in ("{", "3", '{"custom_id": 3}', '{"custom_id": "a"}', json.dumps({**line(9), "url": "/v1/nothing"}), json.dumps({**line(9), "method": "GET"}),
                    json.dumps({**line(9), "body": []}), json.dumps(line(0))):
            with self.subTest(bad):
                self.assertRefused(["batch", MODEL, self.write([line(0), bad]), self.out], "in.jsonl:2")
                self.assertFalse(self.out.exists())
        self.assertRefused(["batch", MODEL, self.write([]), self.out], "no requests")
        self.assertRefused(["batch", MODEL, self.folder / "nothing", self.out], "nothing")
        self.assertRefused(["batch", MODEL, self.write([line(0)]), "/nothing/out"], "/nothing/out")
        self.out.write_text("hello\n")
        self.assertRefused(["batch", MODEL, self.write([line(0)]), self.out], "out.jsonl")

    def test_a_run_that_was_cut_goes_on(self):
        path = self.write([line(i, max_tokens=300, ignore_eos=True) for i in range(120)])
        run = subprocess.Popen([HEDDLE, "batch", MODEL, path, self.out, "--parallel", "2"], env=environment(), stderr=subprocess.PIPE)
        end = time.time() + 60
        while time.time() < end and (not self.out.exists() or self.out.read_bytes().count(b"\n") < 3):
            time.sleep(0.005)
        run.send_signal(signal.SIGKILL)
        run.communicate()
        before = self.out.read_bytes()
        self.assertLess(before.count(b"\n"), 120)
        whole = before[:before.rfind(b"\n") + 1]
        self.out.write_bytes(whole + b'{"custom_id": "r1')
        self.assertEqual(heddle("batch", MODEL, path, self.out)[0], 0)
        self.assertTrue(self.out.read_bytes().startswith(whole))
        self.assertEqual(len(self.answers()), 120)
        self.assertEqual(heddle("batch", MODEL, path, self.out)[0], 0)


if __name__ == "__main__":
    run_with_tiny_models()
