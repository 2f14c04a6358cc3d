"""The tiny checkpoints with mixtures of experts: Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE, gpt-oss.

Every layer is a mixture, as GGUF's forms of these families want it. GGUF stacks the experts of a layer; routers and
biases stay F32 there.
"""
import re

import numpy as np

from gguf_types import MXFP4_VALUES, mxfp4
from tiny_families import Family


class Moe(Family):
    """experts.E.{gate,up,down} beside a router; a shared expert where shared_intermediate is given."""

    tied = False
    experts, top_k, moe_intermediate, shared_intermediate = 8, 2, 64, 0
    block, names = "mlp.", ("gate_proj", "up_proj", "down_proj")

    def __init__(self, options):
        super().__init__(options)
        if options.wide:
            self.moe_intermediate = 256
            self.shared_intermediate = self.shared_intermediate and 256

    def ffn_weights(self, r, layer, p):
        p += self.block
        tensors = {p + "gate.weight": r.matrix(self.experts, self.hidden, 2.0)}
        for e in range(self.experts):
            tensors.update(self.expert(r, f"{p}experts.{e}."))
        return tensors

    def expert(self, r, p):
        shapes = ((self.moe_intermediate, self.hidden), (self.moe_intermediate, self.hidden),
                  (self.hidden, self.moe_intermediate))
        return {f"{p}{name}.weight": r.matrix(*shape) for name, shape in zip(self.names, shapes)}

    # --- GGUF

    def gguf_keys(self):
        return super().gguf_keys() + [("expert_count", "u32", self.experts), ("expert_used_count", "u32", self.top_k)]

    def gguf_weights(self):
        tensors, stacks = [], {}
        for name, array in self.weights().items():
            expert = re.fullmatch(r"model\.layers\.(\d+)\.\S+\.experts\.\d+\.(\w+)\.weight", name)
            if expert:
                form = ("gate", "up", "down")[self.names.index(expert[2])]
                stacks.setdefault(f"blk.{expert[1]}.ffn_{form}_exps.weight", []).append(array)
                continue
            name, array = self.gguf_tensor(name, array)
            tensors.append((name, array, "F32" if "ffn_gate_inp" in name else None))
        return tensors + [(name, np.stack(arrays), None) for name, arrays in stacks.items()]


class Mixtral(Moe):
    name, architecture, gguf = "mixtral", "MixtralForCausalLM", "llama"
    permuted = True
    theta, eps, intermediate = 1e6, 1e-5, 64
    block, names = "block_sparse_moe.", ("w1", "w3", "w2")
    more_gguf_names = {"block_sparse_moe.gate": "ffn_gate_inp"}

    def __init__(self, options):
        super().__init__(options)
        self.intermediate = self.moe_intermediate

    def config(self):
        value = super().config()
        del value["head_dim"]  # hidden / heads
        return {**value, "num_local_experts": self.experts, "num_experts_per_tok": self.top_k, "sliding_window": None,
                "output_router_logits": False}


class Qwen2Moe(Moe):
    name, architecture, gguf = "qwen2_moe", "Qwen2MoeForCausalLM", "qwen2moe"
    qkv_bias, theta, eps = True, 1e6, 1e-6
    top_k, moe_intermediate, shared_intermediate = 3, 32, 96
    norm_topk = False
    more_gguf_names = {"mlp.gate": "ffn_gate_inp", "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
                       "mlp.shared_expert.gate_proj": "ffn_gate_shexp", "mlp.shared_expert.up_proj": "ffn_up_shexp",
                       "mlp.shared_expert.down_proj": "ffn_down_shexp"}

    def config(self):
        value = super().config()
        del value["head_dim"]  # hidden / heads
        return {**value, **self.moe_config(), "shared_expert_intermediate_size": self.shared_intermediate}

    def moe_config(self):
        return {"num_experts": self.experts, "num_experts_per_tok": self.top_k,
                "moe_intermediate_size": self.moe_intermediate, "norm_topk_prob": self.norm_topk,
                "decoder_sparse_step": 1, "mlp_only_layers": [], "use_sliding_window": False, "sliding_window": 4096,
                "max_window_layers": self.layers, "output_router_logits": False}

    def ffn_weights(self, r, layer, p):
        tensors = super().ffn_weights(r, layer, p)
        p += self.block
        if self.shared_intermediate:
            tensors.update(self.dense_ffn(r, p + "shared_expert.", self.shared_intermediate))
            tensors[p + "shared_expert_gate.weight"] = r.matrix(1, self.hidden, 2.0)
        return tensors

    def gguf_tensor(self, name, array):
        name, array = super().gguf_tensor(name, array)
        return name, array[0] if "ffn_gate_inp_shexp" in name else array

    def gguf_keys(self):
        keys = super().gguf_keys() + [("expert_feed_forward_length", "u32", self.moe_intermediate)]
        if self.shared_intermediate:
            keys.append(("expert_shared_feed_forward_length", "u32", self.shared_intermediate))
        return keys


class Qwen3Moe(Qwen2Moe):
    name, architecture, gguf = "qwen3_moe", "Qwen3MoeForCausalLM", "qwen3moe"
    qkv_bias, qk_norm, head_dim = False, True, 32
    experts, top_k, shared_intermediate, norm_topk = 16, 4, 0, True

    def config(self):
        return {**Family.config(self), **self.moe_config()}


class Olmoe(Moe):
    name, architecture, gguf = "olmoe", "OlmoeForCausalLM", "olmoe"
    kv_heads, top_k, intermediate, moe_intermediate = 4, 3, 32, 32
    more_gguf_names = {"mlp.gate": "ffn_gate_inp"}

    def __init__(self, options):
        super().__init__(options)
        self.intermediate = self.moe_intermediate

    def config(self):
        value = super().config()
        del value["head_dim"]  # hidden / heads
        return {**value, "num_experts": self.experts, "num_experts_per_tok": self.top_k, "norm_topk_prob": False,
                "clip_qkv": None, "output_router_logits": False}

    def mixer_weights(self, r, layer, p, norm):
        tensors = super().mixer_weights(r, layer, p, norm)
        # Over all heads at once, not per head.
        tensors[p + "self_attn.q_norm.weight"] = norm(self.heads * self.head_dim)
        tensors[p + "self_attn.k_norm.weight"] = norm(self.kv_heads * self.head_dim)
        return tensors


class GptOss(Moe):
    """Experts are MXFP4 in every format; gate and up alternate row by row in the safetensors form."""

    name, architecture, gguf = "gpt_oss", "GptOssForCausalLM", "gpt-oss"
    layers, head_dim, intermediate, top_k, window = 3, 32, 64, 3, 64
    theta, eps = 150000.0, 1e-5
    more_gguf_names = {"post_attention_layernorm": "post_attention_norm", "mlp.router": "ffn_gate_inp",
                       "self_attn.sinks": "attn_sinks"}

    def __init__(self, options):
        super().__init__(options)
        self.intermediate = self.moe_intermediate

    def config(self):
        kinds = [("sliding_attention", "full_attention")[i % 2] for i in range(self.layers)]
        return {**super().config(), "attention_bias": True, "num_local_experts": self.experts,
                "num_experts_per_tok": self.top_k, "experts_per_token": self.top_k, "sliding_window": self.window,
                "layer_types": kinds, "initial_context_length": 256, "swiglu_limit": 7.0, "output_router_logits": False,
                "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": [
                    "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}}

    def rope_scaling(self):
        return {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
                "original_max_position_embeddings": 256}

    def mixer_weights(self, r, layer, p, norm):
        tensors = super().mixer_weights(r, layer, p, norm)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            rows = len(tensors[f"{p}self_attn.{name}.weight"])
            tensors[f"{p}self_attn.{name}.bias"] = r.uniform((rows,), -0.5, 0.5)
        for name in ("q_proj", "k_proj"):
            tensors[f"{p}self_attn.{name}.weight"] *= np.float32(0.5)  # yarn's factor nearly doubles the scores
        tensors[p + "self_attn.sinks"] = r.uniform((self.heads,), -1.0, 3.0)
        return tensors

    def ffn_weights(self, r, layer, p):
        p, e, n = p + "mlp.", self.experts, self.intermediate
        tensors = {p + "router.weight": r.matrix(e, self.hidden, 2.0), p + "router.bias": r.uniform((e,), -0.5, 0.5)}
        # The gain makes gates and ups reach the limit of 7.
        for name, rows, cols, gain in (("gate_up_proj", 2 * n, self.hidden, 3.0), ("down_proj", self.hidden, n, 0.25)):
            tensors.update(mxfp4_tensors(f"{p}experts.{name}", r.matrix(e * rows, cols, gain).reshape(e, rows, cols)))
            tensors[f"{p}experts.{name}_bias"] = r.uniform((e, rows), -0.5, 0.5)
        return tensors

    def gguf_weights(self):
        tensors = []
        for name, array in self.weights().items():
            expert = re.fullmatch(r"model\.layers\.(\d+)\.mlp\.experts\.(gate_up|down)_proj_(\w+)", name)
            if not expert:
                name, array = self.gguf_tensor(name if name.endswith((".weight", ".bias")) else name + ".weight", array)
                tensors.append((name, array, "F32" if "ffn_gate_inp" in name else None))
                continue
            layer, half, kind = expert.groups()
            if kind == "blocks":
                blocks = array
                continue
            if kind == "scales":
                array = mxfp4_values(blocks, array)
            suffix, dtype = ("bias", "F32") if kind == "bias" else ("weight", "MXFP4")
            parts = {"gate": array[:, 0::2], "up": array[:, 1::2]} if half == "gate_up" else {"down": array}
            tensors += [(f"blk.{layer}.ffn_{form}_exps.{suffix}", part, dtype) for form, part in parts.items()]
        return tensors

    def gguf_keys(self):
        return super().gguf_keys() + [("expert_feed_forward_length", "u32", self.intermediate)]


def mxfp4_tensors(name, array):
    """[..., cols] as blocks of 32 values, two neighbours a byte, and one scale a block."""
    coded = np.frombuffer(mxfp4(array), np.uint8).reshape(*array.shape[:-1], array.shape[-1] // 32, 17)
    scales, halves = coded[..., 0], coded[..., 1:]
    quants = np.concatenate([halves & 15, halves >> 4], axis=-1)  # GGUF pairs i with i + 16
    return {f"{name}_blocks": quants[..., 0::2] | quants[..., 1::2] << 4, f"{name}_scales": scales.copy()}


def mxfp4_values(blocks, scales):
    """The f32 values of mxfp4_tensors()."""
    quants = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:-1], 32)
    values = np.ldexp(MXFP4_VALUES[quants].astype(np.float32), scales[..., None].astype(np.int32) - 128)
    return values.reshape(*blocks.shape[:-2], -1)


FAMILIES = {"mixtral": Mixtral, "qwen2_moe": Qwen2Moe, "qwen3_moe": Qwen3Moe, "olmoe": Olmoe, "gpt_oss": GptOss}
