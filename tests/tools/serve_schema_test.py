"""schemathesis against /openapi.json: no 5xx, no status that is not documented, answers of the documented form. Exit
status 77: it is not installed."""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import run_with_tiny_models  # noqa: E402
from server import Server, tiny_model  # noqa: E402

PROGRAM = shutil.which("schemathesis", path=str(pathlib.Path(sys.executable).parent))


@unittest.skipUnless(PROGRAM, "schemathesis is not installed")
class Schema(unittest.TestCase):
    def test_what_is_generated_from_the_document(self):
        with tempfile.TemporaryDirectory() as folder:
            server = Server(tiny_model(folder), "--session-dir", folder, "--max-reply-tokens", 16)
            run = subprocess.run([PROGRAM, "run", f"http://127.0.0.1:{server.port}/openapi.json", "--max-examples", "5", "--seed", "1", "--request-timeout", "60",
                                  "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
                                  "--generation-allow-x00", "false", "--phases", "examples,coverage,fuzzing"],
                                 cwd=folder, capture_output=True, text=True, timeout=500)
            self.assertEqual(run.returncode, 0, run.stdout[-5000:])
            self.assertTrue(server.wait_idle())
            self.assertEqual(server.stop()[0], 0)


if __name__ == "__main__":
    run_with_tiny_models()
