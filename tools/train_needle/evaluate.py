"""Scores the reference: right answers by task, length and depth.

An answer is right if greedy decoding writes it whole with the full stop behind it. That needs no
decoding: the answer is given and every token of it must be the most likely one.
"""

import argparse
import dataclasses
import json
import multiprocessing
import pathlib
import time
from collections.abc import Iterable, Iterator

import safetensors.torch
import torch

import model as reference
import tasks
from prompts import Cell, Example, example_of, groups_of, require


def batches(examples: Iterable[Example], tokens: int) -> Iterator[list[Example]]:
    """Neighbours of one padded length, at most `tokens` of them."""
    batch: list[Example] = []
    for example in examples:
        size = padded(example)
        if batch and (padded(batch[0]) != size or (len(batch) + 1) * size > tokens):
            yield batch
            batch = []
        batch.append(example)
    if batch:
        yield batch


def padded(example: Example) -> int:
    return -(-(len(example.prompt) + len(example.answer)) // 256) * 256


@torch.no_grad()
def predicted(
    net: reference.Model,
    batch: list[Example],
    dtype: torch.dtype,
    ablation: reference.Ablation = reference.Ablation(),
) -> list[list[int]]:
    """The most likely token at each place of the answer, all before it being as expected."""
    device = net.embedding.device
    ids = torch.zeros(len(batch), max(map(padded, batch)), dtype=torch.long)
    rows = []
    for i, example in enumerate(batch):
        sequence = example.prompt + example.answer
        ids[i, : len(sequence)] = torch.tensor(sequence)
        first = i * ids.shape[1] + len(example.prompt) - 1
        rows += range(first, first + len(example.answer))
    hidden, _ = net(ids.to(device), dtype, ablation)
    best = net.logits(hidden[torch.tensor(rows, device=device)].float()).argmax(-1).tolist()
    out = []
    for example in batch:
        out.append(best[: len(example.answer)])
        best = best[len(example.answer) :]
    return out


def greedy(net: reference.Model, batch: list[Example], dtype: torch.dtype) -> list[list[int]]:
    """What greedy decoding writes, as many tokens as the expected answer has. That answer is
    tried; where a token differs, that token is kept and the rest tried again."""
    done: list[list[int]] = [[] for _ in batch]
    pending = list(enumerate(batch))
    while pending:
        again = []
        for (i, example), got in zip(pending, predicted(net, [e for _, e in pending], dtype)):
            tried = example.answer
            same = 0
            while same < len(got) - 1 and got[same] == tried[same]:
                same += 1
            if same == len(got) - 1:
                done[i] = got
            else:
                written = got[: same + 1] + tried[same + 1 :]
                again.append((i, dataclasses.replace(example, answer=written)))
        pending = again
    return done


def score(
    net: reference.Model,
    cells: list[Cell],
    dtype: torch.dtype,
    tokens: int,
    ablation: reference.Ablation = reference.Ablation(),
    pool: "multiprocessing.pool.Pool | None" = None,
) -> dict[str, dict[int, dict[int, list[int]]]]:
    """[right, all] by task, length and depth. `tokens`: of a batch."""
    table: dict[str, dict[int, dict[int, list[int]]]] = {}
    examples = pool.imap(example_of, cells, 4) if pool else map(example_of, cells)
    for batch in batches(examples, tokens):
        for example, got in zip(batch, predicted(net, batch, dtype, ablation)):
            cell = example.cell
            count = table.setdefault(cell.task, {}).setdefault(cell.length, {})
            pair = count.setdefault(cell.depth, [0, 0])
            pair[0] += got == example.answer
            pair[1] += 1
    return table


def percent(table: dict[int, list[int]]) -> float:
    """Of all depths."""
    return 100 * sum(right for right, _ in table.values()) / sum(n for _, n in table.values())


def show(table: dict[str, dict[int, dict[int, list[int]]]], title: str) -> None:
    for task, lengths in table.items():
        print(
            title,
            f"{task:14}",
            *(f"{n // 1024}k {percent(t):5.1f} " for n, t in lengths.items()),
            flush=True,
        )


def load(folder: pathlib.Path, device: str) -> reference.Model:
    """A model that train.py wrote. Ends the program if there is none."""
    require("--model", folder, "config.json", "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    net = reference.Model(reference.Shape.of_config(config))
    net.load(safetensors.torch.load_file(folder / "model.safetensors"))
    return net.to(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="train.py's --out")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="prepare.py's --out")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="a JSON file")
    parser.add_argument("--tasks", default=",".join(tasks.TASKS))
    parser.add_argument("--lengths", default="1,2,4,8,16,32,64,128", help="in 1024 tokens")
    parser.add_argument("--samples", default="16", help="of each depth, by length; or one number")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1e9, help="no new cell after so many")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--f32", action="store_true", help="activations, keys and values in f32")
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--softmax-window", type=int, default=0)
    parser.add_argument("--all-heads", action="store_true")
    parser.add_argument("--power-off", action="store_true")
    parser.add_argument("--log-scale-off", action="store_true")
    args = parser.parse_args()
    start = time.time()
    groups = groups_of(args.tasks, args.lengths, args.samples, args.seed, args.data)
    ablation = reference.Ablation(
        args.softmax_window, args.all_heads, args.power_off, args.log_scale_off
    )
    net = load(args.model, args.device)
    dtype = torch.float32 if args.f32 else torch.bfloat16
    total: dict[str, dict[int, dict[int, list[int]]]] = {}
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for cells in groups:
            if time.time() - start > args.seconds:
                break
            table = score(net, cells, dtype, 262144, ablation, pool)
            show(table, f"{time.time() - start:6.1f} s {args.model.name}")
            for task, lengths in table.items():
                total.setdefault(task, {}).update(lengths)
            args.out.write_text(json.dumps(total))


if __name__ == "__main__":
    main()
