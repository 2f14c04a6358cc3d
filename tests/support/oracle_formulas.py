"""What the oracles are made of: tensors of a safetensors folder and the formulas, in plain numpy, f64 throughout.

Frequencies and angles are rounded to f32, as published implementations do.
"""
import json
import math
import pathlib
import struct

import numpy as np

F32 = np.float32


class Tensors:
    """Of a folder with one model.safetensors; floats as f64, bytes as they are."""

    def __init__(self, folder):
        raw = (pathlib.Path(folder) / "model.safetensors").read_bytes()
        (n,) = struct.unpack_from("<Q", raw)
        self.infos = json.loads(raw[8:8 + n])
        self.data = memoryview(raw)[8 + n:]

    def __contains__(self, name):
        return name in self.infos

    def __getitem__(self, name):
        info = self.infos[name]
        raw = self.data[slice(*info["data_offsets"])]
        if info["dtype"] == "U8":
            return np.frombuffer(raw, np.uint8).reshape(info["shape"])
        values = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[info["dtype"]])
        if info["dtype"] == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        return values.astype(np.float64).reshape(info["shape"])


# --- formulas


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def softmax(x):
    p = np.exp(x - x.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def rms(x, weight, eps, groups=1):
    """Each of `groups` equal parts of a row on its own; weight: one per channel, or None."""
    parts = x.reshape(*x.shape[:-1], groups, -1)
    y = (parts / np.sqrt((parts * parts).mean(-1, keepdims=True) + eps)).reshape(x.shape)
    return y if weight is None else y * weight


def frequencies(theta, dim):
    exponent = np.arange(0, dim, 2, dtype=F32) / F32(dim)
    return F32(1) / (np.float64(F32(theta)) ** exponent).astype(F32)


def yarn(theta, dim, scaling):
    """(frequencies, factor of cos and sin)."""
    context = scaling["original_max_position_embeddings"]
    border = lambda turns: dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))
    low, high = border(scaling["beta_fast"]), border(scaling["beta_slow"])
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = np.clip((np.arange(dim // 2, dtype=F32) - F32(low)) / F32(high - low), 0, 1)
    plain, keep = frequencies(theta, dim), F32(1) - ramp
    mixed = plain / F32(scaling["factor"]) * (F32(1) - keep) + plain * keep
    return mixed, 0.1 * math.log(scaling["factor"]) + 1


def angles(n, freqs):
    """[n, ...] f64 of the f32 products of position and frequency."""
    positions = np.arange(n, dtype=F32).reshape(n, *[1] * freqs.ndim)
    return (positions * freqs.astype(F32)).astype(np.float64)


def rotate(x, freqs, factor=1.0):
    """x [tokens, heads, dim]: the first 2 len(freqs) channels, pairs (i, i + len(freqs))."""
    n = len(freqs)
    angle = angles(len(x), freqs)[:, None]
    cos, sin = factor * np.cos(angle), factor * np.sin(angle)
    a, b = x[..., :n], x[..., n:2 * n]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, x[..., 2 * n:]], -1)


def slopes(heads):
    """ALiBi's: 2^(-8 (h+1) / heads), and for other than powers of two the table of the next lower one, then every
    second entry of the next higher one."""
    table = lambda n: [2.0 ** (-8 * (h + 1) / n) for h in range(n)]
    power = 2 ** int(math.log2(heads))
    return np.array(table(power) + table(2 * power)[0::2][:heads - power])


def layer_slopes(heads, layer, layers):
    return slopes(heads) * (1 - layer / (layers - 1) + 1e-5)


def recurrence(q, k, v, slope, scale):
    """o_t = scale q_t S_t, S_t = exp(-slope) S_(t-1) + k_t v_t^T; q, k, v [tokens, heads, dim]."""
    state = np.zeros((q.shape[1], k.shape[2], v.shape[2]))
    decay = np.exp(-np.asarray(slope))[:, None, None]
    out = np.empty(v.shape)
    for t in range(len(q)):
        state = decay * state + k[t][:, :, None] * v[t][:, None, :]
        out[t] = scale * np.einsum("hd,hde->he", q[t], state)
    return out


def causal(n, window=0):
    """[n, n]: who sees whom; window counts the own key, 0: all."""
    distance = np.arange(n)[:, None] - np.arange(n)
    return (distance >= 0) & ((distance < window) if window else True)


def attention(q, k, v, visible, sinks=None, scale=None, cap=0.0):
    """visible [tokens, tokens] or, per KV head, [kv heads, tokens, tokens]; a sink is a score without a value, which
    the cap leaves alone."""
    out = np.empty(q.shape)
    for h in range(q.shape[1]):
        g = h // (q.shape[1] // k.shape[1])
        score = q[:, h] @ k[:, g].T * (scale or q.shape[2] ** -0.5)
        if cap:
            score = cap * np.tanh(score / cap)
        score = np.where(visible if visible.ndim == 2 else visible[g], score, -np.inf)
        if sinks is not None:
            score = np.concatenate([score, np.full((len(q), 1), sinks[h])], 1)
        out[:, h] = softmax(score)[:, :len(q)] @ v[:, g]
    return out


def best(scores, k, margins, kind):
    """Indices of the k largest, the largest first, among equals the lowest index; records margin and ties."""
    order = np.argsort(-scores, kind="stable")
    if k < len(order):
        margin = float(scores[order[k - 1]] - scores[order[k]])
        if margin == 0:
            margins["tied " + kind] = margins.get("tied " + kind, 0) + 1
        else:
            margins[kind] = min(margins.get(kind, math.inf), margin)
    return order[:k]


def compressed(k, size, stride):
    """Means of the complete windows of `size` keys every `stride`: [windows, kv heads, dim]."""
    return np.array([k[s:s + size].mean(0) for s in range(0, len(k) - size + 1, stride)]).reshape(-1, *k.shape[1:])
