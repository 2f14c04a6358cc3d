"""The model needle-hybrid, which comes with Heddle: it finds needles. The haystacks are noise, other needles and
tests/support/plain_prose.txt; the prompts are those of tools/train_needle/tasks.py. Its log probabilities are the PyTorch
reference's (needle_hybrid_golden.json, made by tools/train_needle/golden.py). HEDDLE names the executable; exit status 77:
skipped."""
import json
import pathlib
import re
import shutil
import sys
import tempfile
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
GOLDEN = json.loads((pathlib.Path(__file__).parent / "needle_hybrid_golden.json").read_text())
REQUIRED = 59  # right answers of 60
ALLOWED = 1e-4  # nats, from the golden


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

    def off_by(self, model, *flags):
        """The largest difference of a log probability from the golden's, in nats."""
        with tempfile.TemporaryDirectory() as folder:
            text, out = pathlib.Path(folder) / "text.txt", pathlib.Path(folder) / "out.jsonl"
            text.write_text(GOLDEN["text"])
            as_json("score", model, "--file", text, "--logprobs", out, "--ctx", 8192, "--kv-dtype", "f32",
                    "--device", "cpu", *flags)
            lines = [json.loads(line) for line in out.read_text().splitlines()]
        self.assertEqual(len(lines), GOLDEN["tokens"])
        rows = GOLDEN["position_token_logprob"]
        self.assertEqual([lines[at]["token"] for at, _, _ in rows], [token for _, token, _ in rows])
        return max(abs(lines[at]["logprob"] - logprob) for at, _, logprob in rows)

    def changed(self, change):
        """The model in a folder of its own, with `change` made to the mixer of each layer."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        model, ours = pathlib.Path(folder.name), pathlib.Path(good("pull", MODEL).strip())
        for name in ("model.safetensors", "tokenizer.model"):
            shutil.copy(ours / name, model)
        config = json.loads((ours / "config.json").read_text())
        for layer in config["layers"]:
            change(layer["mixers"][0])
        (model / "config.json").write_text(json.dumps(config))
        return model

    def test_its_log_probabilities_are_the_references(self):
        self.assertEqual(len(GOLDEN["position_token_logprob"]), 64)
        self.assertLessEqual(self.off_by(MODEL), ALLOWED)
        self.assertLessEqual(self.off_by(self.changed(lambda mixer: None)), ALLOWED)

    def test_the_golden_sees_what_the_needles_do_not(self):
        def all_heads(mixer):
            if "head_router" in mixer:
                mixer["head_router"]["top_k"] = mixer["heads"] - mixer["head_router"]["shared"]

        def fewer_blocks(mixer):
            if "sparse" in mixer:
                mixer["sparse"]["local"] -= 1

        for change in (lambda mixer: mixer.pop("log_scale", None), all_heads, fewer_blocks):
            self.assertGreater(self.off_by(self.changed(change)), 1000 * ALLOWED)

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
