"""The tiny hybrids: MiniMax-Text-01 and -M1, MiniCPM-SALA and MiniCPM4, Ring-linear, TransNormerLLM, MoH-LLaMA3.

Blocks, windows and thresholds are so small that a few hundred tokens take every path.
"""
import numpy as np

from tiny_families import Family, Llama, Random
from tiny_moe import Mixtral
from tiny_tokenizer import BOS, EOS, SPECIALS, VOCAB


class MiniMax(Mixtral):
    """Original names and keys; lightning, lightning, softmax, lightning."""

    name, architecture, gguf = "minimax_text_01", "MiniMaxText01ForCausalLM", "minimax-01"
    permuted = False
    layers, head_dim, theta, eps = 4, 32, 1e7, 1e-5
    kinds = (0, 0, 1, 0)  # 1: softmax
    shared_size = 0
    more_gguf_names = {"block_sparse_moe.gate": "ffn_gate_inp", "self_attn.qkv_proj": "attn_qkv",
                       "self_attn.output_gate": "attn_gate", "self_attn.norm": "attn_norm_2",
                       "self_attn.out_proj": "attn_output"}

    def alpha(self):
        return (2.0 * self.layers) ** 0.25

    def rotary_dim(self):
        return self.head_dim // 2

    def config(self):
        factors = {f"layernorm_{kind}_{factor}": value for kind in ("full_attention", "linear_attention", "mlp")
                   for factor, value in (("alpha", self.alpha()), ("beta", 1.0))}
        return {**super().config(), **factors, "head_dim": self.head_dim, "attn_type_list": list(self.kinds),
                "rotary_dim": self.rotary_dim(), "postnorm": True, "shared_intermediate_size": self.shared_size,
                "shared_moe_mode": "sigmoid"}

    def mixer_weights(self, r, layer, p, norm):
        if self.kinds[layer]:
            return super().mixer_weights(r, layer, p, norm)
        p, width = p + "self_attn.", self.heads * self.head_dim
        return {p + "qkv_proj.weight": r.matrix(3 * width, self.hidden, 2.0),  # rows: heads, then q, k, v
                p + "output_gate.weight": r.matrix(width, self.hidden),
                p + "norm.weight": norm(width),
                p + "out_proj.weight": r.matrix(self.hidden, width)}

    def gguf_keys(self):
        return super().gguf_keys() + [("residual_scale", "f32", self.alpha()),
                                      ("full_attention_interval", "u32", self.kinds.index(1) + 1)]


class MiniMaxM1(MiniMax):
    name, architecture = "minimax_m1", "MiniMaxM1ForCausalLM"
    shared_size = [0]


class MiniMaxNative(MiniMax):
    """Keys of the transformers class, which rotates whole heads and norms with an eps of 1e-6."""

    name, architecture, gguf = "minimax", "MiniMaxForCausalLM", None
    eps = 1e-6

    def rotary_dim(self):
        return self.head_dim

    def config(self):
        factors = {"full_attn_alpha_factor": 1.75, "full_attn_beta_factor": 0.75, "linear_attn_alpha_factor": 1.5,
                   "linear_attn_beta_factor": 1.25, "mlp_alpha_factor": 2.0, "mlp_beta_factor": 0.875}
        return {**Mixtral.config(self), **factors, "head_dim": self.head_dim, "rotary_dim": self.rotary_dim(),
                "layer_types": [("linear_attention", "full_attention")[k] for k in self.kinds], "block_size": 256}


class MiniCpm(Family):
    """What SALA and MiniCPM4 share: scaled embeddings, branches and logits, block-sparse softmax attention."""

    tied = False
    heads, kv_heads, hidden, intermediate, eps = 8, 2, 128, 128, 1e-6
    embedding_bound = 0.1
    scale_emb, scale_depth = 12, 1.4

    def config(self):
        return {**super().config(), "scale_emb": self.scale_emb, "scale_depth": self.scale_depth,
                "dim_model_base": self.hidden // 4, "sparse_config": {
                    "kernel_size": 8, "kernel_stride": 4, "init_blocks": 1, "block_size": 16, "window_size": 32,
                    "topk": 4, "use_nope": False, "dense_len": 128}}


class MiniCpmSala(MiniCpm):
    name, architecture, gguf = "minicpm_sala", "MiniCPMSALAForCausalLM", None
    layers = 4
    mixers = ("minicpm4", "lightning-attn", "lightning-attn", "minicpm4")

    def config(self):
        return {**super().config(), "mixer_types": list(self.mixers), "lightning_nh": self.heads,
                "lightning_nkv": self.heads, "lightning_head_dim": self.head_dim, "lightning_scale": "1/sqrt(d)",
                "lightning_use_rope": True, "attn_use_rope": False, "qk_norm": True, "use_output_gate": True,
                "use_output_norm": True, "attn_use_output_gate": True}

    def mixer_weights(self, r, layer, p, norm):
        width = self.heads * self.head_dim
        if self.mixers[layer] == "minicpm4":
            tensors = super().mixer_weights(r, layer, p, norm)
            tensors[p + "self_attn.o_gate.weight"] = r.matrix(width, self.hidden)
            return tensors
        p += "self_attn."
        tensors = {f"{p}{n}.weight": r.matrix(width, self.hidden) for n in ("q_proj", "k_proj", "v_proj", "z_proj")}
        tensors.update({p + "q_norm.weight": norm(self.head_dim), p + "k_norm.weight": norm(self.head_dim),
                        p + "o_norm.weight": norm(width), p + "o_proj.weight": r.matrix(self.hidden, width)})
        return tensors


class MiniCpm4(MiniCpm):
    """GGUF has its layers dense, whatever their length."""

    name, architecture, gguf = "minicpm", "MiniCPMForCausalLM", "minicpm"
    permuted = True
    layers = 2

    def factors(self):
        n = self.head_dim // 2
        return [1.0 + 0.0625 * i for i in range(n)], [1.0 + 0.5 * i for i in range(n)]

    def config(self):
        value = super().config()
        if self.options.dense_attention:
            del value["sparse_config"]
        del value["head_dim"]  # hidden / heads
        return {**value, "auto_map": {"AutoModelForCausalLM": "modeling_minicpm.MiniCPMForCausalLM"}}

    def rope_scaling(self):
        short, long = self.factors()
        return {"rope_type": "longrope", "short_factor": short, "long_factor": long,
                "original_max_position_embeddings": self.context}

    def gguf_keys(self):
        return super().gguf_keys() + [
            ("embedding_scale", "f32", self.scale_emb),
            ("residual_scale", "f32", self.scale_depth / self.layers**0.5),
            ("logit_scale", "f32", 4.0),
        ]

    def gguf_tables(self):
        short, long = self.factors()
        return {"rope_factors_long.weight": np.array(long, np.float32),
                "rope_factors_short.weight": np.array(short, np.float32)}


class Bailing(Family):
    """Linear, softmax, linear, softmax; the first FFN dense, then 16 experts in 4 groups and a shared one."""

    name, architecture, gguf = "bailing_moe_linear", "BailingMoeLinearV2ForCausalLM", None
    embedding_name = "model.word_embeddings.weight"
    tied, layers, head_dim, theta, eps = False, 4, 32, 600000.0, 1e-6
    period, norm_groups = 2, 2
    experts, groups, top_groups, top_k, moe_intermediate, dense_layers = 16, 4, 2, 4, 32, 1

    def config(self):
        value = {
            **super().config(), "layer_group_size": self.period, "group_norm_size": self.norm_groups,
            "linear_silu": False, "use_qk_norm": True, "partial_rotary_factor": 0.5, "use_bias": False,
            "use_qkv_bias": False, "num_experts": self.experts, "num_experts_per_tok": self.top_k,
            "n_group": self.groups, "topk_group": self.top_groups, "num_shared_experts": 1,
            "moe_intermediate_size": self.moe_intermediate,
            "moe_shared_expert_intermediate_size": self.moe_intermediate, "first_k_dense_replace": self.dense_layers,
            "score_function": "sigmoid", "router_dtype": "fp32",
            "moe_router_enable_expert_bias": True, "norm_topk_prob": True, "routed_scaling_factor": 2.5,
        }
        if self.options.slope_layer_offset is not None:
            value["slope_layer_offset"] = self.options.slope_layer_offset
        return value

    def mixer_weights(self, r, layer, p, norm):
        p, width = p + "attention.", self.heads * self.head_dim
        linear = (layer + 1) % self.period != 0
        kv = width if linear else self.kv_heads * self.head_dim
        tensors = {p + "query_key_value.weight": r.matrix(width + 2 * kv, self.hidden, 2.0),
                   p + "query_layernorm.weight": norm(self.head_dim), p + "key_layernorm.weight": norm(self.head_dim)}
        if linear:
            tensors[p + "g_proj.weight"] = r.matrix(width, self.hidden)
            tensors[p + "g_norm.weight"] = norm(width)
        tensors[p + "dense.weight"] = r.matrix(self.hidden, width)
        return tensors

    def ffn_weights(self, r, layer, p):
        p += "mlp."
        if layer < self.dense_layers:
            return self.dense_ffn(r, p, self.intermediate)
        tensors = {p + "gate.weight": r.matrix(self.experts, self.hidden, 2.0),
                   p + "gate.expert_bias": r.uniform((self.experts,), -0.2, 0.2)}
        for e in range(self.experts):
            tensors.update(self.dense_ffn(r, f"{p}experts.{e}.", self.moe_intermediate))
        return {**tensors, **self.dense_ffn(r, p + "shared_experts.", self.moe_intermediate)}


class Transnormer(Family):
    """Six heads, for the slopes of other than powers of two; LRPE in the first layer."""

    name, architecture, gguf = "transnormer", "TransnormerForCausalLM", None
    tied, layers, heads, hidden, intermediate = False, 3, 6, 96, 128
    embedding_bound = 0.2  # times sqrt(hidden)

    def config(self):
        return {
            "architectures": [self.architecture],
            "model_type": self.name,
            "vocab_size": VOCAB,
            "decoder_embed_dim": self.hidden,
            "decoder_layers": self.layers,
            "decoder_attention_heads": self.heads,
            "hidden_dim": self.hidden,
            "glu_dim": self.intermediate,
            "linear_act_fun": "silu",
            "linear_use_lrpe_list": [int(i == 0) for i in range(self.layers)],
            "norm_type": "simplermsnorm",
            "no_scale_embedding": False,
            "add_bos_token": False,
            "bias": False,
            "max_position_embeddings": self.context,
            "pad_token_id": SPECIALS.index(BOS),
            "bos_token_id": SPECIALS.index(BOS),
            "eos_token_id": SPECIALS.index(EOS),
            "torch_dtype": "float32",
        }

    def weights(self):
        r = Random(self.options.seed)
        tensors = {self.embedding_name: r.uniform((VOCAB, self.hidden), -self.embedding_bound, self.embedding_bound)}
        for i in range(self.layers):
            p = f"model.layers.{i}.token_mixer."
            tensors[p + "qkvu_proj.weight"] = r.matrix(4 * self.hidden, self.hidden, 2.0)
            if i == 0:
                head_dim = self.hidden // self.heads
                theta = 10000.0 ** (-2 / self.hidden * np.arange(self.hidden))
                theta = theta.reshape(self.heads, 1, head_dim) * r.uniform((self.heads, 1, head_dim), 0.75, 1.25)
                tensors[p + "lrpe.theta"] = theta.astype(np.float32)
            tensors[p + "out_proj.weight"] = r.matrix(self.hidden, self.hidden)
            p = f"model.layers.{i}.channel_mixer."
            tensors[p + "l1.weight"] = r.matrix(self.intermediate, self.hidden)
            tensors[p + "l2.weight"] = r.matrix(self.intermediate, self.hidden)
            tensors[p + "l3.weight"] = r.matrix(self.hidden, self.intermediate)
        tensors["lm_head.weight"] = r.matrix(VOCAB, self.hidden, 2.0)
        return tensors


class MohLlama3(Llama):
    """Half of the heads shared, a quarter of all chosen among the others. The key "moh" is ours: the published
    checkpoint is known by its vocabulary, which a tiny one cannot have."""

    gguf, tied, theta, heads, kv_heads, hidden = None, False, 500000.0, 8, 4, 128
    takes_rope_scaling = False

    def config(self):
        names = {"AutoConfig": "configuration_llama.LlamaConfig", "AutoModel": "modeling_llama.LlamaModel",
                 "AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"}
        moh = {"shared_heads": self.heads // 2, "top_k": self.heads // 4, "score": "query_norm"}
        return {**super().config(), "auto_map": names, "moh": moh}


FAMILIES = {
    "minimax_text_01": MiniMax, "minimax_m1": MiniMaxM1, "minimax": MiniMaxNative, "minicpm_sala": MiniCpmSala,
    "minicpm4": MiniCpm4, "bailing_moe_linear": Bailing, "transnormer": Transnormer, "moh_llama3": MohLlama3,
}
