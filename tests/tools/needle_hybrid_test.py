"""The model needle-hybrid, which comes with Heddle: it finds needles. The haystacks are noise, other needles and
tests/support/plain_prose.txt; the prompts are those of tools/train_needle/tasks.py. HEDDLE names the executable; exit
status 77: skipped."""
import json
import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "tools/train_needle")]
from command_line import HEDDLE, as_json, good  # noqa: E402
import tasks  # noqa: E402

try:
    import sentencepiece
except ImportError:
    print("skipped: sentencepiece is not there")
    sys.exit(77)

MODEL = "needle-hybrid"
PROSE = ROOT / "tests/support/plain_prose.txt"
LENGTHS = (1024, 2048, 4096)
SHORT = ("values4", "dense_uuid")  # up to 2048 tokens: what is hardest
EACH = 6  # prompts of a task
SEED = 3000
REQUIRED = 59  # right answers of 60


def prompts(count):
    """Of every task one at each of EACH depths, with and without its preamble; `count`: tokens of a text."""
    prose = tasks.Haystack(PROSE.read_text().splitlines(), count)
    noise = tasks.Haystack(tasks.NOISE, count)
    for name in tasks.TASKS:
        lengths = LENGTHS[:2] if name in SHORT else LENGTHS
        for i in range(EACH):
            yield tasks.make_prompt(name, lengths[i % len(lengths)], 100 * i // (EACH - 1), i, SEED, prose, noise)


class NeedleHybrid(unittest.TestCase):
    def test_it_finds_the_needles(self):
        folder = pathlib.Path(good("pull", MODEL).strip())
        tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        count = lambda text: len(tokenizer.encode(text))  # noqa: E731
        asked = list(prompts(count))
        self.assertEqual(len(asked), 60)
        lines = "\n".join(json.dumps({"prompt": p.text, "max_tokens": count(p.answer + ".")}) for p in asked)
        out = good("generate", MODEL, "--prompts", "-", "--raw", "--json", "--temp", 0, "--ignore-eos",
                   stdin=lines.encode())
        wrong = []
        for p, line in zip(asked, map(json.loads, out.splitlines()), strict=True):
            self.assertTrue(0.9 * p.length < line["prompt_tokens"] <= p.length, "prompts have the length that is said")
            if line["text"] != p.answer + ".":
                wrong.append(f"{p.task}, {p.length} tokens, depth {p.depth}: {line['text']!r}, not {p.answer + '.'!r}")
        self.assertGreaterEqual(len(asked) - len(wrong), REQUIRED, "\n" + "\n".join(wrong))

    def test_no_key_of_a_haystack_of_needles_comes_twice(self):
        words = lambda text: len(text.split()) * 3  # noqa: E731
        hay = tasks.Haystack(tasks.NOISE, words)
        for task in ("dense_number", "dense_uuid"):
            for sample in range(4):
                prompt = tasks.make_prompt(task, 32768, 50, sample, SEED, hay, hay)
                keys = re.findall(r"One of the special magic \w+ for (\S+) is:", prompt.text)
                self.assertGreater(len(keys), 500)
                self.assertEqual(len(keys), len(set(keys)))

    def test_its_results_do_not_depend_on_how_they_are_made(self):
        x = as_json("selftest", MODEL)
        self.assertEqual([row["name"] for row in x["rows"] if not row["ok"]], [])
        self.assertTrue(x["ok"])
        self.assertGreaterEqual(len(x["rows"]), 12)

    def test_it_has_three_kinds_of_layers_and_is_small(self):
        x = as_json("inspect", MODEL)
        self.assertEqual(set(x["layer_map"]), set("LPH"))
        shown = good("inspect", MODEL)
        for kind in ("linear (lightning) attention", "softmax attention, mixture of heads", "PowerAttention"):
            self.assertIn(kind, shown)
        for layer in x["layers"]:
            self.assertIn(" experts", layer["ffn"])
        self.assertLessEqual(x["file_bytes"], 16 * 1024 * 1024)


if __name__ == "__main__":
    if not pathlib.Path(HEDDLE).exists():
        sys.exit(f"there is no executable {HEDDLE}")
    unittest.main()
