#!/usr/bin/env python3
"""Writes a tiny random checkpoint with a working tokenizer and chat template.

    make_tiny_model.py --family llama --format gguf --seed 17 --out DIR

The weights mean nothing, but every code path of the family is taken: two layers, grouped queries,
rows of whole quantisation blocks, sums cut into two and four segments. The same arguments give the
same bytes everywhere: random numbers come straight from PCG64's integers. Needs numpy only.
"""
import argparse
import pathlib
import re
import struct
import sys

import numpy as np

from gguf_types import ENCODERS, block_elements, encode

FAMILIES = ("llama",)
FORMATS = ("gguf",)
PRE_TOKENIZERS = ("smollm", "llama-bpe", "qwen2")

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# What the merges are learned from.
TEXT = """The weaver sets the warp on the loom and lifts the heddle: every second thread rises, the
shuttle passes through the shed, and the reed beats the weft into the cloth. A pear 12 lane, the
green river and the old stone bridge; the user asks and the assistant answers. Then the other
threads rise, the shuttle returns, and the pattern grows line by line as the weaver counts: one,
two, three, four. There is nothing else in the room but the sound of the loom and of the rain."""
N_MERGES = 120


class Shape:
    layers = 2
    hidden = 64
    heads = 4
    kv_heads = 2
    head_dim = 16
    intermediate = 128
    context = 8192
    eps = 1e-5


class Random:
    """Uniform numbers from PCG64's raw 64-bit stream, which numpy keeps the same for ever."""

    def __init__(self, seed):
        self.bits = np.random.PCG64(seed)

    def uniform(self, shape, low, high):
        raw = self.bits.random_raw(int(np.prod(shape))) >> np.uint64(40)
        unit = raw.astype(np.float64) / float(1 << 24)  # exact
        return (low + (high - low) * unit).astype(np.float32).reshape(shape)

    def matrix(self, rows, cols, gain=1.0):
        """Variance gain^2 / cols."""
        bound = gain * (3.0 / cols) ** 0.5
        return self.uniform((rows, cols), -bound, bound)


def weights(seed, untied):
    """Tensors by their Hugging Face names, rows in Hugging Face order."""
    s, r = Shape, Random(seed)
    vocab = len(SPECIALS) + 256 + N_MERGES
    tensors = {"model.embed_tokens.weight": r.uniform((vocab, s.hidden), -1.0, 1.0)}
    for i in range(s.layers):
        p = f"model.layers.{i}."
        tensors[p + "input_layernorm.weight"] = r.uniform((s.hidden,), 0.8, 1.2)
        tensors[p + "self_attn.q_proj.weight"] = r.matrix(s.heads * s.head_dim, s.hidden, 2.0)
        tensors[p + "self_attn.k_proj.weight"] = r.matrix(s.kv_heads * s.head_dim, s.hidden, 2.0)
        tensors[p + "self_attn.v_proj.weight"] = r.matrix(s.kv_heads * s.head_dim, s.hidden)
        tensors[p + "self_attn.o_proj.weight"] = r.matrix(s.hidden, s.heads * s.head_dim)
        tensors[p + "post_attention_layernorm.weight"] = r.uniform((s.hidden,), 0.8, 1.2)
        tensors[p + "mlp.gate_proj.weight"] = r.matrix(s.intermediate, s.hidden)
        tensors[p + "mlp.up_proj.weight"] = r.matrix(s.intermediate, s.hidden)
        tensors[p + "mlp.down_proj.weight"] = r.matrix(s.hidden, s.intermediate)
    tensors["model.norm.weight"] = r.uniform((s.hidden,), 0.8, 1.2)
    if untied:
        tensors["lm_head.weight"] = r.matrix(vocab, s.hidden, 2.0)
    return tensors


# --- tokenizer


def byte_alphabet():
    """GPT-2's printable character for each byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {b: chr(b) for b in plain}
    for b in range(256):
        if b not in alphabet:
            alphabet[b] = chr(256 + len(alphabet) - len(plain))
    return alphabet


def learn_merges(text, n):
    """The n most frequent pairs, one after the other; ties go to the smaller pair."""
    alphabet = byte_alphabet()
    words = [[alphabet[b] for b in w.encode()] for w in re.findall(r" ?[A-Za-z]+", text.replace("\n", " "))]
    merges = []
    while len(merges) < n:
        counts = {}
        for w in words:
            for pair in zip(w, w[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            raise SystemExit(f"the text has only {len(merges)} merges")
        best = min(counts, key=lambda p: (-counts[p], p))
        merges.append(best)
        for w in words:
            i = 0
            while i + 1 < len(w):
                if (w[i], w[i + 1]) == best:
                    w[i : i + 2] = ["".join(best)]
                i += 1
    return merges


def vocabulary():
    """(tokens, GGUF token types, merges): specials, the 256 bytes, one token per merge."""
    merges = learn_merges(TEXT, N_MERGES)
    alphabet = byte_alphabet()
    tokens = [*SPECIALS, *(alphabet[b] for b in range(256)), *("".join(m) for m in merges)]
    if len(set(tokens)) != len(tokens):
        raise SystemExit("two merges give one token")
    types = [3] * len(SPECIALS) + [1] * (len(tokens) - len(SPECIALS))
    return tokens, types, [" ".join(m) for m in merges]


# --- GGUF


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


GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
    return f"blk.{layer[1]}.{GGUF_NAMES[layer[2]]}.weight" if layer else GGUF_NAMES[name]


def interleave(a, heads):
    """GGUF's row order of rotated heads: the halves of each head alternate."""
    return a.reshape(heads, 2, a.shape[0] // heads // 2, a.shape[1]).swapaxes(1, 2).reshape(a.shape)


def llama3_factors(theta, dim, factor=8.0, low=1.0, high=4.0, context=512):
    """What GGUF's rope_freqs.weight holds for "llama3" scaling: divisors of the frequencies."""
    wavelength = 2 * np.pi * theta ** (np.arange(0, dim, 2) / dim)
    smooth = (context / wavelength - low) / (high - low)
    middle = 1 / ((1 - smooth) / factor + smooth)
    return np.where(wavelength < context / high, 1.0, np.where(wavelength > context / low, factor, middle)).astype(np.float32)


def write_llama_gguf(args, path):
    s = Shape
    theta = 500000.0 if args.rope_scaling == "llama3" else 10000.0
    tokens, types, merges = vocabulary()
    g = Gguf()
    g.add("general.architecture", "string", "llama")
    g.add("general.name", "string", f"tiny llama, seed {args.seed}")
    g.add("llama.block_count", "u32", s.layers)
    g.add("llama.context_length", "u32", s.context)
    g.add("llama.embedding_length", "u32", s.hidden)
    g.add("llama.feed_forward_length", "u32", s.intermediate)
    g.add("llama.attention.head_count", "u32", s.heads)
    g.add("llama.attention.head_count_kv", "u32", s.kv_heads)
    g.add("llama.attention.layer_norm_rms_epsilon", "f32", s.eps)
    g.add("llama.rope.freq_base", "f32", theta)
    g.add("llama.rope.dimension_count", "u32", s.head_dim)
    g.add("llama.vocab_size", "u32", len(tokens))
    g.add("tokenizer.ggml.model", "string", "gpt2")
    g.add("tokenizer.ggml.pre", "string", args.pre)
    g.add("tokenizer.ggml.tokens", "strings", tokens)
    g.add("tokenizer.ggml.token_type", "i32s", types)
    g.add("tokenizer.ggml.merges", "strings", merges)
    g.add("tokenizer.ggml.bos_token_id", "u32", tokens.index("<|endoftext|>"))
    g.add("tokenizer.ggml.eos_token_id", "u32", tokens.index("<|im_end|>"))
    g.add("tokenizer.ggml.add_bos_token", "bool", args.pre == "llama-bpe")
    g.add("tokenizer.chat_template", "string", CHAT_TEMPLATE)
    if args.rope_scaling == "llama3":
        g.add_tensor("rope_freqs.weight", llama3_factors(theta, s.head_dim), "F32")
    for name, array in weights(args.seed, args.untied).items():
        if name.endswith("q_proj.weight"):
            array = interleave(array, s.heads)
        elif name.endswith("k_proj.weight"):
            array = interleave(array, s.kv_heads)
        g.add_tensor(gguf_name(name), array, args.dtype if array.ndim == 2 else "F32")
    g.write(path)


WRITERS = {("llama", "gguf"): write_llama_gguf}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", required=True, choices=FAMILIES)
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--seed", type=int, default=0, help="from 0")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="directory; made if absent")
    parser.add_argument("--dtype", choices=tuple(ENCODERS), default="F32", help="of the matrices")
    parser.add_argument("--untied", action="store_true", help="an output matrix of its own")
    parser.add_argument("--rope-scaling", choices=("none", "llama3"), default="none")
    parser.add_argument("--pre", choices=PRE_TOKENIZERS, default="smollm", help="pre-tokenizer")
    args = parser.parse_args()
    if args.seed < 0:
        parser.error("argument --seed: must be 0 or more")
    block, shortest = block_elements(args.dtype), min(Shape.hidden, Shape.intermediate)
    if Shape.hidden % block or Shape.intermediate % block:
        parser.error(f"argument --dtype: {args.dtype} needs rows of a multiple of {block}, these have {shortest}")
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"tiny-{args.family}.gguf"
    WRITERS[args.family, args.format](args, path)
    print(path)


if __name__ == "__main__":
    sys.exit(main())
