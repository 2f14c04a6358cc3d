#!/usr/bin/env python3
"""Exports logits of the reference on tiny checkpoints: transformers, f32 on the CPU, or tests/support/hybrid_oracle.py.

    export_golden.py --out tests/models/golden/logits [CASE ...]

Every case is a checkpoint of make_tiny_model.py; the file holds its arguments, the token ids, and the logits at
some of their positions. The families that the oracle has are computed by it too, even where transformers gives the
golden, and the largest difference is printed with the smallest margin of every choice (of experts, heads, blocks).
Needs torch and transformers for all cases but those of the oracle alone; tests/models/golden/logits/README.md says
which were used and why.
"""
import argparse
import base64
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tools")]
import hybrid_oracle  # noqa: E402
from make_tiny_model import FAMILIES  # noqa: E402
from tiny_moe import mxfp4_values  # noqa: E402

N_TOKENS = 160  # longer than every tiny window and than two attention tiles
POSITIONS = (0, 1, 15, 16, 63, 64, 65, 100, 127, 128, 159)
# Families with blocks to choose: the dense prefix ends at 127.
SPARSE_TOKENS, SPARSE_POSITIONS = 240, (0, 1, 16, 64, 126, 127, 128, 143, 144, 191, 239)

# name -> arguments of make_tiny_model.py beside --format, --out; the reference loads the safetensors folder
CASES = {
    "llama": ["--family", "llama", "--seed", "1"],
    "llama-untied": ["--family", "llama", "--seed", "2", "--untied"],
    "llama-linear": ["--family", "llama", "--seed", "3", "--rope-scaling", "linear"],
    "llama-llama3": ["--family", "llama", "--seed", "4", "--rope-scaling", "llama3"],
    "llama-yarn": ["--family", "llama", "--seed", "5", "--rope-scaling", "yarn"],
    "mistral": ["--family", "mistral", "--seed", "6"],
    "qwen2": ["--family", "qwen2", "--seed", "7"],
    "qwen2-yarn": ["--family", "qwen2", "--seed", "8", "--rope-scaling", "yarn"],
    "qwen3": ["--family", "qwen3", "--seed", "9"],
    "gemma2": ["--family", "gemma2", "--seed", "10"],
    "gemma3": ["--family", "gemma3", "--seed", "11"],
    "phi3": ["--family", "phi3", "--seed", "12"],
    "phi3-long": ["--family", "phi3", "--seed", "13", "--original-context", "64"],
    "mixtral": ["--family", "mixtral", "--seed", "59"],
    "qwen2_moe": ["--family", "qwen2_moe", "--seed", "53"],
    "qwen3_moe": ["--family", "qwen3_moe", "--seed", "64"],
    "olmoe": ["--family", "olmoe", "--seed", "52"],
    "gpt_oss": ["--family", "gpt_oss", "--seed", "58"],
    "minimax_text_01": ["--family", "minimax_text_01", "--seed", "70"],
    "minimax_m1": ["--family", "minimax_m1", "--seed", "83"],
    "minimax": ["--family", "minimax", "--seed", "73"],
    "bailing_moe_linear": ["--family", "bailing_moe_linear", "--seed", "167"],
    "bailing_moe_linear-offset0": ["--family", "bailing_moe_linear", "--seed", "115", "--slope-layer-offset", "0"],
    "transnormer": ["--family", "transnormer", "--seed", "41"],
    "moh_llama3": ["--family", "moh_llama3", "--seed", "77"],
    "minicpm_sala": ["--family", "minicpm_sala", "--seed", "78"],
    "minicpm4": ["--family", "minicpm4", "--seed", "64"],
    "minicpm4-dense": ["--family", "minicpm4", "--seed", "45", "--dense-attention"],
    "heddle": ["--family", "heddle", "--seed", "120"],
}
MOE = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss")  # golden by transformers, checked by the oracle
ORACLE = ("minimax_text_01", "minimax_m1", "minimax", "bailing_moe_linear", "transnormer", "moh_llama3",
          "minicpm_sala", "minicpm4", "heddle")  # golden by the oracle
SPARSE = ("minicpm_sala", "minicpm4")


def argument(arguments, name):
    return arguments[arguments.index(name) + 1]


def formats(name, arguments):
    """That the golden holds for; GGUF's form of MiniCPM4 has no block-sparse layers."""
    gguf = FAMILIES[argument(arguments, "--family")].gguf and name != "minicpm4"
    return ["safetensors", "gguf"] if gguf else ["safetensors"]


def token_ids(seed, vocab, n):
    raw = np.random.PCG64(seed + 1000).random_raw(n)
    return [3 + int(x % np.uint64(vocab - 3)) for x in raw]


def load_gpt_oss(folder):
    """transformers unpacks MXFP4 with GPU kernels only: f32 weights are given instead."""
    import safetensors.torch
    import torch
    import transformers

    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    del config["quantization_config"]
    state = safetensors.torch.load_file(pathlib.Path(folder) / "model.safetensors")
    for name in [n for n in state if n.endswith("_blocks")]:
        scales = state.pop(name.replace("_blocks", "_scales")).numpy()
        values = torch.from_numpy(mxfp4_values(state.pop(name).numpy(), scales))
        state[name.removesuffix("_blocks")] = values.transpose(1, 2).contiguous()
    config = transformers.GptOssConfig(**config, attn_implementation="eager")
    model = transformers.GptOssForCausalLM(config).float()
    model.load_state_dict(state)
    return model


def load_minimax(folder):
    """With the published slopes: the class has 1 - l / (L - 1 + 1e-5), which moves the last layer's by a third."""
    import torch
    import transformers
    from transformers.models.minimax import modeling_minimax

    def slope_rate(self, device=None):
        rate = hybrid_oracle.layer_slopes(self.num_attention_heads, self.layer_idx, self.num_hidden_layers)
        return torch.tensor(rate, dtype=torch.float32, device=device)[:, None, None]

    modeling_minimax.MiniMaxLightningAttention.get_slope_rate = slope_rate
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def transformers_logits(family, folder, ids):
    import torch
    import transformers

    torch.manual_seed(0)
    if family in ("gpt_oss", "minimax"):
        model = {"gpt_oss": load_gpt_oss, "minimax": load_minimax}[family](folder)
    else:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager")
    if family in MOE or family == "minimax":
        model.set_experts_implementation("eager")
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0].numpy()


def transformers_name():
    import torch
    import transformers

    return f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, f32, eager"


def export(name, out):
    arguments = CASES[name]
    family, report = argument(arguments, "--family"), ""
    n, positions = (SPARSE_TOKENS, SPARSE_POSITIONS) if family in SPARSE else (N_TOKENS, POSITIONS)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-B", ROOT / "tools/make_tiny_model.py", *arguments, "--format", "safetensors",
                        "--out", folder], check=True, stdout=subprocess.DEVNULL)
        vocab = json.loads((pathlib.Path(folder) / "config.json").read_text())["vocab_size"]
        ids = token_ids(int(argument(arguments, "--seed")), vocab, n)
        logits, own = None, None
        if family not in ORACLE or family == "minimax":
            logits = transformers_logits(family, folder, ids)
        if family in MOE or family in ORACLE:
            oracle = hybrid_oracle.load(folder)
            own = oracle.logits(ids)
            report = f", margins { {k: float(f'{v:.2g}') for k, v in oracle.margins.items()} }"
            if logits is not None:
                report += f", oracle and transformers differ by {np.abs(own - logits).max() / np.abs(own).max():.1e}"
    chosen = own if family in ORACLE else logits
    rows = np.ascontiguousarray(chosen[list(positions)], "<f4")
    assert rows.shape == (len(positions), vocab) and np.isfinite(rows).all()
    value = {
        "case": name,
        "make": arguments,
        "formats": formats(name, arguments),
        "reference": "tests/support/hybrid_oracle.py, f64" if family in ORACLE else transformers_name(),
        "ids": ids,
        "positions": list(positions),
        "vocab": vocab,
        "logits_f32_base64": base64.b64encode(rows.tobytes()).decode(),
    }
    (out / f"{name}.json").write_text(json.dumps(value) + "\n")
    print(f"{name}: largest |logit| {np.abs(rows).max():.3f}{report}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path, help="directory; made if absent")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"default: all of {', '.join(CASES)}")
    args = parser.parse_args()
    unknown = [c for c in args.cases if c not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]}; known: {', '.join(CASES)}")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.cases or CASES:
        export(name, args.out)


if __name__ == "__main__":
    sys.exit(main())
