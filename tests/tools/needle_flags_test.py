"""What `heddle needle` refuses before anything is asked: exit code 2 and one line that names the flag, what it got and what is
allowed. HEDDLE names the executable."""
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import Cli  # noqa: E402

MODEL = "needle-hybrid"
FOLDER = None


def setUpModule():
    global FOLDER
    FOLDER = tempfile.TemporaryDirectory()


def tearDownModule():
    FOLDER.cleanup()


def new_folder():
    return tempfile.mkdtemp(dir=FOLDER.name) + "/run"


class WrongInput(Cli):
    def refused(self, *flags, parts=(), out=None):
        out = FOLDER.name + "/" + out if out else new_folder()
        self.assertRefused(["needle", *flags, "--out", out], *parts)
        self.assertFalse(pathlib.Path(out, "results.jsonl").exists(), "nothing is begun")

    def test_values_of_flags(self):
        for flag, value, *parts in (
                ("--suite", "nia", "passkey"), ("--task", "vt", "number, word"), ("--spacing", "even", "sigmoid"),
                ("--lengths", "", "A..B:N"), ("--lengths", "1k,x", "'x'", "64"), ("--lengths", "10", "64"), ("--lengths", "-1k", "64"),
                ("--lengths", "2k..1k:3", "A..B:N"), ("--lengths", "1k..2k", "A..B:N"), ("--lengths", "1k..2k:1", "A..B:N"),
                ("--lengths", "1k..2k:x", "A..B:N"), ("--lengths", "99999999999999999999", "64"), ("--lengths", "1m", "131072"),
                ("--lengths", "64", "number", "64 tokens"), ("--lengths", "1.5k", "64"),
                ("--depths", "", "0,50,100"), ("--depths", "0", "0,50,100"), ("--depths", "-1", "0,50,100"),
                ("--depths", "0,101", "'101'"), ("--depths", "nan,1", "'nan'"), ("--depths", "1001", "1000"), ("--depths", "x", "'x'"),
                ("--samples", "0", "10000"), ("--seed", "-1", "9223372036854775807"), ("--concurrency", "0", "1024"),
                ("--answer-tokens", "0", "1000000"), ("--answer-tokens", "1000", "1000", "1024 tokens"),
                ("--scorer", "judge", "rouge1"), ("--template", "x", "raw"), ("--template", "chat", "no chat template"),
                ("--wording", "x", "plain"), ("--cache", "yes", "off"), ("--attention", "x", "sliding:W"),
                ("--stop", "", "1 to 1024 bytes"), ("--device", "tpu", "cuda"), ("--kv-dtype", "f8", "f16"),
                ("--compare", "dense", "two"), ("--compare", "dense,x", "'x'", "sliding:W"), ("--compare", "dense,dense", "twice"),
                ("--compare", "", "--compare"), ("--compare", "dense,sliding:0", "sliding")):
            with self.subTest(flag=flag, value=value):
                small = [] if flag in ("--lengths", "--depths", "--answer-tokens") else ["--lengths", "1k", "--depths", "1"]
                self.refused(MODEL, flag, value, *small, parts=[flag, *parts])

    def test_flags_that_do_not_go_together(self):
        for flags, parts in (
                (("--needle", "a"), ["--question is missing"]), (("--question", "a", "--answer", "b"), ["--needle is missing"]),
                (("--needle", "a", "--question", "", "--answer", "b"), ["--question is missing"]),
                (("--needle", "a", "--question", "b", "--answer", "c", "--suite", "ruler"), ["--needle", "--suite", "exclude"]),
                (("--needle", "a", "--question", "b", "--answer", "c", "--task", "word"), ["--needle", "--task", "exclude"]),
                (("--compare", "dense,sliding:9", "--attention", "dense"), ["--compare", "--attention", "exclude"]),
                (("--url", "http://127.0.0.1:1"), ["MODEL", "--url", "exclude"]), (("--model", "a"), ["--model", "--url"]),
                (("--timeout", "3"), ["--timeout", "--url"]), (("--tokenizer", "a"), ["--tokenizer", "--url"]),
                (("--api-key-env", "A"), ["--api-key-env", "--url"]), (("extra",), ["extra"])):
            with self.subTest(flags):
                self.refused(MODEL, *flags, parts=parts)
        for flag in ("--self-check", "--compare=dense,sliding:9", "--attention=dense", "--cache=off"):
            with self.subTest(flag):
                self.refused("--url", "http://127.0.0.1:1", *flag.split("="), parts=[flag.split("=")[0], "MODEL"])
        self.refused(parts=["MODEL or --url"])
        self.refused("no-such-model", parts=["no-such-model"])

    def test_haystacks(self):
        empty = pathlib.Path(new_folder())
        empty.mkdir()
        blank, known = empty / "blank", empty / "known.txt"
        blank.write_text(" \n\n ")
        known.write_text("The number is 1234567. " * 9)
        self.refused(MODEL, "--haystack", empty / "no", parts=["--haystack", "/no", "No such file"])
        self.refused(MODEL, "--haystack", blank, parts=["--haystack", "no sentence"])
        known.rename(empty / "known")
        self.refused(MODEL, "--haystack", empty, parts=["--haystack", "*.txt"])
        self.refused(MODEL, "--haystack", empty / "known", "--needle", "The number is 1234567.", "--question", "Which?",
                     "--answer", "1234567", parts=["1234567", "haystack"])
        # What cannot be asked at all is no passed check.
        self.refused(MODEL, "--self-check", "--haystack", empty / "known", "--needle", "The number is 1234567.", "--question", "Which?",
                     "--answer", "1234567", parts=["1234567", "haystack"])

    def test_folders_that_cannot_be_written(self):
        pathlib.Path(FOLDER.name, "file").write_text("as it was")
        for out in ("file", "file/in"):
            self.refused(MODEL, "--lengths", "1k", "--depths", 1, out=out, parts=["--out", out, "directory"])
        self.assertRefused(["needle", MODEL, "--out", ""], "--out")
        self.assertRefused(["needle", MODEL, "--lengths", "1k", "--out", "/proc/no"], "--out", "/proc/no")
        self.assertEqual(pathlib.Path(FOLDER.name, "file").read_text(), "as it was")


if __name__ == "__main__":
    unittest.main()
