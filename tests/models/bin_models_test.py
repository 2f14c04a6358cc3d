"""PyTorch's .bin files: the same seed gives the same model in them and in safetensors, and code in them never runs.
HEDDLE names the executable."""
import contextlib
import io
import json
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import unittest
import zipfile
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import make_tiny_model  # noqa: E402

HEDDLE = os.environ.get("HEDDLE", str(ROOT / "build" / "heddle"))
TEXT = "the weaver counts: one, two, three. " * 20


def make(folder, *flags):
    argv = ["make_tiny_model.py", "--family", "transnormer", "--format", "safetensors", "--seed", "5", "--out", str(folder)]
    with mock.patch.object(sys, "argv", [*argv, *flags]), contextlib.redirect_stdout(io.StringIO()):
        make_tiny_model.main()
    return {p.name for p in pathlib.Path(folder).iterdir()}


def heddle(*args):
    return subprocess.run([HEDDLE, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)


def nll(model):
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder) / "text.txt"
        text.write_text(TEXT)
        run = heddle("score", model, "-f", text, "--ctx", 100, "--json")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)["nll"]


class Code:
    """Pickles to a call of os.system."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class BinModels(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_the_same_seed_scores_the_same_in_every_form(self):
        for dtype in ("F32", "BF16", "F16"):
            make(self.folder / dtype, "--dtype", dtype)
            files = make(self.folder / f"{dtype}-bin", "--dtype", dtype, "--weights", "bin")
            self.assertIn("pytorch_model.bin", files)
            self.assertEqual(nll(self.folder / dtype), nll(self.folder / f"{dtype}-bin"))
        files = make(self.folder / "shards", "--weights", "bin", "--shards", "3")
        self.assertLess({"pytorch_model.bin.index.json", "pytorch_model-00003-of-00003.bin"}, files)
        self.assertEqual(nll(self.folder / "shards"), nll(self.folder / "F32"))
        self.assertEqual(nll(self.folder / "F32-bin/pytorch_model.bin"), nll(self.folder / "F32"))

    def test_the_same_arguments_give_the_same_bytes(self):
        for name in ("a", "b"):
            make(self.folder / name, "--weights", "bin")
        self.assertEqual(*((self.folder / name / "pytorch_model.bin").read_bytes() for name in ("a", "b")))

    def test_code_in_a_file_is_refused_by_name_and_never_runs(self):
        make(self.folder, "--weights", "bin")
        proof = self.folder / "it ran"
        with zipfile.ZipFile(self.folder / "pytorch_model.bin", "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"w": Code(f"touch '{proof}'")}, protocol=2))
        run = heddle("inspect", self.folder)
        self.assertEqual(run.returncode, 2)
        self.assertIn(f"pytorch_model.bin: pickle: GLOBAL at byte 13, got '{os.name}.system' (never run: a pickle can "
                      "hold code), allowed collections.OrderedDict, ", run.stderr)
        self.assertFalse(proof.exists())


if __name__ == "__main__":
    unittest.main()
