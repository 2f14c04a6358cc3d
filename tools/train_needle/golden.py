"""Writes the log probabilities that tests/tools/needle_hybrid_test.py holds Heddle to.

The text, about 4000 tokens, is a prompt with eight needles in tests/support/plain_prose.txt, and
its answer. Of 64 of its tokens, 16 of them among the first 500 and the answer's last, the JSON file
has the position, the token and its log probability given all before it, by the reference in f32.
Before it is written, the reference is compared with tests/support/hybrid_oracle.py (f64, from the
formulas) at those positions. A seed is refused if a choice of experts or heads in its text is a tie
but for rounding: that golden would be wrong for other arithmetic.
"""

import argparse
import json
import pathlib
import random
import sys

import torch

import compare_logits
import evaluate
import prompts
import tasks

ROOT = compare_logits.ROOT
LENGTH = 4032
EARLY, LATE, ANSWER = 16, 44, 4  # positions: below 500, after it, of the answer's last tokens
AGREES = 2e-5  # nats between the reference and the oracle: a fifth of what Heddle may differ by
MARGIN = 1e-5  # the least by which the last chosen beats the first not chosen, in router logits


def positions(n: int, seed: int) -> list[int]:
    """64 of the positions from 1 to n - 1: what is predicted there is compared."""
    rng = random.Random(seed)
    early = rng.sample(range(1, 500), EARLY)
    return sorted(early + rng.sample(range(500, n - ANSWER), LATE)) + list(range(n - ANSWER, n))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "configs/models/needle-hybrid")
    parser.add_argument("--seed", type=int, default=4001)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--out", type=pathlib.Path, default=ROOT / "tests/tools/needle_hybrid_golden.json"
    )
    args = parser.parse_args()
    prompts.require("--model", args.model, "tokenizer.model")
    torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision("highest")
    net = evaluate.load(args.model, "cpu")
    tokenizer = prompts.tokenizer_of(args.model)
    sentences = (ROOT / "tests/support/plain_prose.txt").read_text().splitlines()
    hay = tasks.Haystack(sentences, lambda text: len(tokenizer.encode(text)))
    prompt = tasks.make_prompt("multikey8", LENGTH, 30, 0, args.seed, hay, hay)
    text = prompt.text + prompt.answer + "."
    ids = [prompts.BOS, *tokenizer.encode(text)]
    at = positions(len(ids), args.seed)
    got = compare_logits.logits_of(net, ids).double().log_softmax(-1)
    oracle = compare_logits.hybrid_oracle.load(args.model)
    wanted = torch.from_numpy(oracle.logits(ids)).log_softmax(-1)
    differs = max(abs((got - wanted)[i - 1, ids[i]].item()) for i in at)
    margins = ", ".join(f"{kind} {margin:.1e}" for kind, margin in oracle.margins.items())
    print(f"{len(ids)} tokens; from the oracle: {differs:.1e}; its smallest margins: {margins}")
    if not (differs <= AGREES and min(oracle.margins.values()) >= MARGIN):
        sys.exit(f"--seed {args.seed}: allowed: up to {AGREES:.0e}, margins from {MARGIN:.0e}")
    rows = [[i, ids[i], round(got[i - 1, ids[i]].item(), 7)] for i in at]
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    args.out.write_text(
        f'{{\n "made_by": "tools/train_needle/golden.py --seed {args.seed}",\n'
        f' "tokens": {len(ids)},\n "text": {json.dumps(text)},\n'
        f' "position_token_logprob": [\n{lines}\n ]\n}}\n'
    )


if __name__ == "__main__":
    main()
