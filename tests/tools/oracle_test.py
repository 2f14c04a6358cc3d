"""The program's log probabilities against the independent numpy oracle, for every weight type and shape
that tools/make_tiny_model.py writes, and for the default model against stored values."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "tools")]
from default_model import default_model  # noqa: E402
from gguf_types import ENCODERS  # noqa: E402
from llama_oracle import Llama  # noqa: E402

HEDDLE = os.environ.get("HEDDLE", str(ROOT / "build" / "heddle"))
DEFAULT = default_model()
STORED = json.load(open(ROOT / "tests/models/golden/quality/smollm2.json"))
TEXT = "The weaver lifts the heddle, 12 threads rise; the pear by the green river.\n" * 6
REF = ("--force-kernel", "all=ref")
SHAPES = [("--dtype", d) for d in ENCODERS] + [
    ("--untied", "--dtype", "Q4_1"), ("--rope-scaling", "llama3"), ("--pre", "llama-bpe"), ("--pre", "qwen2")]

# Of a token's log probability; logits of types whose rows are of 256 are four times as large. Each is two to three times
# the worst that was measured (2026-11-29): 10-bit activations are above it.
ROWS_OF_256 = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
BOUNDS = {REF: (3e-5, 2e-4), ("--kv-dtype", "f32"): (5e-3, 1.5e-2), (): (5e-2, 1.5e-1)}

# Sanitizer builds run the reference kernels a hundred times slower, and the release tree has this covered.
SLOW_BUILD = "san" in pathlib.Path(os.environ.get("HEDDLE_BUILD", "")).name
NEEDS_DEFAULT = unittest.skipUnless(pathlib.Path(DEFAULT).exists() and not SLOW_BUILD,
                                    "the default model is not there, or this is a sanitizer build")


def run(*args):
    p = subprocess.run([HEDDLE, *map(str, args)], capture_output=True, text=True, timeout=600)
    if p.returncode:
        raise AssertionError(f"{args}: exit {p.returncode}: {p.stderr}")
    return json.loads(p.stdout)


class Oracle(unittest.TestCase):
    def test_tiny_models_of_every_shape(self):
        for flags in SHAPES:
            with self.subTest(flags=flags), tempfile.TemporaryDirectory() as folder:
                subprocess.run([sys.executable, "-B", ROOT / "tools/make_tiny_model.py", "--family", "llama",
                                "--format", "gguf", "--seed", "23", "--out", folder, *flags],
                               check=True, capture_output=True)
                model = next(pathlib.Path(folder).glob("*.gguf"))
                text = pathlib.Path(folder) / "text"
                text.write_text(TEXT)
                ids = run("tokenize", model, "-f", text, "--json")["ids"]
                self.assertGreater(len(ids), 130)  # more than two attention tiles
                want = Llama(model).scores(ids)
                wide = any(flag in ROWS_OF_256 for flag in flags)
                for extra, bounds in BOUNDS.items():
                    run("score", model, "-f", text, "--ctx", 4096, "--json", "--logprobs", text.with_name("out"), *extra)
                    lines = [json.loads(line) for line in text.with_name("out").read_text().splitlines()]
                    got = np.array([line["logprob"] for line in lines[1:]])
                    self.assertEqual([line["token"] for line in lines], ids)
                    worst = np.abs(got - want).max()
                    self.assertLess(worst, bounds[wide], f"{flags} {extra}")
                    print(f"{' '.join(flags)} {' '.join(extra)}: {worst:.1e}", file=sys.stderr)

    @NEEDS_DEFAULT
    def test_default_model_keeps_the_perplexity_of_exact_arithmetic(self):
        """2e-4 relative with the default kernels (whole text), 1e-5 with ref (first window)."""
        licence = (ROOT / STORED["file"]).read_text()[:STORED["chars"]]
        with tempfile.TemporaryDirectory() as folder:
            text = pathlib.Path(folder) / "text"
            text.write_text(licence)
            got = run("score", DEFAULT, "-f", text, "--ctx", STORED["ctx"], "--json")
            self.assertEqual((got["tokens"], got["scored"]), (STORED["tokens"], STORED["scored"]))
            self.assertLess(abs(got["ppl"] / np.exp(STORED["nll"]) - 1), 2e-4)
            text.write_text(STORED["first_window_text"])
            got = run("score", DEFAULT, "-f", text, "--ctx", STORED["ctx"], "--json", *REF)
            self.assertEqual(got["scored"], STORED["first_window_scored"])
            self.assertLess(abs(got["ppl"] / np.exp(STORED["first_window_nll"]) - 1), 1e-5)

    @NEEDS_DEFAULT
    def test_default_model_writes_what_exact_arithmetic_writes(self):
        for case in STORED["answers"]:
            with self.subTest(prompt=case["prompt"]):
                got = run("generate", DEFAULT, "-p", case["prompt"], "-n", len(case["tokens"]), "--temp", 0, "--json")
                self.assertEqual(got["prompt_token_ids"], case["ids"])
                self.assertEqual(got["tokens"], case["tokens"])


def store(model):
    """Writes the stored values: python oracle_test.py store MODEL.gguf (minutes; needs the executable)."""
    oracle = Llama(model)
    licence = (ROOT / "LICENSE").read_text()[:8500]
    out = {"file": "LICENSE", "chars": 8500, "ctx": 512}
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder) / "text"
        text.write_text(licence)
        ids = run("tokenize", model, "-f", text, "--json")["ids"]
        windows = [oracle.scores(ids[i:i + 512]) for i in range(0, len(ids), 512)]
        scores = np.concatenate(windows)
        out.update(tokens=len(ids), scored=len(scores), nll=-scores.mean())
        text.write_text(licence[:1000])
        first = run("tokenize", model, "-f", text, "--json")["ids"]
        assert len(first) <= 512
        scores = oracle.scores(first)
        out.update(first_window_text=licence[:1000], first_window_scored=len(scores), first_window_nll=-scores.mean())
    out["answers"] = []
    for prompt in ("What is the capital of France?", "Name three colours.", "Write one sentence about rivers.",
                   "What is 7 times 8?"):
        # The program proposes; the oracle must find each token the likeliest.
        got = run("generate", model, "-p", prompt, "-n", 24, "--temp", 0, "--json")
        ids, tokens = got["prompt_token_ids"], got["tokens"]
        best = oracle.logits(ids + tokens)[len(ids) - 1:-1].argmax(-1)
        assert list(best) == tokens, prompt
        out["answers"].append({"prompt": prompt, "ids": ids, "tokens": tokens})
    path = ROOT / "tests/models/golden/quality/smollm2.json"
    path.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["store"]:
        store(sys.argv[2])
    elif not pathlib.Path(HEDDLE).exists():
        sys.exit(77)
    else:
        result = unittest.main(exit=False).result
        sys.exit(1 if not result.wasSuccessful() else 77 if result.skipped else 0)
