"""Tiny checkpoints of other families described in Heddle's own format (docs/native_format.md): the same weights under
its names. Both must give the same logits.
"""
import re

from tiny_moe import mxfp4_values

MIXER = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o", "out_proj": "o", "dense": "o", "q_norm": "q_norm",
         "k_norm": "k_norm", "query_layernorm": "q_norm", "key_layernorm": "k_norm", "output_gate": "gate",
         "o_gate": "gate", "z_proj": "gate", "g_proj": "gate", "norm": "norm", "o_norm": "norm", "g_norm": "norm"}
FFN = {"gate": "router", "router": "router", "gate_proj": "gate", "up_proj": "up", "down_proj": "down", "w1": "gate",
       "w3": "up", "w2": "down", "l1": "gate", "l2": "up", "l3": "down"}
RENAMED = [
    (r"model\.(?:embed_tokens|word_embeddings)\.", lambda m: "embedding."),
    (r"model\.norm\.", lambda m: "final_norm."),
    (r"lm_head\.", lambda m: "head."),
    (r"model\.(layers\.\d+)\.input_layernorm", lambda m: m[1] + ".mixer_norm"),
    (r"model\.(layers\.\d+)\.post_attention_layernorm", lambda m: m[1] + ".ffn_norm"),
    (r"model\.(layers\.\d+)\.(?:self_attn|attention|token_mixer)\.(sinks|lrpe\.theta)",
     lambda m: f"{m[1]}.mixers.0.{m[2].removeprefix('lrpe.')}"),
    (r"model\.(layers\.\d+)\.(?:self_attn|attention|token_mixer)\.(\w+)", lambda m: f"{m[1]}.mixers.0.{MIXER[m[2]]}"),
    (r"model\.(layers\.\d+)\.mlp\.gate\.expert_bias", lambda m: m[1] + ".ffn.choice_bias"),
    (r"model\.(layers\.\d+)\.mlp\.shared_experts\.(\w+)", lambda m: f"{m[1]}.ffn.shared.{FFN[m[2]]}"),
    (r"model\.(layers\.\d+)\.(?:mlp|block_sparse_moe|channel_mixer)\.(experts\.\d+\.)?(\w+)",
     lambda m: f"{m[1]}.ffn.{m[2] or ''}{FFN[m[3]]}"),
]


def renamed(name):
    for pattern, to in RENAMED:
        match = re.match(pattern, name)
        if match:
            return to(match) + name[match.end():]
    raise KeyError(name)


def split(name, array, c):
    """A tensor that is several of ours: {name: rows}."""
    if "qkvu_proj" in name:
        names, parts = ("q_proj", "k_proj", "v_proj", "output_gate"), array.reshape(4, -1, array.shape[1])
    elif "qkv_proj" in name:  # heads, then q, k, v
        parts = array.reshape(c["num_attention_heads"], 3, c["head_dim"], -1).swapaxes(0, 1)
        names, parts = ("q_proj", "k_proj", "v_proj"), parts.reshape(3, -1, array.shape[1])
    elif "query_key_value" in name:
        q = c["num_attention_heads"] * c["head_dim"]
        kv = (len(array) - q) // 2
        names, parts = ("q_proj", "k_proj", "v_proj"), (array[:q], array[q:q + kv], array[q + kv:])
    elif "gate_up_proj" in name:
        gate_up = {"gate_proj": array[:, 0::2], "up_proj": array[:, 1::2]}
        return {expert_name(name, "gate_up_proj", half, e): a
                for half, rows in gate_up.items() for e, a in enumerate(rows)}
    elif ".experts.down_proj" in name:
        return {expert_name(name, "down_proj", "down_proj", e): a for e, a in enumerate(array)}
    elif "lrpe.theta" in name:
        return {name: array.ravel()}
    else:
        return {name: array}
    return {re.sub(r"\w+\.weight$", n + ".weight", name): part for n, part in zip(names, parts)}


def expert_name(name, fused, half, e):
    start, end = name.split("experts." + fused)
    return f"{start}experts.{e}.{half}{end.replace('_', '.') or '.weight'}"


def unpacked(tensors):
    """MXFP4 as numbers."""
    packed = {n for n in tensors if n.endswith("_blocks")}
    plain = {n: a for n, a in tensors.items() if not n.endswith(("_blocks", "_scales"))}
    return {**plain, **{n.removesuffix("_blocks"): mxfp4_values(tensors[n], tensors[n.replace("_blocks", "_scales")])
                        for n in packed}}


# --- config.json


def softmax(c, **more):
    return {"kind": "softmax", "heads": c["num_attention_heads"], "kv_heads": c["num_key_value_heads"],
            "head_dim": c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"], **more}


def linear(c, **more):
    return {"kind": "linear", "heads": c["num_attention_heads"],
            "head_dim": c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"], **more}


def dense(c):
    return {"kind": "dense", "intermediate": c["intermediate_size"]}


def mixtral_experts(c):
    return {"kind": "moe", "experts": c["num_local_experts"], "top_k": c["num_experts_per_tok"],
            "intermediate": c["intermediate_size"], "renormalise": True}


def rope(c, **more):
    return {"rope": {"rope_theta": c["rope_theta"], **more}}


def mixtral(c):
    return [{"mixers": [softmax(c, **rope(c))], "ffn": mixtral_experts(c), "repeat": c["num_hidden_layers"]}], {}


def gpt_oss(c):
    experts = {**mixtral_experts(c), "score": "softmax_of_chosen", "router_bias": True, "bias": True,
               "activation": "quick_gelu", "limit": c["swiglu_limit"], "up_add": 1, "renormalise": False}
    layers = []
    for kind in c["layer_types"]:
        window = {"window": c["sliding_window"]} if kind == "sliding_attention" else {}
        mixer = softmax(c, bias="qkvo", sinks=True, **window, **rope(c, rope_scaling=c["rope_scaling"]))
        layers.append({"mixers": [mixer], "ffn": experts})
    return layers, {}


def minimax_text_01(c):
    partial = c["rotary_dim"] / c["head_dim"]
    residual = lambda part: {"residual": c[f"layernorm_{part}_alpha"], "branch": c[f"layernorm_{part}_beta"],
                             "of_norm": True}
    mixers = [linear(c, slope_rule="alibi_by_layer", scale=1, activation="silu", v_activation="silu", norm="all",
                     gate="sigmoid"),
              softmax(c, **rope(c, partial_rotary_factor=partial))]
    return [{"mixers": [mixers[kind]], "ffn": mixtral_experts(c), "ffn_residual": residual("mlp"),
             "mixer_residual": residual(("linear_attention", "full_attention")[kind])}
            for kind in c["attn_type_list"]], {}


def minicpm_sala(c):
    s = c["sparse_config"]
    local = s["window_size"] // s["block_size"]
    # Blocks of the window come on top of topk; the own one is another.
    sparse = {"kind": "infllm", "block": s["block_size"], "stride": s["kernel_stride"], "kernel": s["kernel_size"],
              "init_blocks": s["init_blocks"], "local_blocks": local + 1, "top_k": s["topk"] + local,
              "dense_below": s["dense_len"] - 1}
    mixers = {"minicpm4": softmax(c, output_gate=True, sparse=sparse),
              "lightning-attn": linear(c, slope_rule="alibi", qk_norm="head", norm="all", gate="sigmoid", **rope(c))}
    branch = {"branch": c["scale_depth"] / c["num_hidden_layers"] ** 0.5}
    return ([{"mixers": [mixers[kind]], "ffn": dense(c), "mixer_residual": branch, "ffn_residual": branch}
             for kind in c["mixer_types"]],
            {"embedding_scale": c["scale_emb"], "logit_scale": c["dim_model_base"] / c["hidden_size"]})


def bailing_moe_linear(c):
    experts = {"kind": "moe", "experts": c["num_experts"], "top_k": c["num_experts_per_tok"], "score": "sigmoid",
               "intermediate": c["moe_intermediate_size"], "renormalise": True, "scale": c["routed_scaling_factor"],
               "choice_bias": True, "groups": c["n_group"], "top_groups": c["topk_group"],
               "shared": {"intermediate": c["moe_shared_expert_intermediate_size"]}}
    turned = {"qk_norm": "head", **rope(c, partial_rotary_factor=c["partial_rotary_factor"])}
    mixers = [linear(c, slope_rule="alibi_by_layer", slope_layer_offset=1, norm="group", gate="sigmoid",
                     norm_groups=c["group_norm_size"], **turned), softmax(c, **turned)]
    return [{"mixers": [mixers[(i + 1) % c["layer_group_size"] == 0]],
             "ffn": dense(c) if i < c["first_k_dense_replace"] else experts} for i in range(c["num_hidden_layers"])], {}


def transnormer(c):
    c = {**c, "num_attention_heads": c["decoder_attention_heads"], "hidden_size": c["decoder_embed_dim"]}
    mixer = linear(c, slope_rule="alibi_by_layer", scale=1, activation="silu", norm="all", norm_weight=False,
                   gate="multiply")
    return ([{"mixers": [{**mixer, "lrpe": bool(lrpe)}], "norm_weights": False,
              "ffn": {"kind": "dense", "intermediate": c["glu_dim"], "activation": "identity"}}
             for lrpe in c["linear_use_lrpe_list"]],
            {"embedding_scale": c["decoder_embed_dim"] ** 0.5, "final_norm_weight": False})


def moh_llama3(c):
    router = {"shared": c["moh"]["shared_heads"], "top_k": c["moh"]["top_k"], "score": "query_norm"}
    return [{"repeat": c["num_hidden_layers"], "layers": [{"mixers": [softmax(c, head_router=router, **rope(c))],
                                                           "ffn": dense(c)}]}], {}


FORMS = {f.__name__: f for f in (mixtral, gpt_oss, minimax_text_01, minicpm_sala, bailing_moe_linear, transnormer,
                                 moh_llama3)}


def native_form(family, config, tensors):
    """(config, tensors) in the native format of a checkpoint of make_tiny_model.py."""
    layers, more = FORMS[family](config)
    native = {"model_type": "heddle", "format": 1, "vocab_size": config["vocab_size"],
              "hidden_size": config.get("hidden_size") or config["decoder_embed_dim"],
              "context": config["max_position_embeddings"], "norm_eps": config.get("rms_norm_eps", 1e-6),
              "layers": layers, **more}
    parts = {n: a for name, array in unpacked(tensors).items() for n, a in split(name, array, config).items()}
    return native, {renamed(name): array for name, array in parts.items()}
