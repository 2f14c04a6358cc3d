"""Evaluation prompts by place in a table, as tokens. No PyTorch: Heddle's checks use it too."""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Sequence

import sentencepiece

import prepare
import tasks

BOS = 1
DEPTHS = tuple(range(0, 101, 10))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One prompt's place in a table. `data`: prepare.py's --out."""

    task: str
    length: int
    depth: int
    sample: int
    seed: int
    data: pathlib.Path

    @property
    def key(self) -> str:
        return f"{self.task}/{self.length}/{self.depth}/{self.sample}"


@dataclasses.dataclass(frozen=True)
class Example:
    """A prompt's tokens with BOS, and the expected answer's with the full stop; their texts, the
    answer's with the space before it."""

    cell: Cell
    prompt: list[int]
    answer: list[int]
    prompt_text: str
    answer_text: str


@functools.cache
def tokenizer_of(data: pathlib.Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(data / "tokenizer.model"))


@functools.cache
def haystacks_of(data: pathlib.Path) -> tuple[tasks.Haystack, tasks.Haystack]:
    """Held-out prose, and noise."""
    tokenizer = tokenizer_of(data)
    count = lambda text: len(tokenizer.encode(text))  # noqa: E731
    prose = prepare.sentences_of((data / "held_out.txt").read_text())
    return tasks.Haystack(prose, count), tasks.Haystack(tasks.NOISE, count)


def example_of(cell: Cell) -> Example:
    """Throws ValueError if the length is too small for the task."""
    tokenizer = tokenizer_of(cell.data)
    place = (cell.task, cell.length, cell.depth, cell.sample, cell.seed)
    prompt = tasks.make_prompt(*place, *haystacks_of(cell.data))
    answer = prompt.answer + "."
    return Example(
        cell, [BOS, *tokenizer.encode(prompt.text)], tokenizer.encode(answer), prompt.text, answer
    )


def table_of(
    names: Sequence[str], length: int, samples: int, seed: int, data: pathlib.Path
) -> list[Cell]:
    """`samples` prompts of each task and depth."""
    return [
        Cell(name, length, depth, sample, seed, data)
        for name in names
        for depth in DEPTHS
        for sample in range(samples)
    ]


def require(flag: str, folder: pathlib.Path, *names: str) -> None:
    """Ends the program with a line if `folder` lacks a file."""
    for name in names:
        if not (folder / name).is_file():
            sys.exit(f"{flag}: {folder}: got no {name}, allowed: a folder that has it")


def numbers(text: str, n: int, flag: str) -> list[int]:
    """`n` numbers from 1 with commas between them; one stands for all. Else ends the program."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) == 1:
        values *= n
    if len(values) != n or min(values) < 1:
        sys.exit(f"{flag}: got {text!r}, allowed: a number from 1, or {n} with commas between them")
    return values


def groups_of(
    names: str, lengths: str, samples: str, seed: int, data: pathlib.Path
) -> list[list[Cell]]:
    """The cells of each length and task, the shortest first; of `names`, `lengths` (in 1024 tokens)
    and `samples` as they stand in flags. Names what is longer than a task can be, and leaves it
    out. Ends the program with a line about flags that cannot be."""
    wanted = names.split(",")
    if unknown := sorted(set(wanted) - set(tasks.TASKS)):
        sys.exit(f"--tasks: no {', '.join(unknown)} among {', '.join(tasks.TASKS)}")
    require("--data", data, "tokenizer.model", "held_out.txt")
    tokens = [1024 * n for n in numbers(lengths, lengths.count(",") + 1, "--lengths")]
    groups = []
    for length, n in zip(tokens, numbers(samples, len(tokens), "--samples")):
        for name in wanted:
            if length <= tasks.TASKS[name].longest:
                groups.append(table_of([name], length, n, seed, data))
            else:
                most = tasks.TASKS[name].longest // 1024
                print(f"left out: {name} {length // 1024}k, its keys last to {most}k", flush=True)
    return groups
