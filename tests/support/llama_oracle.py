"""An independent oracle: family llama in plain numpy, f64 throughout, straight from a GGUF file.

It shares no code with the engine. Weights are dequantised by the formats' formulas, attention is the full
softmax, rotation is the interleaved one that GGUF's row order is made for (the engine permutes the rows
instead). Frequencies and angles are rounded to f32, as published implementations do.
"""
import struct

import numpy as np

from dequantise import dequantise

KINDS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class Gguf:
    """Keys and dequantised tensors of a valid file."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        self.at = 4
        _, n_tensors, n_keys = self.take("I"), self.take("Q"), self.take("Q")
        self.keys = {}
        for _ in range(n_keys):
            key = self.text()
            self.keys[key] = self.value(self.take("I"))
        self.infos = {}
        for _ in range(n_tensors):
            name = self.text()
            dims = [self.take("Q") for _ in range(self.take("I"))]
            kind, offset = self.take("I"), self.take("Q")
            self.infos[name] = (dims[::-1], kind, offset)
        alignment = self.keys.get("general.alignment", 32)
        self.base = (self.at + alignment - 1) // alignment * alignment

    def take(self, code):
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def text(self):
        n = self.take("Q")
        self.at += n
        return self.data[self.at - n:self.at].decode("utf-8", "surrogateescape")

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            item, n = self.take("I"), self.take("Q")
            return [self.value(item) for _ in range(n)]
        return self.take(KINDS[kind])

    def tensor(self, name):
        dims, kind, offset = self.infos[name]
        return dequantise(kind, memoryview(self.data)[self.base + offset:], dims)


class Llama:
    def __init__(self, path):
        f = Gguf(path)
        key = lambda name: f.keys["llama." + name]
        self.heads = key("attention.head_count")
        self.kv_heads = f.keys.get("llama.attention.head_count_kv", self.heads)
        self.eps = np.float64(key("attention.layer_norm_rms_epsilon"))
        self.dim = f.keys.get("llama.rope.dimension_count", key("embedding_length") // self.heads)
        base = f.keys.get("llama.rope.freq_base", 10000.0)
        inv_freq = base ** -(np.arange(0, self.dim, 2) / self.dim)
        if "rope_freqs.weight" in f.infos:
            inv_freq = inv_freq / f.tensor("rope_freqs.weight")
        self.inv_freq = inv_freq.astype(np.float32)
        self.embedding = f.tensor("token_embd.weight")
        self.head = f.tensor("output.weight") if "output.weight" in f.infos else self.embedding
        self.norm = f.tensor("output_norm.weight")
        names = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up",
                 "ffn_down")
        self.layers = [{n: f.tensor(f"blk.{i}.{n}.weight") for n in names}
                       for i in range(key("block_count"))]

    def rms(self, x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * weight

    def rotate(self, x):
        """x [tokens, heads, dim], pairs (2i, 2i + 1)."""
        angle = np.arange(len(x), dtype=np.float32)[:, None] * self.inv_freq
        cos, sin = np.cos(angle.astype(np.float64))[:, None], np.sin(angle.astype(np.float64))[:, None]
        r = x[..., :self.dim].reshape(*x.shape[:2], -1, 2)
        even, odd = r[..., 0], r[..., 1]
        turned = np.stack([even * cos - odd * sin, odd * cos + even * sin], -1)
        return np.concatenate([turned.reshape(*x.shape[:2], -1), x[..., self.dim:]], -1)

    def attention(self, layer, x):
        n = len(x)
        split = lambda y, heads: y.reshape(n, heads, -1)
        q = self.rotate(split(x @ layer["attn_q"].T, self.heads))
        k = self.rotate(split(x @ layer["attn_k"].T, self.kv_heads))
        v = split(x @ layer["attn_v"].T, self.kv_heads)
        mask = np.triu(np.full((n, n), -np.inf), 1)
        out = np.empty_like(q)
        for h in range(self.heads):
            g = h // (self.heads // self.kv_heads)
            s = q[:, h] @ k[:, g].T / np.sqrt(q.shape[-1]) + mask
            p = np.exp(s - s.max(-1, keepdims=True))
            out[:, h] = p / p.sum(-1, keepdims=True) @ v[:, g]
        return out.reshape(n, -1) @ layer["attn_output"].T

    def logits(self, ids):
        """[tokens, vocab] of one sequence from position 0."""
        x = self.embedding[list(ids)]
        for layer in self.layers:
            x = x + self.attention(layer, self.rms(x, layer["attn_norm"]))
            y = self.rms(x, layer["ffn_norm"])
            gate = y @ layer["ffn_gate"].T
            x = x + (gate / (1 + np.exp(-gate)) * (y @ layer["ffn_up"].T)) @ layer["ffn_down"].T
        return self.rms(x, self.norm) @ self.head.T

    def scores(self, ids):
        """log p of every token but the first."""
        l = self.logits(ids)[:-1]
        top = l.max(-1, keepdims=True)
        lse = top[:, 0] + np.log(np.exp(l - top).sum(-1))
        return l[np.arange(len(l)), list(ids)[1:]] - lse
