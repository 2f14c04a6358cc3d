"""Puts the needle prompts of evaluate.py to Heddle on the CPU and compares what it writes.

Greedy; an answer is right if it is the expected text with the full stop behind it. With
--reference, tokens are compared with those that reference_answers.py wrote. The exit code is 1 if a
required score is missed, an answer is not the reference's, or the reference has none for a prompt.
Needs sentencepiece and numpy, no PyTorch.
"""

import argparse
import dataclasses
import functools
import json
import multiprocessing.pool
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import prompts
import tasks

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Percent, and the longest prompts that it is required of.
REQUIRED: dict[str, tuple[float, float]] = {
    "passkey": (99, float("inf")),
    "number": (99, float("inf")),
    "word": (99, float("inf")),
    "uuid": (99, float("inf")),
    "multikey8": (99, float("inf")),
    "san_francisco": (95, float("inf")),
    "queries4": (95, 8192),
    "values4": (85, 8192),
    "dense_uuid": (90, 8192),
}


@dataclasses.dataclass(frozen=True)
class Answer:
    example: prompts.Example
    text: str
    tokens: list[int]

    @property
    def right(self) -> bool:
        return self.text == self.example.answer_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which prompts: the same for Heddle and for the reference."""
    parser.add_argument("--data", type=pathlib.Path, required=True, help="prepare.py's --out")
    parser.add_argument("--tasks", default=",".join(tasks.TASKS))
    parser.add_argument("--lengths", default="1,2,4,8,16", help="in 1024 tokens")
    parser.add_argument(
        "--samples", default="4,4,4,2,1", help="of each depth, by length; or one number"
    )
    parser.add_argument("--seed", type=int, default=2000)


def groups_of(args: argparse.Namespace) -> list[list[prompts.Cell]]:
    """The cells of each length and task, the shortest first."""
    return prompts.groups_of(args.tasks, args.lengths, args.samples, args.seed, args.data)


def ask(heddle: pathlib.Path, model: str, threads: int, cells: list[prompts.Cell]) -> list[Answer]:
    """One process for all `cells`. Throws ValueError if Heddle reads other tokens."""
    examples = [prompts.example_of(cell) for cell in cells]
    lines = [{"prompt": e.prompt_text, "max_tokens": len(e.answer)} for e in examples]
    command = [heddle, "generate", model, "--prompts", "-", "--raw", "--json", "--temp", "0"]
    command += ["--ignore-eos", "--parallel", "4", "--threads", str(threads)]
    got = subprocess.run(
        command,
        input="\n".join(map(json.dumps, lines)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answers = []
    for example, line in zip(examples, got.stdout.splitlines(), strict=True):
        x: dict[str, Any] = json.loads(line)
        if x["prompt_token_ids"] != example.prompt:
            raise ValueError(f"{example.cell.key}: Heddle reads other tokens than sentencepiece")
        answers.append(Answer(example, x["text"], x["tokens"]))
    return answers


def show_table(table: dict[str, dict[int, float]], lengths: list[int]) -> None:
    """Percent by task and length; * where less than required."""
    print(f"{'':14}" + "".join(f"{n // 1024:7}k" for n in lengths))
    for task, row in table.items():
        marks = (f"{row[n]:7.1f}" + (" *"[missed(task, n, row[n])]) for n in lengths)
        print(f"{task:14}" + "".join(marks))


def missed(task: str, length: int, percent: float) -> bool:
    least, longest = REQUIRED.get(task, (0.0, 0.0))
    return length <= longest and percent < least


def compare(answers: list[Answer], reference: dict[str, Any], seed: int) -> tuple[int, int]:
    """Lists the answers that are not the reference's or that it does not have; how many are equal,
    and of how many."""
    if reference["seed"] != seed:
        sys.exit(f"--reference: has the prompts of seed {reference['seed']}, not {seed}")
    theirs: dict[str, list[int]] = reference["tokens"]
    differ = [a for a in answers if a.tokens != theirs.get(a.example.cell.key)]
    same = len(answers) - len(differ)
    print(f"{same} of {len(answers)} answers are the reference's, token for token")
    for answer in differ:
        key = answer.example.cell.key
        none = "" if key in theirs else "; the reference has none"
        print(f"  {key}: {answer.text!r}, expected {answer.example.answer_text!r}{none}")
    return same, len(answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heddle", type=pathlib.Path, default=ROOT / "build/heddle")
    parser.add_argument("--model", default="needle-hybrid", help="a name or a folder")
    add_arguments(parser)
    parser.add_argument("--reference", type=pathlib.Path, help="reference_answers.py's --out")
    parser.add_argument("--out", type=pathlib.Path, help="a JSON file of what is printed")
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at once"
    )
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    args = parser.parse_args()
    if not args.heddle.is_file():
        sys.exit(f"--heddle: {args.heddle}: got no file, allowed: the executable")
    start = time.time()
    groups = groups_of(args)
    run = functools.partial(ask, args.heddle, args.model, args.threads)
    answers: list[Answer] = []
    table: dict[str, dict[int, float]] = {group[0].task: {} for group in groups}
    with multiprocessing.pool.ThreadPool(args.jobs) as pool:
        for group in pool.imap_unordered(run, reversed(groups)):  # the longest first
            right = sum(answer.right for answer in group)
            cell, percent = group[0].example.cell, 100 * right / len(group)
            table[cell.task][cell.length] = percent
            name = f"{cell.task:14} {cell.length // 1024:3}k"
            print(f"{time.time() - start:7.1f} s {name} {right:3} of {len(group):3}", flush=True)
            answers += group
    show_table(table, sorted({group[0].length for group in groups}))
    same = None
    if args.reference:
        same = compare(answers, json.loads(args.reference.read_text()), args.seed)
    if args.out:
        tokens = {a.example.cell.key: a.tokens for a in answers}
        result = {"seed": args.seed, "tokens": tokens, "percent": table, "same": same}
        args.out.write_text(json.dumps(result))
    bad = [
        f"{task} {length // 1024}k"
        for task, row in table.items()
        for length, percent in sorted(row.items())
        if missed(task, length, percent)
    ]
    verdict = "missed: " + ", ".join(bad) if bad else "no required score is missed"
    unequal = same is not None and same[0] < same[1]
    if unequal:
        verdict += "; answers are not the reference's"
    print(f"{len(answers)} prompts, {time.time() - start:.0f} s; {verdict}")
    sys.exit(1 if bad or unequal else 0)


if __name__ == "__main__":
    main()
