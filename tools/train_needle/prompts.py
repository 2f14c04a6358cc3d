"""Evaluation prompts by place in a table, as tokens. No PyTorch: Heddle's checks use it too."""

import dataclasses
import functools
import pathlib

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
    names: list[str], length: int, samples: int, seed: int, data: pathlib.Path
) -> list[Cell]:
    """`samples` prompts of each task and depth."""
    return [
        Cell(name, length, depth, sample, seed, data)
        for name in names
        for depth in DEPTHS
        for sample in range(samples)
    ]
