"""The examples of docs/api.md run as they stand, and its tables are those of the program. HEDDLE names the executable."""
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


class Docs(unittest.TestCase):
    def test_tables_are_the_programs(self):
        self.assertTrue(TEXT.endswith("a test compares. -->\n\n" + good("docs", "api")), "stale: heddle docs api")

    def test_examples_run(self):
        with tempfile.TemporaryDirectory() as folder:
            server = Server(tiny_model(folder), "--served-model-name", "smollm2-135m")
            block = re.search(r"```sh\n(.*?)```", TEXT, re.S).group(1)
            commands = re.split(r"\n(?=curl )", block)
            self.assertGreater(len(commands), 7)
            for command in commands:
                with self.subTest(command[:70]):
                    run = subprocess.run(["bash", "-c", command.strip().replace(":8080", f":{server.port}") + " --fail-with-body"],
                                         capture_output=True, text=True, timeout=60)
                    self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
                    if "response_format" in command:
                        self.assertIn(json.loads(json.loads(run.stdout)["choices"][0]["message"]["content"])["city"], ("Rome", "Oslo"))
                    if '"stream": true' in command:
                        self.assertTrue(run.stdout.endswith("data: [DONE]\n\n"))
            server.stop()


if __name__ == "__main__":
    run_with_tiny_models()
