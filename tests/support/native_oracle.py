"""The oracle of Heddle's own format, from docs/native_format.md and the formulas of kernels/api: numpy, f64, a folder
with config.json and one model.safetensors. It shares no code with the engine; `margins` is hybrid_oracle.py's.
"""
import json
import math
import pathlib

import numpy as np

from oracle_formulas import (F32, Tensors, angles, attention, best, causal, compressed, frequencies, recurrence, rms,
                             rotate, sigmoid, silu, slopes, softmax, yarn)

ACTIVATIONS = {
    "silu": silu,
    "gelu": lambda x: x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))),
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "sigmoid": sigmoid,
    "relu": lambda x: np.maximum(x, 0),
    "elu1": lambda x: np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))),
    "identity": lambda x: x,
}


def expand(entries):
    """Layers with repetitions and groups written out."""
    layers = []
    for entry in entries:
        layers += entry.get("repeat", 1) * (expand(entry["layers"]) if "layers" in entry else [entry])
    return layers


def llama3(freqs, scaling):
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] * freqs.astype(np.float64) / (2 * math.pi)
    keep = np.clip((turns - low) / (high - low), 0, 1)
    return ((1 - keep) * freqs / scaling["factor"] + keep * freqs).astype(F32)


def rotation(rope, head_dim):
    """(frequencies, factor of cos and sin) of a mixer's "rope"."""
    dim, theta = int(head_dim * rope.get("partial_rotary_factor", 1.0)), rope.get("rope_theta", 10000.0)
    scaling = rope.get("rope_scaling", {})
    kind = scaling.get("rope_type", "default")
    if kind == "yarn":
        return yarn(theta, dim, scaling)
    freqs = frequencies(theta, dim)
    return {"default": lambda: freqs, "linear": lambda: freqs / F32(scaling["factor"]),
            "llama3": lambda: llama3(freqs, scaling)}[kind](), 1.0


def pattern_blocks(c, own):
    """Of a fixed pattern: the key blocks that a query in block `own` reads."""
    step = c.get("step")
    near = {"strided": lambda d: d < 4 or d % step == 0, "dilated": lambda d: d % step == 0 and d < 16 * step,
            "power": lambda d: d < c.get("local", 5) or d & (d - 1) == 0}[c["kind"]]
    return [b for b in range(own + 1) if b == 0 or near(own - b)]


def select_blocks(q, k, t, g, c, scale, margins):
    """InfLLM-V2: the key blocks that query t reads with KV head g."""
    block, own = c["block"], t // c["block"]
    stride = c.get("stride", block // 4)
    size = c.get("kernel", 2 * stride)
    group = q.shape[1] // k.shape[1]
    fine = compressed(k[:t + 1, g], size, stride)
    coarse = compressed(k[:t + 1, g], 4 * size, 4 * stride)
    w = np.zeros(len(fine))
    for h in range(g * group, (g + 1) * group):
        s = scale * (coarse if len(coarse) else fine) @ q[t, h]
        if len(s):
            w += np.exp(scale * fine @ q[t, h] - s.max()) / np.exp(s - s.max()).sum()
    shares = lambda j, b: j * stride < (b + 1) * block and j * stride + size > b * block
    score = np.array([max((w[j] for j in range(len(w)) if shares(j, b)), default=0) for b in range(own + 1)])
    forced = [b for b in range(own + 1) if b < c.get("init_blocks", 1) or own - b < c.get("local_blocks", 4)]
    free = [b for b in range(own + 1) if b not in forced]
    n = max(c["top_k"] - len(forced), 0)
    # Relative: the scores have no scale of their own.
    chosen = best(np.log(np.maximum(score[free], 1e-300)), n, margins, "blocks") if n and free else []
    return sorted(forced + [free[i] for i in chosen])


def visible_keys(q, k, c, scale, margins):
    """[tokens, tokens], or [kv heads, tokens, tokens] where blocks are chosen."""
    n, sparse = len(q), c.get("sparse")
    seen = causal(n, c.get("window", 0)) | (causal(n) & (np.arange(n) < c.get("first_keys", 0)))
    if not sparse:
        return seen
    seen = np.repeat(seen[None], k.shape[1], 0)
    block = sparse["block"]
    for t in range(n):
        for g in range(k.shape[1]):
            if sparse["kind"] != "infllm":
                blocks = pattern_blocks(sparse, t // block)
            elif t < sparse.get("dense_below", sparse["top_k"] * block):
                continue
            else:
                blocks = select_blocks(q, k, t, g, sparse, scale, margins)
            seen[g, t] &= np.isin(np.arange(n) // block, blocks)
    return seen


class Native:
    def __init__(self, folder):
        self.c = json.loads((pathlib.Path(folder) / "config.json").read_text())
        self.t = Tensors(folder)
        self.margins = {}
        self.layers = expand(self.c["layers"])
        self.eps = self.c.get("norm_eps", 1e-6)

    def logits(self, ids):
        """[tokens, vocab] of one sequence from position 0."""
        c = self.c
        x = self.t["embedding.weight"][list(ids)] * c.get("embedding_scale", 1)
        for i, layer in enumerate(self.layers):
            x = self.layer(i, f"layers.{i}.", layer, x)
        x = rms(x, self.t["final_norm.weight"] if c.get("final_norm_weight", True) else None, self.eps)
        head = self.t["embedding.weight" if c.get("tied_head", False) else "head.weight"]
        y = c.get("logit_scale", 1) * x @ head.T
        cap = c.get("final_soft_cap", 0)
        return cap * np.tanh(y / cap) if cap else y

    def layer(self, i, p, c, x):
        eps, norms = c.get("norm_eps", self.eps), c.get("norms", "pre")
        norm = lambda y, name: rms(y, self.t[f"{p}{name}.weight"] if c.get("norm_weights", True) else None, eps)
        mix = lambda y: sum(self.mixer(i, f"{p}mixers.{m}.", mixer, y, eps) for m, mixer in enumerate(c["mixers"]))
        ffn = lambda y: self.ffn(p + "ffn.", c["ffn"], y)
        if c.get("parallel", False):
            y = norm(x, "mixer_norm")
            return x + mix(y) + ffn(y)
        for part, f in (("mixer", mix), ("ffn", ffn)):
            normed = x if norms == "post" else norm(x, part + "_norm")
            y = f(normed)
            if norms != "pre":
                y = norm(y, part + "_post_norm")
            r = c.get(part + "_residual", {})
            x = r.get("residual", 1) * (normed if r.get("of_norm", False) else x) + r.get("branch", 1) * y
        return x

    def linear(self, x, name, bias=False):
        y = x @ self.t[name + ".weight"].T
        return y + self.t[name + ".bias"] if bias else y

    # --- mixers

    def mixer(self, i, p, c, x, eps):
        q, k, v = self.heads(p, c, x, eps)
        return (self.softmax if c["kind"] == "softmax" else self.lightning)(i, p, c, x, q, k, v, eps)

    def heads(self, p, c, x, eps):
        """q, k, v [tokens, heads, head_dim], q and k normed."""
        kv_heads, bias, kind = c.get("kv_heads", c["heads"]), c.get("bias", "none"), c.get("qk_norm", "none")
        heads = []
        for name, n in (("q", c["heads"]), ("k", kv_heads), ("v", kv_heads)):
            y = self.linear(x, p + name, bias != "none")
            if kind != "none" and name != "v":
                y = y.reshape(len(x), n if kind == "head" else 1, -1)
                y = rms(y, self.t[f"{p}{name}_norm.weight"], c.get("qk_norm_eps", eps))
            heads.append(y.reshape(len(x), n, c["head_dim"]))
        return heads

    def softmax(self, i, p, c, x, q, k, v, eps):
        gates = self.head_gates(p, c, x, q)
        if "rope" in c:
            q, k = (rotate(a, *rotation(c["rope"], c["head_dim"])) for a in (q, k))
        if "log_scale" in c:
            q = q * np.maximum(1, np.log(np.arange(len(x)) + 1) / math.log(c["log_scale"]))[:, None, None]
        scale = c.get("scale", c["head_dim"] ** -0.5)
        visible = visible_keys(q, k, c, scale, self.margins)
        out = attention(q, k, v, visible, self.t[p + "sinks"] if c.get("sinks") else None, scale, c.get("soft_cap", 0))
        out = (out * gates[..., None]).reshape(len(x), -1)
        if c.get("output_gate"):
            out = out * sigmoid(self.linear(x, p + "gate"))
        return self.linear(out, p + "o", c.get("bias") == "qkvo")

    def head_gates(self, p, c, x, q):
        """[tokens, heads]: 0 for a head that is not in use."""
        gates, router = np.ones((len(x), c["heads"])), c.get("head_router")
        if not router:
            return gates
        shared, top_k = router.get("shared", 0), router["top_k"]
        gates[:, shared:] = 0
        if router.get("score", "router") == "query_norm":
            for t, norms in enumerate((q[:, shared:] ** 2).sum(-1)):
                gates[t, shared + best(np.log(norms), top_k, self.margins, "query norms")] = 1
            return gates
        stages = np.ones((len(x), 2))
        if shared:
            stages = 2 * softmax(self.linear(x, p + "head_stages"))
            gates[:, :shared] = stages[:, :1] * shared * softmax(self.linear(x, p + "shared_heads"))
        for t, logits in enumerate(self.linear(x, p + "routed_heads")):
            ids = best(logits, top_k, self.margins, "heads")
            weights = softmax(logits)[ids]
            gates[t, shared + ids] = stages[t, 1] * top_k * weights / weights.sum()
        return gates

    def lightning(self, i, p, c, x, q, k, v, eps):
        act = ACTIVATIONS[c.get("activation", "identity")]
        q, k, v = act(q), act(k), ACTIVATIONS[c.get("v_activation", "identity")](v)
        if "rope" in c:
            q, k = (rotate(a, *rotation(c["rope"], c["head_dim"])) for a in (q, k))
        if c.get("lrpe"):
            angle = angles(len(x), self.t[p + "theta"].reshape(c["heads"], -1))
            q, k = (np.concatenate([a * np.cos(angle), a * np.sin(angle)], -1) for a in (q, k))
        out = recurrence(q, k, v, self.slopes(i, c), c.get("scale", c["head_dim"] ** -0.5)).reshape(len(x), -1)
        groups = {"none": 0, "head": c["heads"], "group": c.get("norm_groups"), "all": 1}[c.get("norm", "none")]
        if groups:
            weight = self.t[p + "norm.weight"] if c.get("norm_weight", True) else None
            out = rms(out, weight, c.get("norm_eps", eps), groups)
        gate = c.get("gate", "none")
        if gate != "none":
            w = self.linear(x, p + "gate")
            out = out * (sigmoid(w) if gate == "sigmoid" else w)
        return self.linear(out, p + "o")

    def slopes(self, i, c):
        if "slopes" in c:
            return np.array(c["slopes"])
        table = slopes(c["heads"])
        if c["slope_rule"] == "alibi":
            return table
        return table * (1 - (i - c.get("slope_layer_offset", 0)) / max(len(self.layers) - 1, 1) + 1e-5)

    # --- feed-forward layers

    def ffn(self, p, c, x):
        if c["kind"] == "dense":
            return self.glu(p, x, c)
        logits = self.linear(x, p + "router", c.get("router_bias"))
        out = np.zeros_like(x)
        for t in range(len(x)):
            for e, w in self.chosen(p, c, logits[t]):
                out[t] += w * self.glu(f"{p}experts.{e}.", x[t], c, expert=True)
        if "shared" not in c:
            return out
        shared, join = self.glu(p + "shared.", x, c), c["shared"].get("join", "added")
        if join == "added":
            return out + shared
        share = sigmoid(self.linear(x, p + "shared_gate"))
        return out * (1 - share if join == "blended" else 1) + share * shared

    def glu(self, p, x, c, expert=False):
        """A routed expert has the config's limit, addend and biases, a shared one has not."""
        bias, limit = expert and c.get("bias"), c.get("limit", 0) if expert else 0
        gate, up = self.linear(x, p + "gate", bias), self.linear(x, p + "up", bias)
        if limit:
            gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit)
        up = up + (c.get("up_add", 0) if expert else 0)
        return self.linear(ACTIVATIONS[c.get("activation", "silu")](gate) * up, p + "down", bias)

    def chosen(self, p, c, logits):
        """[(expert, weight)] of one token."""
        kind, groups = c.get("score", "softmax"), c.get("groups", 1)
        score = {"softmax": softmax, "sigmoid": sigmoid, "softmax_of_chosen": lambda x: x}[kind](logits)
        name, order, allowed = "experts", logits, np.arange(len(logits))
        if c.get("choice_bias") or groups > 1:
            name, order = "experts' scores", score + (self.t[p + "choice_bias"] if c.get("choice_bias") else 0)
        if groups > 1:
            parts = order.reshape(groups, -1)
            kept = best(np.sort(parts, -1)[:, -2:].sum(-1), c.get("top_groups", groups), self.margins, "groups")
            allowed = allowed.reshape(groups, -1)[np.sort(kept)].ravel()
        ids = allowed[best(order[allowed], c["top_k"], self.margins, name)]
        weights = softmax(logits[ids]) if kind == "softmax_of_chosen" else score[ids]
        if c.get("renormalise"):
            weights = weights / (weights.sum() + 1e-20)
        return zip(ids, c.get("scale", 1) * weights)
