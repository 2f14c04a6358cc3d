"""The families of the tiny checkpoints: shapes, random weights, config.json, GGUF keys and names.

Here the dense decoders; tiny_moe.py has the mixtures of experts, tiny_hybrids.py the hybrids.
Weights carry their Hugging Face names and row order; GGUF's differences (names, rows of llama's rotated heads,
norms of Gemma + 1) are applied when a .gguf file is written.
"""
import re

import numpy as np

from tiny_tokenizer import BOS, EOS, VOCAB, SPECIALS


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


class Family:
    """A family's tiny model. Subclasses say what is special; `wide` makes every row a multiple of 256."""

    name = "llama"
    architecture = "LlamaForCausalLM"
    gguf = "llama"
    layers, heads, kv_heads = 2, 4, 2
    head_dim, hidden, intermediate = 16, 64, 128
    context = 8192
    eps = 1e-5
    theta = 10000.0
    tied = True
    window = 0
    activation = "silu"
    qkv_bias = qk_norm = post_norms = fused = False
    norm_low, norm_high = 0.8, 1.2
    norm_add = 0.0  # what the formula adds to the stored norm
    embedding_name, embedding_bound = "model.embed_tokens.weight", 1.0
    more_gguf_names = {}
    takes_rope_scaling = False
    permuted = False  # GGUF has the rows of rotated heads in llama's order

    def __init__(self, options):
        self.options = options
        if options.untied:
            self.tied = False
        if options.wide:
            self.heads, self.head_dim, self.hidden, self.intermediate = 4, 64, 256, 512

    # --- weights

    def weights(self):
        r = Random(self.options.seed)
        norm = lambda n: r.uniform((n,), self.norm_low - self.norm_add, self.norm_high - self.norm_add)
        tensors = {self.embedding_name: r.uniform((VOCAB, self.hidden), -self.embedding_bound, self.embedding_bound)}
        for i in range(self.layers):
            p = f"model.layers.{i}."
            tensors[p + "input_layernorm.weight"] = norm(self.hidden)
            tensors.update(self.mixer_weights(r, i, p, norm))
            tensors[p + "post_attention_layernorm.weight"] = norm(self.hidden)
            if self.post_norms:
                tensors[p + "pre_feedforward_layernorm.weight"] = norm(self.hidden)
                tensors[p + "post_feedforward_layernorm.weight"] = norm(self.hidden)
            tensors.update(self.ffn_weights(r, i, p))
        tensors["model.norm.weight"] = norm(self.hidden)
        if not self.tied:
            tensors["lm_head.weight"] = r.matrix(VOCAB, self.hidden, 2.0)
        return tensors

    def mixer_weights(self, r, layer, p, norm):
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        tensors = {}
        projections = {"q_proj": r.matrix(q, self.hidden, 2.0), "k_proj": r.matrix(kv, self.hidden, 2.0),
                       "v_proj": r.matrix(kv, self.hidden)}
        if self.fused:
            tensors[p + "self_attn.qkv_proj.weight"] = np.concatenate([*projections.values()])
        else:
            tensors.update({f"{p}self_attn.{n}.weight": a for n, a in projections.items()})
        if self.qkv_bias:
            for n, rows in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
                tensors[f"{p}self_attn.{n}.bias"] = r.uniform((rows,), -0.5, 0.5)
        if self.qk_norm:
            tensors[p + "self_attn.q_norm.weight"] = norm(self.head_dim)
            tensors[p + "self_attn.k_norm.weight"] = norm(self.head_dim)
        tensors[p + "self_attn.o_proj.weight"] = r.matrix(self.hidden, q)
        return tensors

    def ffn_weights(self, r, layer, p):
        return self.dense_ffn(r, p + "mlp.", self.intermediate)

    def dense_ffn(self, r, p, width):
        gate, up = r.matrix(width, self.hidden), r.matrix(width, self.hidden)
        down = r.matrix(self.hidden, width)
        if self.fused:
            return {p + "gate_up_proj.weight": np.concatenate([gate, up]), p + "down_proj.weight": down}
        return {p + "gate_proj.weight": gate, p + "up_proj.weight": up, p + "down_proj.weight": down}

    # --- config.json

    def config(self):
        value = {
            "architectures": [self.architecture],
            "model_type": self.name,
            "vocab_size": VOCAB,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.context,
            "rms_norm_eps": self.eps,
            "rope_theta": self.theta,
            "hidden_act": self.activation,
            "tie_word_embeddings": self.tied,
            "attention_bias": False,
            "bos_token_id": SPECIALS.index(BOS),
            "eos_token_id": SPECIALS.index(EOS),
            "torch_dtype": "float32",
        }
        scaling = self.rope_scaling()
        if scaling:
            value["rope_scaling"] = scaling
        return value

    def rope_scaling(self):
        kind = self.options.rope_scaling
        if kind == "linear":
            return {"rope_type": "linear", "factor": 4.0}
        if kind == "llama3":
            return {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 512}
        if kind == "yarn":
            return {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 1024}
        return None

    # --- GGUF

    def rotary_dim(self):
        return self.head_dim

    def gguf_keys(self):
        """(key without the architecture, kind, value)."""
        keys = [
            ("block_count", "u32", self.layers),
            ("context_length", "u32", self.context),
            ("embedding_length", "u32", self.hidden),
            ("feed_forward_length", "u32", self.intermediate),
            ("attention.head_count", "u32", self.heads),
            ("attention.head_count_kv", "u32", self.kv_heads),
            ("attention.key_length", "u32", self.head_dim),
            ("attention.value_length", "u32", self.head_dim),
            ("attention.layer_norm_rms_epsilon", "f32", self.eps),
            ("rope.freq_base", "f32", self.theta),
            ("rope.dimension_count", "u32", self.rotary_dim()),
            ("vocab_size", "u32", VOCAB),
        ]
        if self.window:
            keys.append(("attention.sliding_window", "u32", self.window))
        scaling = self.rope_scaling()
        if scaling and scaling["rope_type"] in ("linear", "yarn"):
            keys += [("rope.scaling.type", "string", scaling["rope_type"]),
                     ("rope.scaling.factor", "f32", scaling["factor"])]
            if scaling["rope_type"] == "yarn":
                keys.append(("rope.scaling.original_context_length", "u32",
                             scaling["original_max_position_embeddings"]))
        return keys

    def gguf_tables(self):
        """Tensors that only GGUF has."""
        scaling = self.rope_scaling()
        if scaling and scaling["rope_type"] == "llama3":
            return {"rope_freqs.weight": llama3_factors(self.theta, self.rotary_dim(), scaling)}
        return {}

    def gguf_weights(self):
        """(name, array, type or None for the one asked for) of all tensors as GGUF has them."""
        return [(*self.gguf_tensor(name, array), None) for name, array in self.weights().items()]

    def gguf_tensor(self, name, array):
        array = self.gguf_rows(name, array)
        if self.norm_add and array.ndim == 1 and name.endswith("norm.weight"):
            array = array + np.float32(self.norm_add)
        layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        names = {**GGUF_NAMES, **(POST_NORM_NAMES if self.post_norms else {}), **self.more_gguf_names}
        return (f"blk.{layer[1]}.{names[layer[2]]}.{layer[3]}" if layer else names[name]), array

    def gguf_rows(self, name, array):
        if self.permuted and re.search(r"[qk]_proj\.(weight|bias)$", name):
            heads = self.heads if "q_proj" in name else self.kv_heads
            return interleave(array, heads)
        return array


class Llama(Family):
    permuted = takes_rope_scaling = True

    def __init__(self, options):
        if options.rope_scaling == "llama3":
            self.theta = 500000.0
        super().__init__(options)


class Mistral(Family):
    name, architecture, permuted = "mistral", "MistralForCausalLM", True
    window, tied, takes_rope_scaling = 64, False, True

    def config(self):
        return {**super().config(), "sliding_window": self.window}


class Qwen2(Family):
    name, architecture, gguf = "qwen2", "Qwen2ForCausalLM", "qwen2"
    qkv_bias, theta, eps, takes_rope_scaling = True, 1e6, 1e-6, True

    def config(self):
        return {**super().config(), "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 2}


class Qwen3(Family):
    name, architecture, gguf = "qwen3", "Qwen3ForCausalLM", "qwen3"
    qk_norm, head_dim, theta, eps, tied = True, 32, 1e6, 1e-6, False
    takes_rope_scaling = True

    def config(self):
        return {**super().config(), "use_sliding_window": False, "sliding_window": None, "max_window_layers": 2}


class Gemma(Family):
    """What Gemma 2 and 3 share."""

    head_dim, eps = 32, 1e-6
    window, activation = 64, "gelu_pytorch_tanh"
    post_norms, norm_add = True, 1.0

    def config(self):
        return {**super().config(), "hidden_activation": self.activation, "sliding_window": self.window,
                "query_pre_attn_scalar": self.head_dim}


class Gemma2(Gemma):
    name, architecture, gguf = "gemma2", "Gemma2ForCausalLM", "gemma2"
    layers = 3
    attention_cap, final_cap = 50.0, 30.0

    def config(self):
        return {**super().config(), "attn_logit_softcapping": self.attention_cap,
                "final_logit_softcapping": self.final_cap}

    def gguf_keys(self):
        return super().gguf_keys() + [("attn_logit_softcapping", "f32", self.attention_cap),
                                      ("final_logit_softcapping", "f32", self.final_cap)]


class Gemma3(Gemma):
    name, architecture, gguf = "gemma3_text", "Gemma3ForCausalLM", "gemma3"
    layers, qk_norm, theta = 7, True, 1e6

    def config(self):
        return {**super().config(), "rope_local_base_freq": 10000.0, "sliding_window_pattern": 6}

    def rope_scaling(self):
        return {"rope_type": "linear", "factor": 8.0}  # of the layers that see all keys


class Phi3(Family):
    name, architecture, gguf = "phi3", "Phi3ForCausalLM", "phi3"
    fused, tied, head_dim, partial = True, False, 16, 0.75
    window = 100

    def config(self):
        value = super().config()
        del value["head_dim"]  # hidden / heads
        return {**value, "sliding_window": self.window, "partial_rotary_factor": self.partial,
                "original_max_position_embeddings": self.options.original_context, "pad_token_id": 0}

    def rotary_dim(self):
        return int(self.head_dim * self.partial)

    def factors(self):
        n = self.rotary_dim() // 2
        short = 1.0 + 0.0625 * np.arange(n)
        long = 1.0 + 1.5 * np.arange(n)
        return short.astype(np.float32), long.astype(np.float32)  # exact in any notation

    def rope_scaling(self):
        short, long = self.factors()
        return {"type": "longrope", "rope_type": "longrope", "short_factor": short.tolist(),
                "long_factor": long.tolist()}

    def attention_factor(self):
        original = self.options.original_context
        return (1 + np.log(self.context / original) / np.log(original)) ** 0.5

    def gguf_keys(self):
        return super().gguf_keys() + [
            ("rope.scaling.original_context_length", "u32", self.options.original_context),
            ("rope.scaling.attn_factor", "f32", self.attention_factor()),
        ]

    def gguf_tables(self):
        short, long = self.factors()
        return {"rope_factors_short.weight": short, "rope_factors_long.weight": long}


FAMILIES = {"llama": Llama, "mistral": Mistral, "qwen2": Qwen2, "qwen3": Qwen3, "gemma2": Gemma2,
            "gemma3": Gemma3, "phi3": Phi3}

GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
POST_NORM_NAMES = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def interleave(a, heads):
    """GGUF llama's row order of rotated heads: the halves of each head alternate."""
    return a.reshape(heads, 2, a.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(a.shape)


def llama3_factors(theta, dim, scaling):
    """What GGUF's rope_freqs.weight holds for "llama3" scaling: divisors of the frequencies."""
    factor, low, high = scaling["factor"], scaling["low_freq_factor"], scaling["high_freq_factor"]
    context = scaling["original_max_position_embeddings"]
    wavelength = 2 * np.pi * theta ** (np.arange(0, dim, 2) / dim)
    smooth = (context / wavelength - low) / (high - low)
    middle = 1 / ((1 - smooth) / factor + smooth)
    factors = np.where(wavelength < context / high, 1.0, np.where(wavelength > context / low, factor, middle))
    return factors.astype(np.float32)
