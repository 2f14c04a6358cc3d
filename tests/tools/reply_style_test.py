"""What `heddle serve` makes of the chat templates that models were published with (tests/models/published_templates.py):
how each writes tool calls and thoughts. Exit status 77: a package is missing."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models"))
try:
    import published_templates as published
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

TOOLS_TEST = pathlib.Path(os.environ.get("HEDDLE_BUILD", "build")) / "tests" / "tools_test"
TEST = "ToolStyle.IsDetectedInTheTemplatesOfAFile"
# What is not listed has neither, or forms that are not read: those of Command A, Gemma 4, Falcon-H1 (Python's
# dictionaries).
WANT = {
    "deepseek_v3": "none think",
    "exaone4": "hermes think",
    "jamba": "minimax",
    "llama3_2_vision": "llama3",
    "llama4": "llama3",
    "mistral_v2v3": "mistral",
    "mistral_v3_tekken": "mistral",
    "phi_4": "none think",
    "qwen3": "hermes think",
    "qwen3_5": "hermes think",
    "qwen_25": "hermes",
}


def main():
    if published.package_version() is None:
        print("skipped: the package axolotl is not installed")
        sys.exit(77)
    templates = published.templates()
    missing = sorted(set(WANT) - set(templates))
    if missing:
        sys.exit(f"no such templates: {', '.join(missing)}")
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "templates.jsonl"
        rows = ({"name": n, "template": t, "want": WANT.get(n, "none")} for n, t in templates.items())
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        run = subprocess.run([str(TOOLS_TEST), f"--gtest_filter={TEST}"], env={**os.environ, "HEDDLE_REPLY_TEMPLATES": str(path)},
                             capture_output=True, text=True, errors="replace", check=False)
    print(f"axolotl {published.package_version()}: {len(templates)} templates")
    if run.returncode != 0 or f"[       OK ] {TEST}" not in run.stdout:
        print(run.stdout[:20000], run.stderr[-2000:], sep="\n")
        sys.exit(f"{TEST}: exit {run.returncode}")


if __name__ == "__main__":
    main()
