"""Greedy answers of the reference in f32 to the prompts of check_heddle.py, as a JSON file:
{"seed": ..., "tokens": {"task/length/depth/sample": [ids]}}."""

import argparse
import json
import multiprocessing
import pathlib
import time

import torch

import check_heddle
import evaluate
import prompts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", type=pathlib.Path, required=True, help="a folder in Heddle's format"
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the JSON file")
    check_heddle.add_arguments(parser)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--workers", type=int, default=12, help="processes that make prompts")
    args = parser.parse_args()
    torch.set_float32_matmul_precision("highest")
    start = time.time()
    net = evaluate.load(args.model, args.device)
    tokens: dict[str, list[int]] = {}
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for cells in check_heddle.groups_of(args):
            # Attention in f32 may hold all scores of a batch.
            most = 16384 if args.device == "cpu" else min(262144, 400_000_000 // cells[0].length)
            right = 0
            for batch in evaluate.batches(pool.imap(prompts.example_of, cells, 4), most):
                for example, answer in zip(batch, evaluate.greedy(net, batch, torch.float32)):
                    tokens[example.cell.key] = answer
                    right += answer == example.answer
            name = f"{cells[0].task:14} {cells[0].length // 1024:3}k"
            print(f"{time.time() - start:7.1f} s {name} {right:3} of {len(cells):3}", flush=True)
            args.out.write_text(json.dumps({"seed": args.seed, "tokens": tokens}))


if __name__ == "__main__":
    main()
