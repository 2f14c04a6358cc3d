"""An independent oracle: the hybrid and MoE families in plain numpy, f64 throughout, from a safetensors folder.
native_oracle.py has Heddle's own format.

It shares no code with the engine and is slow on purpose: linear attention is the recurrence token by token, softmax
attention has an explicit mask, blocks and experts are chosen for one token at a time. `margins` holds, per kind of
choice (experts, groups, heads, blocks), by how little the last chosen beat the first not chosen: a golden is good for
other arithmetic only where that is far above its rounding. Sources: tests/models/golden/logits/README.md.
"""
import json
import pathlib

import numpy as np

import native_oracle
from oracle_formulas import (F32, Tensors, angles, attention, best, causal, compressed, frequencies, layer_slopes,
                             recurrence, rms, rotate, sigmoid, silu, slopes, softmax, yarn)


def infllm_blocks(q, k, t, g, c, margins):
    """InfLLM-V2: the key blocks that query t reads with KV head g."""
    size, stride, block = c["kernel_size"], c["kernel_stride"], c["block_size"]
    local, own = c["window_size"] // block, t // block
    group = q.shape[1] // k.shape[1]
    # Windows whose last key is at or before t.
    fine = compressed(k[:t + 1, g], size, stride)
    coarse = compressed(k[:t + 1, g], 4 * size, 4 * stride)
    p = np.zeros(len(fine))
    for h in range(g * group, (g + 1) * group) if len(coarse) else ():
        query = q[t, h] * q.shape[2] ** -0.5
        s = coarse @ query
        p += np.exp(fine @ query - s.max() - np.log(np.exp(s - s.max()).sum()))
    ratio = block // stride
    score = np.array([p[max(b * ratio - 1, 0):(b + 1) * ratio].max(initial=0) for b in range(own + 1)])
    forced = [b for b in range(own + 1) if b < c["init_blocks"] or own - b <= local]
    free = [b for b in range(own + 1) if b not in forced]
    n = c["topk"] + local - len(forced)
    # Relative: the scores have no scale of their own.
    chosen = best(np.log(np.maximum(score[free], 1e-300)), n, margins, "blocks") if n > 0 else []
    return sorted(forced + [free[i] for i in chosen])


def infllm_visible(q, k, c, margins):
    """[kv heads, tokens, tokens]; dense for a query that sees fewer than dense_len keys."""
    n = len(q)
    visible = np.repeat(causal(n)[None], k.shape[1], 0)
    for t in range(c["dense_len"] - 1, n):
        for g in range(k.shape[1]):
            blocks = infllm_blocks(q, k, t, g, c, margins)
            visible[g, t] &= np.isin(np.arange(n) // c["block_size"], blocks)
    return visible


class Decoder:
    """Pre-norm blocks; subclasses say what is special."""

    embedding = "model.embed_tokens.weight"
    embedding_scale = branch_scale = head_divisor = 1.0

    def __init__(self, folder):
        self.c = json.loads((pathlib.Path(folder) / "config.json").read_text())
        self.t = Tensors(folder)
        self.margins = {}
        self.layers = self.c.get("num_hidden_layers")
        self.heads, self.kv_heads = self.c.get("num_attention_heads"), self.c.get("num_key_value_heads")
        self.eps = self.c.get("rms_norm_eps")
        if self.heads:
            self.dim = self.c.get("head_dim") or self.c["hidden_size"] // self.heads

    def logits(self, ids):
        """[tokens, vocab] of one sequence from position 0."""
        x = self.t[self.embedding][list(ids)] * self.embedding_scale
        for i in range(self.layers):
            x = self.layer(i, f"model.layers.{i}.", x)
        tied = self.c.get("tie_word_embeddings", False)
        return self.final_norm(x) / self.head_divisor @ self.t[self.embedding if tied else "lm_head.weight"].T

    def final_norm(self, x):
        return rms(x, self.t["model.norm.weight"], self.eps)

    def layer(self, i, p, x):
        x = x + self.branch_scale * self.mixer(i, p, rms(x, self.t[p + "input_layernorm.weight"], self.eps))
        y = rms(x, self.t[p + "post_attention_layernorm.weight"], self.eps)
        return x + self.branch_scale * self.ffn(i, p, y)

    def linear(self, x, name):
        y = x @ self.t[name + ".weight"].T
        return y + self.t[name + ".bias"] if name + ".bias" in self.t else y

    def split(self, x, heads):
        return x.reshape(len(x), heads, -1)

    def qkv(self, p, x):
        names = (("q_proj", self.heads), ("k_proj", self.kv_heads), ("v_proj", self.kv_heads))
        return [self.split(self.linear(x, f"{p}self_attn.{name}"), heads) for name, heads in names]

    def ffn(self, i, p, x):
        return self.glu(x, p + "mlp.")

    def glu(self, x, p, names=("gate_proj", "up_proj", "down_proj")):
        gate, up, down = (p + name for name in names)
        return self.linear(silu(self.linear(x, gate)) * self.linear(x, up), down)

    def experts(self, x, p, router, top_k, renormalise, names=("gate_proj", "up_proj", "down_proj")):
        """Softmax over all experts, then the top_k best."""
        out = np.zeros_like(x)
        for t, logits in enumerate(self.linear(x, p + router)):
            ids = best(logits, top_k, self.margins, "experts")
            weights = softmax(logits)[ids]
            if renormalise:
                weights = weights / weights.sum()
            for e, w in zip(ids, weights):
                out[t] += w * self.glu(x[t], f"{p}experts.{e}.", names)
        return out


class MoeDecoder(Decoder):
    """Softmax attention and experts: Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE."""

    frequencies = lambda self: (frequencies(self.c["rope_theta"], self.dim), 1.0)
    window = lambda self, i: 0

    def mixer(self, i, p, x):
        q, k, v = self.qkv(p, x)
        p += "self_attn."
        if p + "q_norm.weight" in self.t:
            q, k = self.normed(q, p + "q_norm.weight"), self.normed(k, p + "k_norm.weight")
        freqs, factor = self.frequencies()
        sinks = self.t[p + "sinks"] if p + "sinks" in self.t else None
        out = attention(rotate(q, freqs, factor), rotate(k, freqs, factor), v, causal(len(x), self.window(i)), sinks)
        return self.linear(out.reshape(len(x), -1), p + "o_proj")

    def normed(self, x, name):
        weight = self.t[name]
        if len(weight) == x.shape[2]:
            return rms(x, weight, self.eps)
        return rms(x.reshape(len(x), -1), weight, self.eps).reshape(x.shape)

    def ffn(self, i, p, x):
        if self.c["model_type"] == "mixtral":
            return self.experts(x, p + "block_sparse_moe.", "gate", self.c["num_experts_per_tok"], True,
                                ("w1", "w3", "w2"))
        p += "mlp."
        out = self.experts(x, p, "gate", self.c["num_experts_per_tok"], self.c["norm_topk_prob"])
        if p + "shared_expert_gate.weight" in self.t:
            out += sigmoid(self.linear(x, p + "shared_expert_gate")) * self.glu(x, p + "shared_expert.")
        return out


class GptOss(MoeDecoder):
    HALVES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12])  # of E2M1

    def frequencies(self):
        return yarn(self.c["rope_theta"], self.dim, self.c["rope_scaling"])

    def window(self, i):
        return self.c["sliding_window"] if self.c["layer_types"][i] == "sliding_attention" else 0

    def mxfp4(self, name):
        blocks, scales = self.t[name + "_blocks"], self.t[name + "_scales"]
        values = np.empty((*blocks.shape[:-1], 32))
        values[..., 0::2], values[..., 1::2] = self.HALVES[blocks & 15] / 2, self.HALVES[blocks >> 4] / 2
        values *= 2.0 ** (scales.astype(int) - 127)[..., None]
        return values.reshape(*blocks.shape[:-2], -1)

    def ffn(self, i, p, x):
        p += "mlp."
        gate_up, down = self.mxfp4(p + "experts.gate_up_proj"), self.mxfp4(p + "experts.down_proj")
        gate_up_bias, down_bias = self.t[p + "experts.gate_up_proj_bias"], self.t[p + "experts.down_proj_bias"]
        limit = self.c["swiglu_limit"]
        out = np.zeros_like(x)
        for t, logits in enumerate(self.linear(x, p + "router")):
            ids = best(logits, self.c["num_experts_per_tok"], self.margins, "experts")
            for e, w in zip(ids, softmax(logits[ids])):
                y = gate_up[e] @ x[t] + gate_up_bias[e]
                gate, up = np.minimum(y[0::2], limit), np.clip(y[1::2], -limit, limit)
                out[t] += w * (down[e] @ (gate * sigmoid(1.702 * gate) * (up + 1)) + down_bias[e])
        return out


class MohLlama(Decoder):
    """Mixture of heads by the norm of the query: the first heads always, the best of the others, no weights."""

    def mixer(self, i, p, x):
        q, k, v = self.qkv(p, x)
        shared, top_k = self.c["moh"]["shared_heads"], self.c["moh"]["top_k"]
        used = np.zeros((len(x), self.heads, 1))
        used[:, :shared] = 1
        for t, norms in enumerate((q[:, shared:] ** 2).sum(-1)):
            used[t, shared + best(np.log(norms), top_k, self.margins, "heads")] = 1
        freqs = frequencies(self.c["rope_theta"], self.dim)
        out = attention(rotate(q, freqs), rotate(k, freqs), v, causal(len(x))) * used
        return self.linear(out.reshape(len(x), -1), p + "self_attn.o_proj")


class MiniMax(Decoder):
    """MiniMax-Text-01, -M1, and the transformers form of both: the residual is the normed input."""

    def __init__(self, folder):
        super().__init__(folder)
        c = self.c
        if "attn_type_list" in c:
            self.linear_layers = [kind == 0 for kind in c["attn_type_list"]]
            keys = ["layernorm_linear_attention", "layernorm_full_attention", "layernorm_mlp"]
            self.factors = [(c[k + "_alpha"], c[k + "_beta"]) for k in keys]
        else:
            self.linear_layers = [kind == "linear_attention" for kind in c["layer_types"]]
            keys = ["linear_attn", "full_attn", "mlp"]
            self.factors = [(c[k + "_alpha_factor"], c[k + "_beta_factor"]) for k in keys]

    def layer(self, i, p, x):
        linear = self.linear_layers[i]
        alpha, beta = self.factors[0 if linear else 1]
        h = rms(x, self.t[p + "input_layernorm.weight"], self.eps)
        x = h * alpha + beta * (self.lightning(i, p, h) if linear else self.softmax_attention(p, h))
        alpha, beta = self.factors[2]
        h = rms(x, self.t[p + "post_attention_layernorm.weight"], self.eps)
        moe = self.experts(h, p + "block_sparse_moe.", "gate", self.c["num_experts_per_tok"], True, ("w1", "w3", "w2"))
        return h * alpha + beta * moe

    def lightning(self, i, p, x):
        p += "self_attn."
        y = silu(self.split(self.linear(x, p + "qkv_proj"), self.heads))
        q, k, v = (y[..., n * self.dim:(n + 1) * self.dim] for n in range(3))
        out = recurrence(q, k, v, layer_slopes(self.heads, i, self.layers), 1.0).reshape(len(x), -1)
        out = rms(out, self.t[p + "norm.weight"], self.c.get("linear_norm_eps", self.eps))
        return self.linear(sigmoid(self.linear(x, p + "output_gate")) * out, p + "out_proj")

    def softmax_attention(self, p, x):
        q, k, v = self.qkv(p, x)
        freqs = frequencies(self.c["rope_theta"], self.c["rotary_dim"])
        out = attention(rotate(q, freqs), rotate(k, freqs), v, causal(len(x)))
        return self.linear(out.reshape(len(x), -1), p + "self_attn.o_proj")


class MiniCpm(Decoder):
    """MiniCPM-SALA and MiniCPM4."""

    def __init__(self, folder):
        super().__init__(folder)
        c = self.c
        self.embedding_scale = c["scale_emb"]
        self.branch_scale = c["scale_depth"] / self.layers ** 0.5
        self.head_divisor = c["hidden_size"] / c["dim_model_base"]
        self.mixers = c.get("mixer_types", ["minicpm4"] * self.layers)

    def mixer(self, i, p, x):
        return (self.sparse if self.mixers[i] == "minicpm4" else self.lightning)(p, x)

    def frequencies(self):
        freqs = frequencies(self.c["rope_theta"], self.dim)
        scaling = self.c.get("rope_scaling")
        if scaling:
            assert scaling["original_max_position_embeddings"] == self.c["max_position_embeddings"]  # factor 1
            freqs = freqs / np.array(scaling["short_factor"], F32)
        return freqs

    def lightning(self, p, x):
        p += "self_attn."
        q, k, v = (self.split(self.linear(x, p + n), self.heads) for n in ("q_proj", "k_proj", "v_proj"))
        q, k = rms(q, self.t[p + "q_norm.weight"], self.eps), rms(k, self.t[p + "k_norm.weight"], self.eps)
        freqs = self.frequencies()
        out = recurrence(rotate(q, freqs), rotate(k, freqs), v, slopes(self.heads), self.dim ** -0.5)
        out = rms(out.reshape(len(x), -1), self.t[p + "o_norm.weight"], self.eps)
        return self.linear(out * sigmoid(self.linear(x, p + "z_proj")), p + "o_proj")

    def sparse(self, p, x):
        q, k, v = self.qkv(p, x)
        if self.c.get("attn_use_rope", True):
            freqs = self.frequencies()
            q, k = rotate(q, freqs), rotate(k, freqs)
        sparse = self.c.get("sparse_config")
        visible = infllm_visible(q, k, sparse, self.margins) if sparse else causal(len(x))
        out = attention(q, k, v, visible).reshape(len(x), -1)
        if self.c.get("attn_use_output_gate"):
            out = out * sigmoid(self.linear(x, p + "self_attn.o_gate"))
        return self.linear(out, p + "self_attn.o_proj")


class Bailing(Decoder):
    """Ring- and Ling-linear-2.0."""

    embedding = "model.word_embeddings.weight"

    def mixer(self, i, p, x):
        p += "attention."
        group = self.c["layer_group_size"]
        linear = (i + 1) % group != 0 and i < self.layers // group * group
        kv_heads = self.heads if linear else self.kv_heads
        y = self.split(self.linear(x, p + "query_key_value"), self.heads + 2 * kv_heads)
        q, k, v = y[:, :self.heads], y[:, self.heads:self.heads + kv_heads], y[:, self.heads + kv_heads:]
        q, k = (rms(a, self.t[f"{p}{n}_layernorm.weight"], self.eps) for a, n in ((q, "query"), (k, "key")))
        freqs = frequencies(self.c["rope_theta"], int(self.dim * self.c["partial_rotary_factor"]))
        q, k = rotate(q, freqs), rotate(k, freqs)
        if linear:
            slope = layer_slopes(self.heads, i - self.c.get("slope_layer_offset", 1), self.layers)
            out = recurrence(q, k, v, slope, self.dim ** -0.5).reshape(len(x), -1)
            out = rms(out, self.t[p + "g_norm.weight"], self.eps, groups=self.c["group_norm_size"])
            out = out * sigmoid(self.linear(x, p + "g_proj"))
        else:
            out = attention(q, k, v, causal(len(x))).reshape(len(x), -1)
        return self.linear(out, p + "dense")

    def ffn(self, i, p, x):
        p += "mlp."
        if i < self.c["first_k_dense_replace"]:
            return self.glu(x, p)
        out = np.zeros_like(x)
        for t, logits in enumerate(self.linear(x, p + "gate")):
            for e, w in self.chosen(sigmoid(logits), self.t[p + "gate.expert_bias"]):
                out[t] += w * self.glu(x[t], f"{p}experts.{e}.")
        return out + self.glu(x, p + "shared_experts.")

    def chosen(self, p, bias):
        """[(expert, weight)]: chosen with the bias inside the best groups, weighted without it."""
        groups = (p + bias).reshape(self.c["n_group"], -1)
        score = np.sort(groups, -1)[:, -2:].sum(-1)
        kept = best(score, self.c["topk_group"], self.margins, "groups")
        allowed = np.sort(np.concatenate([np.arange(groups.shape[1]) + g * groups.shape[1] for g in kept]))
        ids = allowed[best((p + bias)[allowed], self.c["num_experts_per_tok"], self.margins, "experts")]
        weights = p[ids] / (p[ids].sum() + 1e-20) if self.c["norm_topk_prob"] else p[ids]
        return zip(ids, weights * self.c["routed_scaling_factor"])


class Transnormer(Decoder):
    def __init__(self, folder):
        super().__init__(folder)
        self.layers, self.heads = self.c["decoder_layers"], self.c["decoder_attention_heads"]
        if not self.c["no_scale_embedding"]:
            self.embedding_scale = self.c["decoder_embed_dim"] ** 0.5

    def final_norm(self, x):
        return rms(x, None, 1e-6)

    def layer(self, i, p, x):
        x = x + self.mixer(i, p + "token_mixer.", rms(x, None, 1e-6))
        y = rms(x, None, 1e-6)
        p += "channel_mixer."
        return x + self.linear(self.linear(y, p + "l1") * self.linear(y, p + "l2"), p + "l3")

    def mixer(self, i, p, x):
        q, k, v, u = np.split(self.linear(x, p + "qkvu_proj"), 4, -1)
        q, k, v = silu(self.split(q, self.heads)), silu(self.split(k, self.heads)), self.split(v, self.heads)
        if self.c["linear_use_lrpe_list"][i]:
            angle = angles(len(x), self.t[p + "lrpe.theta"][:, 0])
            q, k = (np.concatenate([a * np.cos(angle), a * np.sin(angle)], -1) for a in (q, k))
        out = recurrence(q, k, v, layer_slopes(self.heads, i, self.layers), 1.0).reshape(len(x), -1)
        return self.linear(rms(out, None, 1e-6) * u, p + "out_proj")


DECODERS = {
    **dict.fromkeys(("mixtral", "qwen2_moe", "qwen3_moe", "olmoe"), MoeDecoder), "gpt_oss": GptOss, "llama": MohLlama,
    **dict.fromkeys(("minimax_text_01", "minimax_m1", "minimax"), MiniMax), "minicpm_sala": MiniCpm, "minicpm": MiniCpm,
    "bailing_moe_linear": Bailing, "transnormer": Transnormer, "heddle": native_oracle.Native,
}


def load(folder):
    """The oracle of the folder's family."""
    return DECODERS[json.loads((pathlib.Path(folder) / "config.json").read_text())["model_type"]](folder)
