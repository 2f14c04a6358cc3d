"""Heddle's log probabilities against those of the reference, all in f32, keys and values too.

The text is a needle prompt and its answer, 4096 tokens or a few more: held-out prose with eight
needles. The command line shows log probabilities (logits less the logarithm of the sum of their
exponentials), not logits, so those are compared:

  scored   of every token of the text, given all before it: one of each row of logits
  best     the 20 largest at each step of a greedy answer that goes on from the text, prefilled in
           one go and decoded token by token

Each with the default kernels and with `--force-kernel all=ref`. All logits of all tokens are
compared between the reference and a third program, in f64 from the formulas:

  all      tests/support/hybrid_oracle.py

Measured is the largest |difference|, divided by the largest |logit| of the reference. A log
probability that is off by d has a row in which a logit is off by d / 2 or more. The exit code is 1
if any is more than --allowed. A choice of experts or heads that is a tie but for rounding may fall
otherwise and be seen as a large difference: the oracle's smallest margins are printed.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import evaluate
import model as reference
import prompts

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "tests/support"))
import hybrid_oracle  # noqa: E402

KERNELS: dict[str, list[str]] = {"default": [], "ref": ["--force-kernel", "all=ref"]}
TOKENS = 4096
STEPS = 64  # of the answer
BEST = 20


@dataclasses.dataclass(frozen=True)
class Heddle:
    """The program, and how it is called."""

    program: pathlib.Path
    model: pathlib.Path
    flags: list[str]

    def run(self, command: str, *args: str) -> dict[str, Any]:
        line = [
            self.program,
            command,
            self.model,
            "--json",
            "--kv-dtype",
            "f32",
            *args,
            *self.flags,
        ]
        return json.loads(
            subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout
        )

    def scores(self, text: pathlib.Path) -> tuple[list[int], list[float]]:
        """Tokens of the text with BOS, and the log probability of each but the first."""
        with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as out:
            self.run("score", "--file", str(text), "--ctx", str(2 * TOKENS), "--logprobs", out.name)
            lines = [json.loads(line) for line in out]
        return [line["token"] for line in lines], [line["logprob"] for line in lines[1:]]

    def best(self, text: pathlib.Path) -> tuple[list[int], list[int], list[dict[int, float]]]:
        """Tokens of the text, tokens written, and the best of each step with log probabilities."""
        x = self.run(
            "generate", "--file", str(text), "--raw", "--temp", "0", "--ignore-eos",
            "--max-tokens", str(STEPS), "--logprobs", str(BEST),
        )  # fmt: skip
        steps = [{top["token"]: top["logprob"] for top in step["top"]} for step in x["logprobs"]]
        return x["prompt_token_ids"], x["tokens"], steps


@torch.no_grad()
def logits_of(net: reference.Model, ids: Sequence[int]) -> Tensor:
    """Logits [tokens, vocabulary] after each token."""
    padded = torch.zeros(1, -(-len(ids) // 256) * 256, dtype=torch.long)
    padded[0, : len(ids)] = torch.tensor(ids)
    hidden, _ = net(padded.to(net.embedding.device), torch.float32)
    return net.logits(hidden[: len(ids)]).cpu()


def show(name: str, differences: Tensor, largest: float) -> float:
    """A line of numbers; the one that counts is returned."""
    share = (differences.abs() / largest).flatten()
    print(f"  {name:7} {len(share):9} values: largest {share.max().item():.1e}", end="")
    print(f", mean {share.mean().item():.1e} of the largest |logit|", flush=True)
    return share.max().item()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--model", type=pathlib.Path, required=True, help="a folder in Heddle's format"
    )
    parser.add_argument("--data", type=pathlib.Path, required=True, help="prepare.py's --out")
    parser.add_argument("--heddle", type=pathlib.Path, default=ROOT / "build/heddle")
    parser.add_argument("--seed", type=int, default=2000)
    parser.add_argument("--allowed", type=float, default=1e-4)
    parser.add_argument("--device", default="cpu", help="of the reference")
    args = parser.parse_args()
    prompts.require("--data", args.data, "tokenizer.model", "held_out.txt")
    if not args.heddle.is_file():
        sys.exit(f"--heddle: {args.heddle}: got no file, allowed: the executable")
    torch.set_float32_matmul_precision("highest")
    net = evaluate.load(args.model, args.device)
    cell = prompts.Cell("multikey8", TOKENS + 32, 50, 0, args.seed, args.data)
    example = prompts.example_of(cell)
    shares: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder) / "text.txt"
        text.write_text(example.prompt_text + example.answer_text)
        for kernels, flags in KERNELS.items():
            start = time.time()
            heddle = Heddle(args.heddle, args.model, flags)
            ids, scores = heddle.scores(text)
            again, written, steps = heddle.best(text)
            seconds = time.time() - start
            if ids != again or len(ids) < TOKENS or len(written) != STEPS:
                sys.exit(f"{len(ids)} and {len(again)} tokens of text, {len(written)} written")
            logits = logits_of(net, ids + written)
            largest = logits.abs().max().item()
            log_p = logits.double().log_softmax(-1)
            print(f"{kernels} kernels: {len(ids)} tokens, {seconds:.1f} s,", end=" ")
            print(f"largest |logit| {largest:.2f}")
            at = torch.arange(len(ids) - 1)
            scored = torch.tensor(scores, dtype=torch.float64) - log_p[at, torch.tensor(ids[1:])]
            best = [
                log_probability - log_p[len(ids) - 1 + i, token].item()
                for i, step in enumerate(steps)
                for token, log_probability in step.items()
            ]
            shares.append(show("scored", scored, largest))
            shares.append(show("best", torch.tensor(best, dtype=torch.float64), largest))
    start = time.time()
    oracle = hybrid_oracle.load(args.model)
    wanted = torch.from_numpy(oracle.logits(ids))
    margins = ", ".join(f"{kind} {margin:.1e}" for kind, margin in oracle.margins.items())
    print(f"oracle: {len(ids)} tokens, {time.time() - start:.1f} s, smallest margins: {margins}")
    shares.append(show("all", logits[: len(ids)] - wanted, wanted.abs().max().item()))
    print(f"largest {max(shares):.1e}, allowed {args.allowed:.0e}")
    sys.exit(not all(share <= args.allowed for share in shares))  # NaN is not


if __name__ == "__main__":
    main()
