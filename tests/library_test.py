"""docs/library_example.cpp, built in this tree, answers; and so it does built against an installed
copy with find_package(heddle). Skips the answers without the default model."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from default_model import default_model  # noqa: E402

BUILD = pathlib.Path(os.environ.get("HEDDLE_BUILD", ROOT / "build"))
MODEL = pathlib.Path(default_model())
QUESTION = "What is the capital of France?"
CONSUMER = """\
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES CXX)
find_package(heddle 0.1 REQUIRED)
add_executable(example {source})
target_link_libraries(example PRIVATE heddle::heddle)
"""


def run(*command, **more):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)


def cached(name):
    for line in (BUILD / "CMakeCache.txt").read_text().splitlines():
        if line.startswith(name + ":"):
            return line.split("=", 1)[1]
    return ""


class Library(unittest.TestCase):
    def answers(self, program):
        if not MODEL.is_file():
            self.skipTest(f"no model at {MODEL}; build/heddle pull smollm2-135m fetches it")
        got = run(program, MODEL, QUESTION)
        self.assertEqual(got.returncode, 0, got.stderr)
        self.assertIn("Paris", got.stdout)

    def test_example_answers(self):
        self.answers(BUILD / "tests" / "library_example")

    def test_example_reports_bad_input(self):
        program = BUILD / "tests" / "library_example"
        self.assertEqual(run(program).returncode, 2)
        got = run(program, "/no/such/model.gguf", "x")
        self.assertEqual(got.returncode, 1)
        self.assertIn("/no/such/model.gguf", got.stderr)

    def test_installed_package_builds_the_example(self):
        if cached("HEDDLE_SANITIZE"):
            self.skipTest("a sanitizer's tree is not for installing")
        with tempfile.TemporaryDirectory() as folder:
            work = pathlib.Path(folder)
            prefix = work / "prefix"
            got = run("cmake", "--install", BUILD, "--prefix", prefix)
            self.assertEqual(got.returncode, 0, got.stdout + got.stderr)
            self.assertEqual(list(prefix.rglob("*.cpp")), [])
            source = work / "consumer"
            source.mkdir()
            example = source / "example.cpp"
            example.write_text((ROOT / "docs" / "library_example.cpp").read_text())
            (source / "CMakeLists.txt").write_text(CONSUMER.format(source="example.cpp"))
            got = run("cmake", "-G", "Ninja", "-S", source, "-B", work / "out",
                      f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Release",
                      f"-DCMAKE_CXX_COMPILER={cached('CMAKE_CXX_COMPILER')}")
            self.assertEqual(got.returncode, 0, got.stdout + got.stderr)
            got = run("cmake", "--build", work / "out")
            self.assertEqual(got.returncode, 0, got.stdout + got.stderr)
            self.assertEqual(run(work / "out" / "example").returncode, 2)
            self.answers(work / "out" / "example")
            self.assertEqual(run(prefix / "bin" / "heddle", "--help").returncode, 0)


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=2).result
    if result.wasSuccessful() and result.skipped and not MODEL.is_file():
        sys.exit(77)
    sys.exit(0 if result.wasSuccessful() else 1)
