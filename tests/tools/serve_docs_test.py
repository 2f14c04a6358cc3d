"""The examples of docs/api.md and docs/structured_output.md run as they stand, and the tables of docs/api.md are those of
the program. HEDDLE names the executable."""
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import good, run_with_tiny_models  # noqa: E402
from server import Server, tiny_model  # noqa: E402

TEXT = (ROOT / "docs/api.md").read_text()
FORMS = (ROOT / "docs/structured_output.md").read_text()


def setUpModule():
    global FOLDER, SERVER
    FOLDER = tempfile.TemporaryDirectory()
    SERVER = Server(tiny_model(FOLDER.name), "--served-model-name", "smollm2-135m", "--session-dir", FOLDER.name)


def tearDownModule():
    SERVER.stop()
    FOLDER.cleanup()


def blocks(text, language):
    return [block.replace(":8080", f":{SERVER.port}") for block in re.findall(rf"```{language}\n(.*?)```", text, re.S)]


def curls(text):
    return [command.strip() for block in blocks(text, "sh") for command in re.split(r"\n(?=curl )", block)]


class Docs(unittest.TestCase):
    def output(self, command):
        run = subprocess.run(["bash", "-c", command + " --fail-with-body"], capture_output=True, text=True, timeout=60)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        return run.stdout

    def test_tables_are_the_programs(self):
        self.assertTrue(TEXT.endswith("a test compares. -->\n\n" + good("docs", "api")), "stale: heddle docs api")

    def test_examples_run(self):
        commands = curls(TEXT)
        self.assertGreater(len(commands), 12)
        for command in commands:
            with self.subTest(command[-70:]):
                out = self.output(command)
                if "response_format" in command:
                    self.assertIn(json.loads(json.loads(out)["choices"][0]["message"]["content"])["city"], ("Rome", "Oslo"))
                if '"stream": true' in command:
                    self.assertTrue(out.endswith("data: [DONE]\n\n"))
                if found := re.search(r"rome/(\w+)$", command):
                    self.assertTrue(json.loads(out)[found[1] + "d"])

    def test_forms_over_http(self):
        seen = []
        for command in curls(FORMS):
            with self.subTest(command[-70:]):
                choice = json.loads(self.output(command))["choices"][0]
                text = choice["message"]["content"] if "message" in choice else choice["text"]
                seen.append(re.search(r'"(?:response_format": {"type|structured_outputs)": {?"(\w+)"', command)[1])
                if choice["finish_reason"] == "stop":
                    {"regex": lambda: self.assertRegex(text, r"^\d{4}-\d\d-\d\d$"),
                     "choice": lambda: self.assertIn(text, ("yes", "no")),
                     "grammar": lambda: self.assertRegex(text, r"^\d+( \+ \d+){1,2}$")}.get(seen[-1], lambda: json.loads(text))()
        self.assertEqual(seen, ["json_object", "json_schema", "regex", "choice", "grammar", "json", "json_object"])

    @unittest.skipIf(importlib.util.find_spec("openai") is None, "openai is not installed")
    def test_python_examples_run(self):
        programs = blocks(TEXT, "python")
        self.assertEqual(len(programs), 1)
        run = subprocess.run([sys.executable, "-c", programs[0]], capture_output=True, text=True, timeout=120)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertRegex(run.stdout, r"^(yes|no) \d+\n$")


if __name__ == "__main__":
    run_with_tiny_models()
