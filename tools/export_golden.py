#!/usr/bin/env python3
"""Exports logits of the public reference (transformers, f32 on the CPU) on tiny checkpoints.

    export_golden.py --out tests/models/golden/logits [CASE ...]

Every case is a checkpoint of make_tiny_model.py; the file holds its arguments, the token ids, and the logits at
some of their positions. Needs torch and transformers; tests/models/golden/logits/README.md says which were used.
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
N_TOKENS = 160  # longer than every tiny window and than two attention tiles
POSITIONS = (0, 1, 15, 16, 63, 64, 65, 100, 127, 128, 159)

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
}


def token_ids(seed, vocab):
    raw = np.random.PCG64(seed + 1000).random_raw(N_TOKENS)
    return [3 + int(x % np.uint64(vocab - 3)) for x in raw]


def reference_logits(folder, ids):
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def export(name, out):
    import torch
    import transformers

    arguments = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-B", ROOT / "tools/make_tiny_model.py", *arguments, "--format", "safetensors",
                        "--out", folder], check=True, stdout=subprocess.DEVNULL)
        vocab = json.loads((pathlib.Path(folder) / "config.json").read_text())["vocab_size"]
        ids = token_ids(int(arguments[arguments.index("--seed") + 1]), vocab)
        logits = reference_logits(folder, ids)
    rows = np.ascontiguousarray(logits[list(POSITIONS)], "<f4")
    assert rows.shape == (len(POSITIONS), vocab) and np.isfinite(rows).all()
    value = {
        "case": name,
        "make": arguments,
        "reference": f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, f32, eager",
        "ids": ids,
        "positions": list(POSITIONS),
        "vocab": vocab,
        "logits_f32_base64": base64.b64encode(rows.tobytes()).decode(),
    }
    (out / f"{name}.json").write_text(json.dumps(value) + "\n")
    print(f"{name}: largest |logit| {np.abs(rows).max():.3f}")


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
