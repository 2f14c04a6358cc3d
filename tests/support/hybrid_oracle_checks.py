#!/usr/bin/env python3
"""hybrid_oracle.py against classes of transformers that are mended to do what the published code does, on the golden
checkpoints: prints the largest difference of any logit, relative to the largest logit. Run by hand; needs torch and
transformers. tests/models/golden/logits/README.md has the results; tools/export_golden.py checks the other families.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from transformers.models.bailing_hybrid import modeling_bailing_hybrid
from transformers.models.minimax import modeling_minimax

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tools")]
import export_golden  # noqa: E402
import hybrid_oracle  # noqa: E402

PLAIN = {"dtype": torch.float32, "attn_implementation": "eager"}


def checkpoint(name, folder):
    """(config, token ids) of a golden's checkpoint, which is made in folder."""
    arguments = export_golden.CASES[name]
    subprocess.run([sys.executable, "-B", ROOT / "tools/make_tiny_model.py", *arguments, "--format", "safetensors",
                    "--out", folder], check=True, stdout=subprocess.DEVNULL)
    config = json.loads((folder / "config.json").read_text())
    seed = int(export_golden.argument(arguments, "--seed"))
    return config, export_golden.token_ids(seed, config["vocab_size"], export_golden.N_TOKENS)


def report(what, got, want):
    print(f"{what}: {np.abs(got - want).max() / np.abs(want).max():.1e}", flush=True)


def logits(model, ids):
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0].numpy()


def moh_llama3(folder):
    """llama, whose heads are masked before o_proj as the release does it (norms over deviation, softmax, top-k)."""
    config, ids = checkpoint("moh_llama3", folder)
    shared, top_k, heads = config["moh"]["shared_heads"], config["moh"]["top_k"], config["num_attention_heads"]
    model = transformers.LlamaForCausalLM.from_pretrained(folder, **PLAIN)
    for layer in model.model.layers:
        kept = {}

        def keep(module, inputs, q, kept=kept):
            kept["q"] = q.view(*q.shape[:2], heads, -1)

        def mask(module, inputs, kept=kept):
            norms = kept["q"][:, :, shared:].norm(dim=-1)
            chosen = torch.softmax(norms / norms.std(dim=-1, keepdim=True), -1).topk(top_k).indices + shared
            used = torch.zeros(*norms.shape[:2], heads)
            used[:, :, :shared] = 1
            used.scatter_(2, chosen, 1.0)
            return ((inputs[0].view(*used.shape, -1) * used[..., None]).view_as(inputs[0]),)

        layer.self_attn.q_proj.register_forward_hook(keep)
        layer.self_attn.o_proj.register_forward_pre_hook(mask)
    report("moh_llama3 and llama with masked heads", logits(model, ids), hybrid_oracle.load(folder).logits(ids))


def minicpm4_dense(folder):
    config, ids = checkpoint("minicpm4-dense", folder)
    scaling = {**config["rope_scaling"], "factor": 1.0}
    granite = transformers.GraniteConfig(
        **{k: v for k, v in config.items() if k not in ("architectures", "model_type", "auto_map", "rope_scaling")},
        rope_scaling=scaling, embedding_multiplier=float(config["scale_emb"]),
        residual_multiplier=config["scale_depth"] / config["num_hidden_layers"] ** 0.5,
        logits_scaling=config["hidden_size"] / config["dim_model_base"],
        attention_multiplier=(config["hidden_size"] // config["num_attention_heads"]) ** -0.5,
        attn_implementation="eager")
    model = transformers.GraniteForCausalLM(granite).float()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    report("minicpm4-dense and granite", logits(model, ids), hybrid_oracle.load(folder).logits(ids))


def minimax_own_slopes(folder):
    _, ids = checkpoint("minimax", folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, **PLAIN)
    model.set_experts_implementation("eager")
    report("minimax and minimax with the class's slopes", logits(model, ids), hybrid_oracle.load(folder).logits(ids))


def minimax_original(name, folder):
    """The class gets the published slopes, the rotation of a part of each head, and the eps of the linear norm."""
    config, ids = checkpoint(name, folder)
    want = hybrid_oracle.load(folder).logits(ids)
    alpha, kinds = config["layernorm_mlp_alpha"], config["attn_type_list"]
    native = {k: v for k, v in config.items() if not k.startswith("layernorm_")}
    native.update({f"{k}_alpha_factor": alpha for k in ("full_attn", "linear_attn", "mlp")})
    native.update(model_type="minimax", architectures=["MiniMaxForCausalLM"], block_size=256,
                  layer_types=[("linear_attention", "full_attention")[kind] for kind in kinds])
    (folder / "config.json").write_text(json.dumps(native))

    n, whole = config["rotary_dim"], modeling_minimax.apply_rotary_pos_emb
    freqs = torch.tensor(hybrid_oracle.frequencies(config["rope_theta"], n))

    def partly(q, k, cos, sin, **more):
        angle = torch.arange(q.shape[2]).float()[:, None] * freqs
        angle = torch.cat([angle, angle], -1)[None]
        turned = whole(q[..., :n], k[..., :n], angle.cos(), angle.sin())
        return tuple(torch.cat([t, x[..., n:]], -1) for t, x in zip(turned, (q, k)))

    modeling_minimax.apply_rotary_pos_emb = partly
    model = export_golden.load_minimax(folder)
    model.set_experts_implementation("eager")
    for module in model.modules():
        if isinstance(module, modeling_minimax.MiniMaxLightningAttention):
            module.norm.variance_epsilon = config["rms_norm_eps"]
    report(f"{name} and minimax mended", logits(model, ids), want)
    modeling_minimax.apply_rotary_pos_emb = whole


def bailing_experts(folder):
    """One layer's FFN, in f64 but for the class's router."""
    config, _ = checkpoint("bailing_moe_linear", folder)
    oracle, p = hybrid_oracle.load(folder), "model.layers.1.mlp."
    tensor = lambda name: torch.tensor(oracle.t[p + name])
    ours = ("hidden_size", "moe_intermediate_size", "n_group", "topk_group", "num_experts_per_tok", "norm_topk_prob",
            "routed_scaling_factor")
    moe = modeling_bailing_hybrid.BailingHybridMoE(transformers.BailingHybridConfig(
        **{k: config[k] for k in ours}, num_local_experts=config["num_experts"], n_shared_experts=1)).double()
    moe.experts.config._experts_implementation = "eager"
    with torch.no_grad():
        moe.gate.weight.copy_(tensor("gate.weight"))
        moe.gate.e_score_correction_bias.copy_(tensor("gate.expert_bias"))
        for e in range(config["num_experts"]):
            halves = [tensor(f"experts.{e}.{n}_proj.weight") for n in ("gate", "up")]
            moe.experts.gate_up_proj[e].copy_(torch.cat(halves))
            moe.experts.down_proj[e].copy_(tensor(f"experts.{e}.down_proj.weight"))
        for n in ("gate_proj", "up_proj", "down_proj"):
            getattr(moe.shared_experts, n).weight.copy_(tensor(f"shared_experts.{n}.weight"))
        x = np.random.default_rng(0).normal(size=(200, config["hidden_size"]))
        got = moe(torch.tensor(x)[None])[0].numpy()
    report("an FFN of bailing_moe_linear and BailingHybridMoE", got, oracle.ffn(1, "model.layers.1.", x))


def main():
    # minimax_own_slopes comes before what mends the class.
    for check in (minimax_own_slopes, lambda f: minimax_original("minimax_text_01", f),
                  lambda f: minimax_original("minimax_m1", f), moh_llama3, minicpm4_dense, bailing_experts):
        with tempfile.TemporaryDirectory() as folder:
            check(pathlib.Path(folder))


if __name__ == "__main__":
    sys.exit(main())
