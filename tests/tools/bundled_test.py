"""Models that come with Heddle: found by name from any directory, in a build tree and in an installed prefix that is
moved. A tiny model stands in for the trained one, laid out by the CMake that lays out the real one. HEDDLE names the
executable, HEDDLE_BUILD its build tree; exit status 77: skipped."""
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import HEDDLE, TIMEOUT, environment  # noqa: E402

try:
    import numpy  # noqa: F401  make_tiny_model.py needs it
    import sentencepiece
except ImportError:
    print("skipped: numpy and sentencepiece are not there")
    sys.exit(77)

BUILD = pathlib.Path(os.environ.get("HEDDLE_BUILD", ROOT / "build"))
MODELS = ROOT / "configs/models"
NAME = "needle-hybrid"
FILES = next(m["files"] for m in json.loads((MODELS / "registry.json").read_text())["models"] if m["name"] == NAME)
SHARE = pathlib.Path("share/heddle/models") / NAME
PROJECT = """\
cmake_minimum_required(VERSION 3.25)
project(stand_in LANGUAGES NONE)
set(CMAKE_INSTALL_LIBDIR lib)
include(GNUInstallDirs)
include({root}/cmake/bundled.cmake)
heddle_bundled_models(${{PROJECT_SOURCE_DIR}}/models)
install(PROGRAMS {heddle} DESTINATION ${{CMAKE_INSTALL_BINDIR}})
"""


def make_model(folder):
    """Its vocabulary has 379 tokens, enough for the 256 bytes and some pieces."""
    subprocess.run([sys.executable, "-B", ROOT / "tools/make_tiny_model.py", "--family", "heddle", "--format",
                    "safetensors", "--seed", "17", "--out", folder], check=True, capture_output=True)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    tokenizer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(f"the needle number {i} is in the haystack of line {i * i}" for i in range(200)),
        model_writer=tokenizer, model_type="bpe", vocab_size=330, byte_fallback=True, minloglevel=2)
    (folder / "tokenizer.model").write_bytes(tokenizer.getvalue())
    (folder / "README.md").write_text("# A stand-in\n")


def cmake(*args):
    p = subprocess.run(["cmake", *map(str, args)], capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr


class Bundled(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name).resolve()
        cls.made = cls.folder / "made"
        make_model(cls.made / "models" / NAME)
        shutil.copy(MODELS / "registry.json", cls.made / "models")
        (cls.made / "CMakeLists.txt").write_text(PROJECT.format(root=ROOT, heddle=HEDDLE))
        shutil.copy(HEDDLE, cls.folder / "heddle")

    def setUp(self):
        self.work = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        self.cwd = self.work / "elsewhere"
        self.cwd.mkdir()
        self.source = self.work / "source"
        self.tree = self.source / "build"
        shutil.copytree(self.made, self.source, copy_function=os.link)
        cmake("-G", "Ninja", "-S", self.source, "-B", self.tree)
        os.link(self.folder / "heddle", self.tree / "heddle")

    def run_in(self, program, *args, env=None):
        """(exit code, stdout, stderr) in a directory that has nothing to do with it, with nothing to fetch from."""
        p = subprocess.run([program, *map(str, args)], cwd=self.cwd, capture_output=True, text=True, timeout=TIMEOUT,
                           env=environment(HEDDLE_HOME="/no/such/home", PATH="/no/such/path", **(env or {})))
        return p.returncode, p.stdout, p.stderr

    def as_json(self, *args, **kw):
        rc, out, err = self.run_in(*args, "--json", **kw)
        self.assertEqual((rc, err), (0, ""), err)
        return json.loads(out)

    def answer(self, program, model=NAME, **kw):
        x = self.as_json(program, "generate", model, "-p", "the needle", "-n", 6, "--temp", 0, "--ignore-eos", "-t", 1, **kw)
        self.assertEqual(x["model"], str(model))
        return x["tokens"]

    def assertRefused(self, program, *parts, command=("generate", NAME, "-p", "x"), **kw):
        rc, out, err = self.run_in(program, *command, **kw)
        self.assertEqual((rc, out, err.count("\n")), (2, "", 1), err)
        for part in parts:
            self.assertIn(part, err)

    def install(self, build):
        """The prefix, moved after the installation."""
        cmake("--install", build, "--prefix", self.work / "first")
        (self.work / "first").rename(self.work / "prefix")
        return self.work / "prefix"

    def test_a_build_tree_uses_the_sources(self):
        x = self.as_json(self.tree / "heddle", "pull", NAME)
        self.assertEqual(x, {"name": NAME, "path": str(self.source / "models" / NAME), "fetched": False, "bundled": True})
        self.assertEqual(len(self.answer(self.tree / "heddle")), 6)

    def test_an_installed_prefix_needs_neither_sources_nor_build_tree(self):
        want = self.answer(self.tree / "heddle")
        prefix = self.install(self.tree)
        shutil.rmtree(self.source)
        self.assertEqual(sorted(p.name for p in (prefix / SHARE).iterdir()),
                         sorted([*FILES, "README.md", "generation_config.json"]))
        self.assertEqual([p.name for p in (prefix / SHARE.parent).iterdir()], [NAME], "registry.json is compiled in")
        self.assertEqual(self.answer(prefix / "bin/heddle"), want)
        self.assertEqual(self.as_json(prefix / "bin/heddle", "pull", NAME)["path"], str(prefix / SHARE))
        link = self.cwd / "a-link"
        link.symlink_to(prefix / "bin/heddle")
        self.assertEqual(self.answer(link), want)

    def test_pull_says_where_it_is(self):
        path = f"{self.source / 'models' / NAME}\n"
        self.assertEqual(self.run_in(self.tree / "heddle", "pull", NAME), (0, path, ""))
        self.assertEqual(self.run_in(self.tree / "heddle", "pull", NAME, "-v"),
                         (0, path, "bundled with Heddle, nothing to fetch\n"))

    def test_an_installed_program_does_not_look_into_its_sources(self):
        prefix = self.install(self.tree)
        shutil.rmtree(prefix / SHARE)
        for command in (("generate", NAME, "-p", "x"), ("pull", NAME), ("inspect", NAME)):
            self.assertRefused(prefix / "bin/heddle", f"error: {NAME} comes with Heddle, got no complete folder of it in ",
                               f"{prefix / 'bin' / SHARE} (no such folder), {prefix / SHARE} (no such folder), allowed ",
                               "HEDDLE_DATA", command=command)

    def test_what_a_folder_lacks_is_told(self):
        prefix = self.install(self.tree)
        for file in ("model.safetensors", "tokenizer.model"):
            (prefix / SHARE / file).unlink()
        self.assertRefused(prefix / "bin/heddle", f"{prefix / SHARE} (without model.safetensors, tokenizer.model)")

    def test_the_variable_is_the_only_place(self):
        want = self.answer(self.tree / "heddle")
        prefix = self.install(self.tree)
        data = self.work / "data"
        (data / "models").mkdir(parents=True)
        shutil.move(prefix / SHARE, data / "models")
        self.assertEqual(self.answer(prefix / "bin/heddle", env={"HEDDLE_DATA": str(data)}), want)
        self.assertEqual(self.answer(self.tree / "heddle", env={"HEDDLE_DATA": ""}), want)
        self.assertRefused(self.tree / "heddle", "of it in /no/such/models/needle-hybrid (no such folder), allowed",
                           env={"HEDDLE_DATA": "/no/such"})

    def test_a_folder_of_that_name_is_not_the_name(self):
        (self.cwd / NAME).mkdir()
        program = self.tree / "heddle"
        self.assertEqual(self.as_json(program, "inspect", NAME)["model"], NAME)
        self.assertRefused(program, f"./{NAME}", command=("inspect", f"./{NAME}"))
        shutil.rmtree(self.cwd / NAME)
        shutil.copytree(self.source / "models" / NAME, self.cwd / NAME)
        self.assertEqual(self.answer(program, f"./{NAME}"), self.answer(program))

    def test_this_tree_and_what_it_installs(self):
        """The real files, once they are there; till then what is said of them."""
        prefix = self.install(BUILD)
        programs = {BUILD / "heddle": MODELS / NAME, prefix / "bin/heddle": prefix / SHARE}
        self.assertEqual((BUILD / "share/heddle/models").resolve(), MODELS)
        self.assertEqual((prefix / SHARE).is_dir(), (MODELS / NAME).is_dir())
        for program, folder in programs.items():
            with self.subTest(program):
                if (MODELS / NAME).is_dir():
                    self.assertLessEqual({*FILES, "README.md"}, {p.name for p in folder.iterdir()})
                    self.assertEqual(self.as_json(program, "pull", NAME)["path"], str(folder))
                    self.assertEqual(len(self.answer(program)), 6)
                else:
                    self.assertRefused(program, f"{SHARE} (no such folder)")


if __name__ == "__main__":
    if not pathlib.Path(HEDDLE).exists():
        sys.exit(f"there is no executable {HEDDLE}")
    unittest.main()
