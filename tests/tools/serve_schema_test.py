"""Every name of the document on every endpoint, with values of every kind; schemathesis against /openapi.json: no 5xx, no status that is not documented, answers of the documented form. Exit
status 77: it is not installed."""
import json
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

BODIES = {"/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}, "/v1/completions": {"prompt": "a", "max_tokens": 2},
          "/v1/responses": {"input": "a", "max_output_tokens": 16}, "/v1/embeddings": {"input": "a"}, "/tokenize": {"prompt": "a"}, "/detokenize": {"tokens": [5]},
          "/apply-template": {"messages": [{"role": "user", "content": "a"}]}}
VALUES = [True, -1, 0.5, "x", [], [3], ["x"], [{}], {}, {"type": 3}, {"type": "function", "function": 3}, [{"type": "function", "function": {"name": 3}}]]


class EveryName(unittest.TestCase):
    def test_no_field_of_any_endpoint_breaks_another(self):
        with tempfile.TemporaryDirectory() as folder:
            server = Server(tiny_model(folder))
            paths = server.get("/openapi.json")[1]["paths"]
            known = {path: set(paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]) for path in BODIES}
            for path, body in BODIES.items():
                for name in sorted(set().union(*known.values())):
                    for value in VALUES:
                        status, headers, data = server.request("POST", path, {**body, name: value})
                        with self.subTest(path=path, name=name, value=value):
                            self.assertIn(status, (200, 400, 404), data)
                            if status == 200:
                                self.assertEqual(headers.get("x-ignored-fields"), None if name in known[path] else name)
                            elif name not in known[path]:
                                self.assertEqual((path, json.loads(data)["error"]["code"]), ("/v1/embeddings", "unsupported_model"))
            self.assertTrue(server.wait_idle())
            self.assertEqual(server.stop()[0], 0)


class Methods(unittest.TestCase):
    def test_another_method_is_a_documented_answer_of_every_path(self):
        with tempfile.TemporaryDirectory() as folder:
            server = Server(tiny_model(folder))
            for path, operations in server.get("/openapi.json")[1]["paths"].items():
                status, headers, data = server.request("DELETE", path.replace("{id}", "llama").replace("{action}", "save"))
                self.assertEqual((status, json.loads(data)["error"]["code"]), (405, "method_not_allowed"), path)
                for method, operation in operations.items():
                    if method in ("get", "post"):
                        self.assertIn("405", operation["responses"], path)
            self.assertEqual(server.stop()[0], 0)


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
