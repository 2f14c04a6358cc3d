"""Trains a needle model from nothing on one GPU and writes it in Heddle's native format."""

import argparse
import json
import pathlib
import time

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import batches
import evaluate
import model as reference
import muon
import prompts

CLASS_WEIGHT = {batches.ANSWER: 1.0, batches.COPY: 0.4, batches.TEXT: 0.2}
BALANCE_WEIGHT = 0.01
LAYERS = "linear,power,linear,softmax,power,linear,softmax,softmax"
ROWS = 4096  # learned tokens are padded to a multiple of it


class Steps(torch.utils.data.Dataset):
    """Batch number i, whichever worker makes it."""

    def __init__(self, data: pathlib.Path, seed: int, steps: int):
        self.data, self.seed, self.steps = data, seed, steps
        self.builder: batches.Builder | None = None

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """ids [B, T] and, of the tokens learned: place before, token, weight, class."""
        if self.builder is None:
            self.builder = builder_of(self.data)
        batch = batches.make_batch(self.builder, self.seed, step, step / self.steps)
        weight = np.zeros(len(batch.where), np.float32)
        for class_, share in CLASS_WEIGHT.items():
            mine = batch.class_of == class_
            weight[mine] = share / max(1, mine.sum())
        padding = -len(batch.where) % ROWS
        arrays = [
            np.pad(a, (0, padding)) for a in (batch.where, batch.target, weight, batch.class_of)
        ]
        return tuple(map(torch.from_numpy, (batch.ids.astype(np.int32), *arrays)))


def builder_of(data: pathlib.Path) -> batches.Builder:
    arrays = np.load(data / "tokens.npz")
    text = batches.Text(
        arrays["tokens"], arrays["ends"], arrays["words"].tolist(), arrays["names"].tolist()
    )
    return batches.Builder(text, prompts.tokenizer_of(data))


def compile_layers(net: reference.Model) -> None:
    """Compiles what sees tokens one by one, and power attention, whose pattern needs a kernel."""
    for name in ("linear", "power", "softmax"):
        for half in ("enter", "leave"):
            method = getattr(reference.Layer, f"{half}_{name}")
            setattr(reference.Layer, f"{half}_{name}", torch.compile(method, dynamic=False))
    local = net.shape.local_blocks
    masks = {}
    flex = torch.compile(flex_attention, dynamic=False)

    def visible(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        d = q // reference.CHUNK - k // reference.CHUNK
        return (q >= k) & ((d < local) | ((d & (d - 1)) == 0) | (k < reference.CHUNK))

    def power_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        n = q.shape[1]
        if n not in masks:
            masks[n] = create_block_mask(visible, None, None, n, n, device=q.device)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return flex(q, k, v, block_mask=masks[n], enable_gqa=True).transpose(1, 2)

    net.power_attention = power_attention


@torch.compile(dynamic=True)
def head_loss(
    hidden: Tensor, embedding: Tensor, where: Tensor, target: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted sum of cross entropies; each token's, and whether it was the most likely."""
    logits = (hidden.index_select(0, where) @ embedding.to(hidden.dtype).t()).float()
    entropy = F.cross_entropy(logits, target, reduction="none")
    return (entropy * weight).sum(), entropy.detach(), logits.detach().argmax(-1) == target


def rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: warm-up, flat to the half, then down to 3 %."""
    share = step / steps
    down = 1 - 0.97 * max(0.0, share - 0.5) / 0.5
    return min(1.0, (step + 1) / 100) * down


def probe(
    net: reference.Model, data: pathlib.Path, lengths: list[int], samples: int, title: str
) -> None:
    """A few prompts of the harder tasks, without compiling anything for their lengths."""
    compiled = net.power_attention
    net.power_attention = net.gathered_power_attention
    names = [
        "uuid",
        "multikey8",
        "queries4",
        "values4",
        "dense_number",
        "dense_uuid",
        "san_francisco",
    ]
    for length in lengths:
        cells = prompts.table_of(names, length, samples, 77, data)
        with torch.compiler.set_stance("force_eager"):
            table = evaluate.score(net, cells, torch.bfloat16, 131072)
        print(
            title,
            f"{length:6}",
            *(f"{t} {evaluate.percent(v[length]):.0f}" for t, v in table.items()),
            flush=True,
        )
    net.power_attention = compiled


@torch.no_grad()
def held_out_entropy(net: reference.Model, data: pathlib.Path) -> float:
    """Nats a token of held-out prose, in 64 pieces of 1024 tokens."""
    ids = prompts.tokenizer_of(data).encode((data / "held_out.txt").read_text())[: 64 * 1024]
    pieces = torch.tensor(ids, device="cuda").view(64, 1024)
    given = F.pad(pieces[:, :-1], (1, 0), value=batches.BOS)
    with torch.compiler.set_stance("force_eager"):
        hidden, _ = net(given, torch.bfloat16)
    parts = zip(hidden.split(8192), pieces.flatten().split(8192))
    sums = [F.cross_entropy(net.logits(h.float()), t, reduction="sum").item() for h, t in parts]
    return sum(sums) / len(ids)


def write(net: reference.Model, out: pathlib.Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(net.tensors(), out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(net.shape.config(), indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="prepare.py's --out")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--layers", default=LAYERS)
    parser.add_argument("--intermediate", type=int, default=64, help="of an expert")
    parser.add_argument("--no-log-scale", action="store_true")
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--probes", type=int, default=4, help="times a few prompts are scored")
    parser.add_argument(
        "--seconds", type=float, default=0, help="stop after so many (an experiment)"
    )
    args = parser.parse_args()
    prompts.require("--data", args.data, "tokens.npz", "tokenizer.model", "held_out.txt")
    start = time.time()
    torch.manual_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    shape = reference.Shape(
        layers=tuple(args.layers.split(",")),
        intermediate=args.intermediate,
        log_scale=0 if args.no_log_scale else 128,
    )
    net = reference.Model(shape).cuda()
    compile_layers(net)
    print(args.layers, sum(p.numel() for p in net.parameters()), "parameters", flush=True)
    optimizer = muon.Muon(net)
    routers = len(shape.layers) + shape.layers.count("softmax")
    loader = torch.utils.data.DataLoader(
        Steps(args.data, args.seed, args.steps), batch_size=None, num_workers=args.workers,
        prefetch_factor=8, pin_memory=True,
    )  # fmt: skip
    kept, probed, tokens, last = [], 0, 0, time.time()
    for step, batch in enumerate(loader):
        ids, where, target, weight, class_of = (x.cuda(non_blocking=True) for x in batch)
        hidden, balance = net(ids, torch.bfloat16)
        loss, entropy, right = head_loss(hidden, net.embedding, where, target, weight)
        (loss + BALANCE_WEIGHT * balance).backward()
        optimizer.step(rate(step, args.steps))
        tokens += ids.numel()
        answer = (class_of == batches.ANSWER) & (weight > 0)
        kept.append(
            torch.stack(
                [
                    (entropy * answer).sum(),
                    (right & answer).sum().float(),
                    answer.sum().float(),
                    balance.detach(),
                ]
            )
        )
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            entropy, right, n, balance = torch.stack(kept).sum(0).tolist()
            print(
                f"{time.time() - start:6.1f} s step {step + 1} length {ids.shape[1]} answers: "
                f"entropy {entropy / n:.4f} right {right / n:.4f}, "
                f"balance {balance / len(kept) / routers:.3f}, "
                f"{tokens / (time.time() - last) / 1e6:.2f} Mtok/s",
                flush=True,
            )
            kept, tokens, last = [], 0, time.time()
        over = args.seconds and time.time() - start > args.seconds
        if (step + 1) * (args.probes + 1) // args.steps > probed and step + 1 < args.steps or over:
            probed += 1
            probe(net, args.data, [1024, 8192], 1, f"{time.time() - start:6.1f} s probe")
            last = time.time()
        if over:
            break
    write(net, args.out)
    print(
        f"{time.time() - start:6.1f} s saved, {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB",
        flush=True,
    )
    net.power_attention = net.gathered_power_attention
    print(f"held-out prose: {held_out_entropy(net, args.data):.3f} nats a token", flush=True)
    net.load(safetensors.torch.load_file(args.out / "model.safetensors"))
    probe(net, args.data, [1024, 4096, 8192], 2, f"{time.time() - start:6.1f} s final")


if __name__ == "__main__":
    main()
