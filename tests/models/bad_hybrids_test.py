"""A catalogue of hybrids and mixtures of experts that are wrong in one way each, in the families' formats and in
Heddle's own: refused as bad_models_test.py has it."""
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
import model_files as mf  # noqa: E402
from wrong_models import CASES, config_case, gguf_case, header_case, make_good, not_good, not_refused  # noqa: E402

FOLDERS = ("minimax_text_01", "minimax", "minicpm_sala", "minicpm4", "bailing_moe_linear", "transnormer", "moh_llama3",
           "mixtral", "olmoe", "qwen2_moe", "qwen3_moe", "gpt_oss", "heddle")
FILES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss", "minimax_text_01")
ABSENT = object()


def change(config, way, value):
    """Sets what stands at `way` ("layers.0.ffn.kind"), or takes it away."""
    *above, last = [int(part) if part.lstrip("-").isdigit() else part for part in way.split(".")]
    for part in above:
        config = config[part]
    if value is ABSENT:
        del config[last]
    else:
        config[last] = value


def cases_of(family):
    """wrong(way, value, phrase, ...): a config.json that says so. The phrase begins with the key."""
    def wrong(way, value, *phrases, name="", **more):
        def break_config(config):
            change(config, way, value)
            for key, other in more.items():
                change(config, key, other)
        shown = "absent" if value is ABSENT else repr(value)
        config_case(name or f"{family}: {way} {shown[:60]} {more or ''}", *phrases, base=family)(break_config)
    return wrong


def in_config(text):
    return "/config.json: config: " + text


def in_weights(text):
    return "/model.safetensors: tensor " + text


# --- families


def minimax_cases():
    wrong = cases_of("minimax_text_01")
    for value in ([0, 0, 1], [0, 0, 1, 0, 0], []):
        wrong("attn_type_list", value, in_config(f"attn_type_list, got {len(value)} entries, allowed 4, one per layer"))
    wrong("attn_type_list", [0, 0, 2, 0], in_config("attn_type_list[2], got 2, allowed 0 to 1"))
    wrong("attn_type_list", [0, "x", 1, 0], in_config("attn_type_list[1], got 'x', allowed integers from 0 to 1"))
    wrong("attn_type_list", "0010", in_config("attn_type_list, got '0010', allowed "))
    wrong("attn_type_list", ABSENT, in_config("attn_type_list is missing, allowed an array of 0 (linear) and 1 (softmax)"))
    wrong("attn_type_list", [0, 1, 1, 0], in_weights("'model.layers.1.self_attn.q_proj.weight' is missing"))
    wrong("rotary_dim", 15, in_config("rotary_dim, got 15, allowed even numbers from 2 to 32"))
    wrong("rotary_dim", 64, in_config("rotary_dim, got 64, allowed 1 to 32"))
    wrong("num_experts_per_tok", 9, in_config("num_experts_per_tok, got 9, allowed 1 to 8"))
    wrong("shared_intermediate_size", [0, 64], in_config("shared_intermediate_size, got different sizes, allowed one"))
    wrong("shared_intermediate_size", 64, in_weights("'model.layers.0.shared_mlp.gate_proj.weight' is missing, allowed "))
    wrong("shared_moe_mode", "softmax", in_config("shared_moe_mode, got 'softmax', allowed sigmoid"),
          shared_intermediate_size=64)
    wrong("layernorm_mlp_alpha", -1, in_config("layernorm_mlp_alpha, got -1, allowed 0 to 1e+06"))
    wrong("linear_norm_eps", 0, in_config("linear_norm_eps, got 0, allowed numbers above 0, up to 1"))

    wrong = cases_of("minimax")
    wrong("layer_types", ["full_attention"], in_config("layer_types, got 1 entries, allowed 4, one per layer"))
    wrong("layer_types.1", "mamba", in_config("layer_types, got 'mamba', allowed linear_attention, full_attention"))
    wrong("layer_types.1", 3, in_config("layer_types[1], got 3, allowed a string"))
    wrong("full_attn_alpha_factor", "x", in_config("full_attn_alpha_factor, got 'x', allowed numbers"))
    wrong("num_local_experts", ABSENT, in_config("num_local_experts is missing"))


def minicpm_cases():
    wrong = cases_of("minicpm_sala")
    wrong("mixer_types", ["minicpm4"], in_config("mixer_types, got 1 entries, allowed 4, one per layer"))
    wrong("mixer_types.1", "mamba", in_config("mixer_types, got 'mamba', allowed minicpm4, lightning-attn"))
    wrong("mixer_types.1", 3, in_config("mixer_types[1], got 3, allowed a string"))
    wrong("mixer_types", ABSENT, in_config("mixer_types is missing, allowed minicpm4, lightning-attn for each layer"))
    wrong("mixer_types.0", "lightning-attn", in_weights("'model.layers.0.self_attn."))
    wrong("lightning_nkv", 2, in_config("lightning_nkv, got 2, allowed lightning_nh = 8"))
    wrong("lightning_nh", 0, in_config("lightning_nh, got 0, allowed 1 to 65536"))
    wrong("lightning_scale", "2", in_config("lightning_scale, got '2', allowed 1/sqrt(d), 1/d, 1"))
    wrong("lightning_head_dim", 32, in_weights("'model.layers.1.self_attn.q_proj.weight': shape, got [128, 128], allowed "))
    wrong("lightning_head_dim", 15, in_config("lightning_head_dim, got 15, allowed even numbers from 2 to 1024"))

    for family in ("minicpm_sala", "minicpm4"):
        wrong = cases_of(family)
        for key, value, rule in (
                ("block_size", 24, "multiples of 16"), ("block_size", 0, "16 to 1073741824"),
                ("kernel_stride", 3, "powers of two that divide block_size = 16"), ("kernel_stride", 0, "1 to 1073741824"),
                ("kernel_size", 6, "multiples of kernel_stride = 4"), ("topk", 0, "1 to 1073741824"),
                ("topk", 1, "2 or more: the first and the own block are among them"),
                ("init_blocks", -1, "0 to 1073741824"), ("window_size", -1, "0 to 1073741824"),
                ("dense_len", "8k", "integers from 0 to 1073741824")):
            wrong(f"sparse_config.{key}", value, in_config(f"sparse_config.{key}, got {value!r}, allowed {rule}"))
        wrong("sparse_config", [1], in_config("sparse_config, got an array of 1, allowed an object"))
        wrong("scale_depth", 0, in_config("scale_depth, got 0, allowed 1e-06 to 1e+06"))


def bailing_cases():
    wrong = cases_of("bailing_moe_linear")
    wrong("layer_group_size", 0, in_config("layer_group_size, got 0, allowed 1 to 10000"))
    wrong("layer_group_size", 3, in_weights("'model.layers.1.attention.query_key_value.weight': shape, got [256, 64]"))
    wrong("group_norm_size", 3, in_config("group_norm_size, got 3, allowed divisors of num_attention_heads = 4"))
    wrong("group_norm_size", 8, in_config("group_norm_size, got 8, allowed divisors of num_attention_heads = 4"))
    wrong("group_norm_size", 0, in_config("group_norm_size, got 0, allowed 1 to "))
    wrong("n_group", 3, in_config("n_group, got 3, allowed divisors of num_experts = 16"))
    wrong("n_group", 32, in_config("n_group, got 32, allowed 1 to 16"))
    wrong("topk_group", 5, in_config("topk_group, got 5, allowed 1 to 4"))
    wrong("num_experts_per_tok", 5, in_config("num_experts_per_tok, got 5, allowed "), topk_group=1)
    wrong("num_experts_per_tok", 17, in_config("num_experts_per_tok, got 17, allowed 1 to 16"))
    wrong("slope_layer_offset", 2, in_config("slope_layer_offset, got 2, allowed 0 to 1"))
    wrong("score_function", "tanh", in_config("score_function, got 'tanh', allowed sigmoid, softmax"))
    wrong("use_qkv_bias", True, in_config("use_qkv_bias, got true, allowed false"))
    wrong("first_k_dense_replace", 5, in_config("first_k_dense_replace, got 5, allowed 0 to 4"))
    wrong("moe_intermediate_size", ABSENT, in_config("moe_intermediate_size is missing"))
    wrong("num_shared_experts", 0, in_weights("'model.layers.1.mlp.shared_experts.gate_proj.weight': place, got one that "))


def transnormer_cases():
    wrong = cases_of("transnormer")
    wrong("gate_dim", 16, in_config("gate_dim, got 16, allowed none: TransNormerLLM 3 is not read"))
    wrong("hidden_dim", 100, in_config("hidden_dim, got 100, allowed even multiples of decoder_attention_heads = 6"))
    wrong("decoder_attention_heads", 7, in_config("hidden_dim, got 96, allowed even multiples of decoder_attention_heads = 7"))
    wrong("linear_use_lrpe_list", [1], in_config("linear_use_lrpe_list, got 1 entries, allowed 3, one per layer"))
    wrong("linear_use_lrpe_list", [2, 0, 0], in_config("linear_use_lrpe_list[0], got 2, allowed 0 to 1"))
    wrong("linear_use_lrpe_list", [0, 0, 0], in_weights("'model.layers.0.token_mixer.lrpe.theta': place, got one that has no"))
    wrong("linear_use_lrpe_list", [1, 1, 0], in_weights("'model.layers.1.token_mixer.lrpe.theta' is missing"))
    wrong("glu_dim", 0, in_config("glu_dim, got 0, allowed -1 (decoder_embed_dim) or a width"))
    wrong("norm_type", "layernorm", in_config("norm_type, got 'layernorm', allowed simplermsnorm"))
    wrong("linear_act_fun", "relu", in_config("linear_act_fun, got 'relu', allowed silu, swish, none"))
    wrong("bias", True, in_config("bias, got true, allowed false"))
    wrong("decoder_layers", ABSENT, in_config("decoder_layers is missing"))


def moh_cases():
    wrong = cases_of("moh_llama3")
    wrong("moh", ABSENT, in_config("auto_map, got code of the checkpoint's own, allowed no auto_map"),
          name="moh_llama3: auto_map alone is never run dense")
    wrong("moh.shared_heads", 8, in_config("moh.shared_heads, got 8, allowed 0 to 7"))
    wrong("moh.shared_heads", ABSENT, in_config("moh.shared_heads is missing, allowed 0 to 7"))
    wrong("moh.top_k", 5, in_config("moh.top_k, got 5, allowed 1 to 4"))
    wrong("moh.top_k", 0, in_config("moh.top_k, got 0, allowed 1 to 4"))
    wrong("moh.score", "router", in_config("moh.score, got 'router', allowed query_norm"))
    wrong("moh.heads", 3, in_config("moh.heads, got an unknown key, allowed shared_heads, top_k, score"))
    wrong("moh", True, in_config("moh, got true, allowed an object"))


def expert_cases():
    wrong = cases_of("mixtral")
    for value in (9, 0):
        wrong("num_experts_per_tok", value, in_config(f"num_experts_per_tok, got {value}, allowed 1 to 8"))
    wrong("num_experts_per_tok", ABSENT, in_config("num_experts_per_tok is missing, allowed 1 to 8"))
    wrong("num_local_experts", ABSENT, in_config("num_local_experts is missing, allowed 1 to 65536"))
    for value in (7, 9):
        wrong("num_local_experts", value, in_weights("'model.layers.0.block_sparse_moe.gate.weight': shape, got [8, 64], "))
    cases_of("olmoe")("clip_qkv", 8.0, in_config("clip_qkv, got 8.0, allowed null"))
    wrong = cases_of("qwen2_moe")
    wrong("decoder_sparse_step", 0, in_config("decoder_sparse_step, got 0, allowed 1 to 10000"))
    wrong("decoder_sparse_step", 2, in_weights("'model.layers.0.mlp.gate_proj.weight' is missing"))
    wrong("mlp_only_layers", [5], in_config("mlp_only_layers[0], got 5, allowed 0 to 1"))
    wrong("shared_expert_intermediate_size", 64, in_weights("'model.layers.0.mlp.shared_expert.gate_proj.weight': shape, got "))
    cases_of("qwen3_moe")("num_experts", 0, in_config("num_experts, got 0, allowed 1 to 65536"))
    wrong = cases_of("gpt_oss")
    wrong("num_experts_per_tok", 9, in_config("num_experts_per_tok, got 9, allowed 1 to 8"))
    wrong("sliding_window", 0, in_config("sliding_window, got 0, allowed 1 to "))
    wrong("layer_types.0", "chunked_attention", in_config("layer_types, got 'chunked_attention', allowed full_attention, "))
    wrong("rope_theta", 1, in_config("rope_theta, got 1, allowed numbers above 1 with yarn"))
    wrong("swiglu_limit", 0, in_config("swiglu_limit, got 0, allowed 0.001 to 1e+06"))
    wrong("quantization_config.quant_method", "gptq", in_config("quantization_config.quant_method, got 'gptq', allowed no "))


def expert_tensor_cases():
    def tensors(name, family, *phrases):
        return header_case(f"{family}: {name}", *phrases, base=family)

    w2 = "model.layers.1.block_sparse_moe.experts.{}.w2.weight"
    tensors("an expert less", "mixtral", f"tensor '{w2.format(3)}' is missing, allowed shape [64, 64]")(
        lambda st: st.drop(w2.format(3)))
    tensors("an expert of another shape", "mixtral", f"'{w2.format(3)}': shape, got [32, 128], allowed [64, 64]")(
        lambda st: st.entries[w2.format(3)].update(shape=[32, 128]))
    tensors("an expert more", "mixtral", f"'{w2.format(8)}': place, got one that has no place in family mixtral")(
        lambda st: st.add(w2.format(8), "F32", [64, 64], 64 * 64 * 4))
    tensors("a dense FFN beside the experts", "mixtral", "'model.layers.1.mlp.up_proj.weight': place, got one that has no ")(
        lambda st: st.add("model.layers.1.mlp.up_proj.weight", "F32", [64, 64], 64 * 64 * 4))
    name = "model.layers.0.mlp.shared_expert_gate.weight"
    tensors("no gate of the shared expert", "qwen2_moe", f"tensor '{name}' is missing, allowed shape [1, 64]")(
        lambda st, name=name: st.drop(name))

    p = "model.layers.0.mlp.experts."
    tensors("no scales", "gpt_oss", f"tensor '{p}gate_up_proj_scales' is missing, allowed shape [8, 128, 2]")(
        lambda st: st.drop(p + "gate_up_proj_scales"))
    tensors("no blocks", "gpt_oss", f"tensor '{p}gate_up_proj' is missing, allowed shape [8, 128, 64]")(
        lambda st: st.drop(p + "gate_up_proj_blocks"))
    tensors("neither", "gpt_oss", f"tensor '{p}gate_up_proj' is missing, allowed shape [8, 128, 64]")(
        lambda st: st.drop(p + "gate_up_proj_blocks", p + "gate_up_proj_scales"))
    tensors("scales of another shape", "gpt_oss", f"'{p}down_proj_scales': shape, got [8, 128, 1], allowed [8, 64, 2]")(
        lambda st: st.entries[p + "down_proj_scales"].update(shape=[8, 128, 1]))
    tensors("blocks of 8 bytes", "gpt_oss", f"'{p}down_proj_blocks': shape, got [8, 64, 4, 8], allowed [..., n, 16]")(
        lambda st: st.entries[p + "down_proj_blocks"].update(shape=[8, 64, 4, 8]))
    tensors("experts of another shape", "gpt_oss", f"'{p}down_proj': shape, got [8, 128, 32], allowed [8, 64, 64]")(
        lambda st: [st.entries[p + "down_proj_blocks"].update(shape=[8, 128, 1, 16]),
                    st.entries[p + "down_proj_scales"].update(shape=[8, 128, 1])] and None)
    tensors("scales alone", "gpt_oss", f"'{p}other_scales': place, got one that has no place in family gpt_oss")(
        lambda st: st.add(p + "other_scales", "U8", [8], 8))
    tensors("blocks alone", "gpt_oss", f"tensor '{p}other_scales' is missing, allowed shape [2]")(
        lambda st: st.add(p + "other_blocks", "U8", [2, 16], 32))
    tensors("no sinks", "gpt_oss", "tensor 'model.layers.0.self_attn.sinks' is missing, allowed shape [4]")(
        lambda st: st.drop("model.layers.0.self_attn.sinks"))
    name = "model.layers.1.mlp.experts.down_proj_bias"
    tensors("no biases of the experts", "gpt_oss", f"tensor '{name}' is missing, allowed shape [8, 64]")(
        lambda st, name=name: st.drop(name))


def gguf_cases():
    def file(name, family, *phrases):
        return gguf_case(f"{family}: {name}", *phrases, base="gguf " + family)

    def number(family, key, value, *phrases):
        file(f"{key} {value}", family, *phrases)(lambda m: m.set(key, mf.U32, "I", value))
    used, count = "llama.expert_used_count", "llama.expert_count"
    file("no " + used, "mixtral", f"config: {used} is missing, allowed 1 to 8")(lambda m: m.keys.pop(used) and None)
    file("no " + count, "mixtral", "tensor 'blk.0.ffn_gate.weight' is missing")(lambda m: m.keys.pop(count) and None)
    for value in (0, 9):
        number("mixtral", used, value, f"config: {used}, got {value}, allowed 1 to 8")
    number("mixtral", count, 7, "tensor 'blk.0.ffn_gate_inp.weight': shape, got [8, 64], allowed [7, 64]")
    number("mixtral", count, 65537, f"config: {count}, got 65537, allowed 0 to 65536")
    experts = "blk.0.ffn_up_exps.weight"
    for dims, got in (([64, 32, 16], "[16, 32, 64]"), ([64, 512], "[512, 64]")):
        file(f"experts of {got}", "mixtral", f"tensor '{experts}': shape, got {got}, allowed [8, 64, 64]")(
            lambda m, dims=dims: m.tensors[experts].__setitem__(0, dims))
    file("no experts", "mixtral", f"tensor '{experts}' is missing, allowed shape [8, 64, 64]")(
        lambda m: m.tensors.pop(experts) and None)
    number("qwen2_moe", "qwen2moe.expert_feed_forward_length", 48,
           "tensor 'blk.0.ffn_gate_exps.weight': shape, got [8, 32, 64], allowed [8, 48, 64]")
    number("qwen2_moe", "qwen2moe.expert_shared_feed_forward_length", 64,
           "tensor 'blk.0.ffn_gate_shexp.weight': shape, got [96, 64], allowed [64, 64]")
    file("no count of experts", "qwen2_moe", "config: qwen2moe.expert_count is missing")(
        lambda m: m.keys.pop("qwen2moe.expert_count") and None)
    file("no count of used experts", "qwen3_moe", "config: qwen3moe.expert_used_count is missing, allowed 1 to 16")(
        lambda m: m.keys.pop("qwen3moe.expert_used_count") and None)
    number("olmoe", "olmoe.expert_used_count", 9, "config: olmoe.expert_used_count, got 9, allowed 1 to 8")
    file("no sinks", "gpt_oss", "tensor 'blk.0.attn_sinks.weight' is missing, allowed shape [4]")(
        lambda m: m.tensors.pop("blk.0.attn_sinks.weight") and None)
    file("flat biases", "gpt_oss", "tensor 'blk.0.ffn_gate_exps.bias': shape, got [512], allowed [8, 64]")(
        lambda m: m.tensors["blk.0.ffn_gate_exps.bias"].__setitem__(0, [512]))
    interval = "minimax-01.full_attention_interval"
    file("no interval", "minimax_text_01", f"config: {interval} is missing, allowed 1 to 10000")(
        lambda m: m.keys.pop(interval) and None)
    number("minimax_text_01", interval, 0, f"config: {interval}, got 0, allowed 1 to 10000")
    number("minimax_text_01", interval, 2, "tensor 'blk.1.attn_q.weight' is missing")
    file("a residual scale below 0", "minimax_text_01", "config: minimax-01.residual_scale, got -1, allowed 0 to 1e+06")(
        lambda m: m.set("minimax-01.residual_scale", mf.F32, "f", -1.0))


# --- Heddle's own format


def native_mixer_cases():
    wrong = cases_of("heddle")

    def mixer(layer, key, value, text, **kw):
        wrong(f"layers.{layer}.mixers.0.{key}", value, in_config(f"layers[{layer}].mixers[0].{key}{text}"), **kw)
    mixer(0, "kind", "mamba", ", got 'mamba', allowed softmax, linear")
    mixer(0, "kind", ABSENT, " is missing, allowed softmax, linear")
    mixer(0, "slope_rule", "linear", ", got 'linear', allowed alibi, alibi_by_layer")
    wrong("layers.0.mixers.0.slope_rule", ABSENT, in_config("layers[0].mixers[0].slopes is missing, allowed an array, or "))
    mixer(4, "slopes", [1.0], ", got 1 numbers, allowed 4, one per head")
    mixer(4, "slopes", "alibi", ", got 'alibi', allowed an array of numbers")
    mixer(4, "slopes", [0.5, 0.5, 0.5, -1], ", got -1, allowed numbers from 0 to 50")
    mixer(4, "norm_groups", 3, ", got 3, allowed divisors of heads = 4")
    mixer(4, "norm_groups", ABSENT, " is missing, allowed 1 to 4")
    for value in (3, 8):
        mixer(1, "kv_heads", value, f", got {value}, allowed divisors of heads = 4")
    mixer(1, "head_dim", 15, ", got 15, allowed even numbers from 2 to 1024")
    mixer(1, "scale", 0, ", got 0, allowed 1e-06 to 1e+06")
    mixer(5, "window", 0, ", got 0, allowed 1 to 1073741824")
    mixer(5, "windw", 48, ", got an unknown key, allowed kind, heads, ")
    wrong("layers.6.mixers.0.window", ABSENT, in_config("layers[6].mixers[0].first_keys, got 4, allowed 0 without a window"))
    wrong("layers.6.mixers.0.sparse", {"kind": "power", "block": 16},
          in_config("layers[6].mixers[0].window, got 32, allowed absent beside sparse"))
    mixer(3, "log_scale", 1, ", got 1, allowed 2 to 1073741824")
    wrong("layers.2.mixers.0.rope", {}, in_config("layers[2].mixers[0].lrpe, got true, allowed false with rope"))
    wrong("layers.0.mixers.0.rope", {"theta": 1}, in_config("layers[0].mixers[0].rope.theta, got an unknown key, allowed "))
    mixer(8, "head_router.top_k", 7, ", got 7, allowed 1 to 6")
    mixer(8, "head_router.shared", 8, ", got 8, allowed 0 to 7")
    mixer(8, "head_router.experts", 8, ", got an unknown key, allowed shared, top_k, score")
    mixer(10, "sparse.kind", "butterfly", ", got 'butterfly', allowed strided, dilated, power, neighbourhood, infllm")
    mixer(10, "sparse.block", 24, ", got 24, allowed multiples of 16 from 16 to 65536")
    mixer(10, "sparse.block", 0, ", got 0, allowed 16 to 65536")
    mixer(10, "sparse.block", ABSENT, " is missing, allowed 16 to 65536")
    mixer(10, "sparse.local", 0, ", got 0, allowed 1 to 1048576")
    mixer(10, "sparse.step", 2, ", got an unknown key, allowed kind, block, local")
    mixer(11, "sparse.step", 0, ", got 0, allowed 1 to 1048576")
    mixer(13, "sparse.stride", 3, ", got 3, allowed powers of two that divide block = 16")
    mixer(13, "sparse.kernel", 6, ", got 6, allowed multiples of stride = 4")
    mixer(13, "sparse.top_k", 2, ", got 2, allowed 3 to 1048576")


def native_cases():
    wrong = cases_of("heddle")
    wrong("layers", [], in_config("layers is missing, allowed one or more"))
    wrong("layers", {}, in_config("layers, got an object, allowed an array of objects"))
    wrong("layers.0", 3, in_config("layers[0], got 3, allowed an object"))
    wrong("layers", [{"layers": []}], in_config("layers[0].layers is missing, allowed one or more"))
    deep = {"mixers": [], "ffn": {}}
    for _ in range(5):
        deep = {"layers": [deep]}
    wrong("layers", [deep], in_config("layers[0].layers[0].layers[0].layers[0].layers[0].layers, got groups inside groups, "
                                      "allowed 4 deep"))
    wrong("layers.0.repeat", 0, in_config("layers[0].repeat, got 0, allowed 1 to 10000"))
    wrong("layers.0.repeat", 10000, in_config("layers[1].repeat, got 1, allowed up to 10000 layers in all"))
    many = {"repeat": 200, "layers": [{"repeat": 200, "layers": [{"mixers": [], "ffn": {}}]}]}
    wrong("layers", [many], in_config("layers[0].layers[0].layers[0].repeat, got 1, allowed up to 10000 layers in all"))
    wrong("layers.-1.norms", "pre", in_config("layers[16].norms, got an unknown key, allowed repeat, layers"))
    wrong("layers.16.repeat", 1, in_weights("'layers.18.mixer_norm.weight': place, got one that has no place in family heddle"))
    wrong("layers.0.mixers", [], in_config("layers[0].mixers is missing, allowed one or more"))
    wrong("layers.0.ffn", ABSENT, in_config("layers[0].ffn is missing, allowed an object"))
    wrong("layers.0.window", 3, in_config("layers[0].window, got an unknown key, allowed repeat, norm_eps, "))
    wrong("hidden", 3, in_config("hidden, got an unknown key, allowed model_type, "))
    wrong("format", 2, in_config("format, got 2, allowed 1 to 1"))
    wrong("format", ABSENT, in_config("format is missing, allowed 1 to 1"))
    wrong("layers.15.norms", "both", in_config("layers[15].parallel, got true, allowed false with other norms than pre"))
    wrong("layers.6.mixer_residual", {"of_norm": True}, in_config("layers[6].mixer_residual.of_norm, got true, allowed false"))

    def ffn(layer, key, value, text):
        wrong(f"layers.{layer}.ffn.{key}", value, in_config(f"layers[{layer}].ffn.{key}{text}"))
    ffn(0, "kind", "mlp", ", got 'mlp', allowed dense, moe")
    ffn(0, "activation", "relu2", ", got 'relu2', allowed silu, gelu, ")
    ffn(0, "top_k", 2, ", got an unknown key, allowed kind, intermediate, activation")
    ffn(1, "top_k", 9, ", got 9, allowed 1 to 8")
    ffn(1, "score", "argmax", ", got 'argmax', allowed softmax, sigmoid, softmax_of_chosen")
    ffn(3, "groups", 3, ", got 3, allowed divisors of experts = 16")
    ffn(3, "top_groups", 5, ", got 5, allowed 1 to 4")
    ffn(3, "shared.join", "mixed", ", got 'mixed', allowed added, gated, blended")


for add_cases in (minimax_cases, minicpm_cases, bailing_cases, transnormer_cases, moh_cases, expert_cases,
                  expert_tensor_cases, gguf_cases, native_mixer_cases, native_cases):
    add_cases()


class BadHybrids(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for family in FOLDERS:
            make_good(family, "--family", family, "--format", "safetensors")
        for family in FILES:
            make_good("gguf " + family, "--family", family, "--format", "gguf")

    def test_the_models_they_are_made_from_are_good(self):
        self.assertEqual(not_good(), [])

    def test_each_is_refused_with_its_reason(self):
        self.assertGreaterEqual(len(CASES), 150)
        wrong = not_refused()
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))


if __name__ == "__main__":
    unittest.main(verbosity=2)
