#!/usr/bin/env python3
"""Writes a tiny random checkpoint with a working tokenizer and chat template.

    make_tiny_model.py --family llama --format gguf --seed 17 --out DIR

The weights mean nothing, but every code path of the family is taken: grouped queries, windows shorter than the
context, sums cut into segments. The same arguments give the same bytes everywhere (random numbers come straight
from PCG64's integers), and one seed gives the same weights and tokenizer in both formats. Needs numpy only.
"""
import argparse
import json
import pathlib
import struct
import sys

try:
    import numpy as np
except ImportError:
    sys.exit("make_tiny_model.py needs numpy; build/venv/bin/python has it once tools/check has run")

import tiny_families
import tiny_hybrids
import tiny_moe
import tiny_native
import tiny_tokenizer
import torch_bin
from gguf_types import ENCODERS, block_elements, encode

FAMILIES = {**tiny_families.FAMILIES, **tiny_moe.FAMILIES, **tiny_hybrids.FAMILIES, **tiny_native.FAMILIES}
FORMATS = ("safetensors", "gguf")
PLAIN = ("F32", "F16", "BF16")


class Gguf:
    ALIGNMENT = 32
    KINDS = {"u32": (4, "<I"), "i32": (5, "<i"), "f32": (6, "<f"), "bool": (7, "<?")}

    def __init__(self):
        self.keys = []
        self.tensors = []

    @staticmethod
    def text(value):
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    def add(self, key, kind, value):
        if kind == "string":
            number, raw = 8, self.text(value)
        elif kind == "strings":
            number, raw = 9, struct.pack("<IQ", 8, len(value)) + b"".join(map(self.text, value))
        elif kind == "i32s":
            number, raw = 9, struct.pack(f"<IQ{len(value)}i", 5, len(value), *value)
        else:
            number, code = self.KINDS[kind]
            raw = struct.pack(code, value)
        self.keys.append(self.text(key) + struct.pack("<I", number) + raw)

    def add_tensor(self, name, array, dtype):
        number, raw = encode(array, dtype)
        self.tensors.append((name, array.shape[::-1], number, raw))

    def write(self, path):
        pad = lambda n: -n % self.ALIGNMENT
        header = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.keys)) + b"".join(self.keys)
        offset = 0
        for name, dims, number, raw in self.tensors:
            header += self.text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, number, offset)
            offset += len(raw) + pad(len(raw))
        with open(path, "wb") as f:
            f.write(header + bytes(pad(len(header))))
            for *_, raw in self.tensors:
                f.write(raw + bytes(pad(len(raw))))


def write_gguf(family, args):
    g = Gguf()
    g.add("general.architecture", "string", family.gguf)
    g.add("general.name", "string", f"tiny {args.family}, seed {args.seed}")
    for key, kind, value in family.gguf_keys():
        g.add(f"{family.gguf}.{key}", kind, value)
    for key, kind, value in tiny_tokenizer.gguf_keys(args.pre):
        g.add(key, kind, value)
    for name, array in family.gguf_tables().items():
        g.add_tensor(name, array, "F32")
    for name, array, dtype in family.gguf_weights():
        g.add_tensor(name, array, dtype or (args.dtype if array.ndim >= 2 else "F32"))
    path = args.out / f"tiny-{args.family}.gguf"
    g.write(path)
    return path


def write_safetensors(path, tensors, dtype):
    """tensors: name -> f32 array, or bytes that stay as they are."""
    header, chunks, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, array in tensors.items():
        kind = "U8" if array.dtype == np.uint8 else dtype
        raw = array.tobytes() if kind == "U8" else encode(array, dtype)[1]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, offset + len(raw)]}
        chunks.append(raw)
        offset += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.writelines(chunks)
    return offset


def write_bin(path, tensors, dtype):
    return torch_bin.write_bin(path, tensors, dtype, encode)


# How --weights calls the files, and what writes one.
WEIGHTS = {"safetensors": ("model", "safetensors", write_safetensors), "bin": ("pytorch_model", "bin", write_bin)}


def write_shards(args, tensors):
    """Files of about the same number of tensors, and their index."""
    (stem, extension, write), n = WEIGHTS[args.weights], args.shards
    names, weight_map, total = list(tensors), {}, 0
    for i in range(n):
        part = names[len(names) * i // n : len(names) * (i + 1) // n]
        file = f"{stem}-{i + 1:05}-of-{n:05}.{extension}"
        total += write(args.out / file, {k: tensors[k] for k in part}, args.dtype)
        weight_map.update({k: file for k in part})
    write_json(args.out / f"{stem}.{extension}.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_folder(family, args):
    tensors = family.weights()
    if args.shards > 1:
        write_shards(args, tensors)
    else:
        stem, extension, write = WEIGHTS[args.weights]
        write(args.out / f"{stem}.{extension}", tensors, args.dtype)
    config = family.config()
    write_json(args.out / "config.json", config)
    write_json(args.out / "generation_config.json",
               {"bos_token_id": config["bos_token_id"], "eos_token_id": [config["eos_token_id"]]})
    write_json(args.out / "tokenizer.json", tiny_tokenizer.tokenizer_json(args.pre))
    write_json(args.out / "tokenizer_config.json", tiny_tokenizer.tokenizer_config())
    return args.out


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", required=True, choices=FAMILIES)
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--seed", type=int, default=0, help="from 0")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="directory; made if absent")
    parser.add_argument("--dtype", choices=ENCODERS, default="F32", help="of the matrices; safetensors: F32, F16, BF16")
    parser.add_argument("--wide", action="store_true",
                        help="rows of 256 elements, as types with blocks of 256 need (they imply it)")
    parser.add_argument("--untied", action="store_true", help="an output matrix of its own")
    parser.add_argument("--rope-scaling", choices=("none", "linear", "llama3", "yarn"), default="none",
                        help="of llama, mistral, qwen2, qwen3 (the others have their own)")
    parser.add_argument("--original-context", type=int, default=4096, help="phi3: tokens up to which the short factors hold")
    parser.add_argument("--slope-layer-offset", type=int, choices=(0, 1),
                        help="bailing_moe_linear: written to config.json; absent means 1")
    parser.add_argument("--dense-attention", action="store_true", help="minicpm4: no sparse_config")
    parser.add_argument("--pre", choices=tiny_tokenizer.PRE_TOKENIZERS, default="smollm", help="pre-tokenizer")
    parser.add_argument("--shards", type=int, default=1, help="safetensors: files")
    parser.add_argument("--weights", choices=WEIGHTS, default="safetensors",
                        help="transnormer's folder may have PyTorch's .bin files, as it was published")
    args = parser.parse_args()
    if args.seed < 0:
        parser.error("argument --seed: must be 0 or more")
    if not 1 < args.original_context <= 8192:
        parser.error("argument --original-context: must be 2 to 8192")
    if not 1 <= args.shards <= 9:
        parser.error("argument --shards: must be 1 to 9")
    if args.format == "safetensors" and args.dtype not in PLAIN:
        parser.error(f"argument --dtype: safetensors holds {', '.join(PLAIN)}, not {args.dtype}")
    if args.rope_scaling != "none" and not FAMILIES[args.family].takes_rope_scaling:
        parser.error(f"argument --rope-scaling: {args.family} has a rotation of its own")
    if args.format == "gguf" and not FAMILIES[args.family].gguf:
        parser.error(f"argument --format: there is no GGUF form of {args.family}")
    if args.weights == "bin" and (args.family != "transnormer" or args.format != "safetensors"):
        parser.error("argument --weights: bin is for --family transnormer --format safetensors")
    args.wide = args.wide or block_elements(args.dtype) > 32
    return args


def main():
    args = parse_arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    family = FAMILIES[args.family](args)
    print((write_gguf if args.format == "gguf" else write_folder)(family, args))


if __name__ == "__main__":
    sys.exit(main())
