#!/usr/bin/env python3
"""Writes a llama of a usual 1B shape with random weights of one type, for measuring speed.

    make_bench_model.py --dtype Q4_K --out FILE.gguf [--head-dtype Q6_K] [--layers 16]

Quants are random bytes and scales of ordinary size, written in seconds; one block of rows is repeated, which no
kernel notices. The tokenizer is the one of tiny_tokenizer.py, filled up with words nobody writes. Needs numpy only.
"""
import argparse
import pathlib
import struct

import numpy as np

from gguf_types import ENCODERS, block_elements, encode
from make_tiny_model import Gguf
from tiny_tokenizer import BOS, CHAT_TEMPLATE, EOS, SPECIALS, vocabulary

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN, VOCAB = 2048, 32, 8, 64, 8192, 32000
ROWS = 64  # rows of random weights; longer matrices repeat them


class Repeated:
    """Bytes of a tensor that are the same few rows over and over."""

    def __init__(self, raw, times):
        self.raw, self.times = raw, times

    def __len__(self):
        return len(self.raw) * self.times


def matrix(rng, rows, cols, dtype):
    """Random in every bit of its quants: normal numbers, encoded."""
    number, raw = encode(rng.standard_normal((ROWS, cols)).astype(np.float32) / np.float32(cols**0.5), dtype)
    assert rows % ROWS == 0
    return number, Repeated(raw, rows // ROWS)


def tensors(args):
    """(name, dims as GGUF has them, number, bytes)"""
    rng = np.random.default_rng(1)
    shapes = {"attn_q": (HIDDEN, HIDDEN), "attn_k": (KV_HEADS * HEAD_DIM, HIDDEN),
              "attn_v": (KV_HEADS * HEAD_DIM, HIDDEN), "attn_output": (HIDDEN, HIDDEN),
              "ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN), "ffn_down": (HIDDEN, FFN)}
    norm = np.ones(HIDDEN, "<f4").tobytes()
    yield "token_embd.weight", (HIDDEN, VOCAB), *matrix(rng, VOCAB, HIDDEN, args.head_dtype or args.dtype)
    yield "output_norm.weight", (HIDDEN,), 0, norm
    made = {name: matrix(rng, *shape, args.dtype) for name, shape in shapes.items()}
    for i in range(args.layers):
        for name in ("attn_norm", "ffn_norm"):
            yield f"blk.{i}.{name}.weight", (HIDDEN,), 0, norm
        for name, (rows, cols) in shapes.items():
            yield f"blk.{i}.{name}.weight", (cols, rows), *made[name]


def keys(args):
    tokens, merges = vocabulary()
    n = VOCAB - len(tokens)
    types = [3] * len(SPECIALS) + [1] * (len(tokens) - len(SPECIALS)) + [5] * n
    tokens = tokens + [f"<unused {i}>" for i in range(n)]
    g = Gguf()
    g.add("general.architecture", "string", "llama")
    g.add("general.name", "string", f"1B shape {args.dtype}")
    for key, value in (("block_count", args.layers), ("context_length", 8192), ("embedding_length", HIDDEN),
                       ("feed_forward_length", FFN), ("attention.head_count", HEADS),
                       ("attention.head_count_kv", KV_HEADS), ("rope.dimension_count", HEAD_DIM), ("vocab_size", VOCAB)):
        g.add(f"llama.{key}", "u32", value)
    g.add("llama.attention.layer_norm_rms_epsilon", "f32", 1e-5)
    g.add("llama.rope.freq_base", "f32", 10000.0)
    g.add("tokenizer.ggml.model", "string", "gpt2")
    g.add("tokenizer.ggml.pre", "string", "smollm")
    g.add("tokenizer.ggml.tokens", "strings", tokens)
    g.add("tokenizer.ggml.token_type", "i32s", types)
    g.add("tokenizer.ggml.merges", "strings", [" ".join(m) for m in merges])
    g.add("tokenizer.ggml.bos_token_id", "u32", tokens.index(BOS))
    g.add("tokenizer.ggml.eos_token_id", "u32", tokens.index(EOS))
    g.add("tokenizer.ggml.add_bos_token", "bool", False)
    g.add("tokenizer.chat_template", "string", CHAT_TEMPLATE)
    return g.keys


def write(args):
    pad = lambda n: -n % Gguf.ALIGNMENT
    entries, all_tensors = keys(args), list(tensors(args))
    header = b"GGUF" + struct.pack("<IQQ", 3, len(all_tensors), len(entries)) + b"".join(entries)
    offset = 0
    for name, dims, number, raw in all_tensors:
        header += Gguf.text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, number, offset)
        offset += len(raw) + pad(len(raw))
    with open(args.out, "wb") as f:
        f.write(header + bytes(pad(len(header))))
        for *_, raw in all_tensors:
            if isinstance(raw, Repeated):
                for _ in range(raw.times):
                    f.write(raw.raw)
            else:
                f.write(raw)
            f.write(bytes(pad(len(raw))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", required=True, choices=tuple(ENCODERS), help="of the layers' matrices")
    parser.add_argument("--head-dtype", choices=tuple(ENCODERS), help="of the embedding, which is the head too")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--out", required=True, type=pathlib.Path, help="the file to write")
    args = parser.parse_args()
    if args.layers < 1:
        parser.error("argument --layers: must be 1 or more")
    for dtype in (args.dtype, args.head_dtype or args.dtype):
        assert HIDDEN % block_elements(dtype) == 0 and FFN % block_elements(dtype) == 0
    write(args)
    print(args.out)


if __name__ == "__main__":
    main()
