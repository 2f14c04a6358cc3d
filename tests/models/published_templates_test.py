"""Chat templates that models were published with render as jinja2 renders them, set up as transformers
sets it up, over the conversations of published_templates.py. Exit status 77: a package is missing.

  published_templates_test.py [FOLDER]   the *.jinja files of FOLDER (default: the axolotl package's)"""
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
try:
    import jinja2
    import published_templates as published
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

MODELS_TEST = pathlib.Path(os.environ.get("HEDDLE_BUILD", "build")) / "tests" / "models_test"
TEST = "ChatTemplateGolden.CasesOfAFileRenderAsJinja2"
MIN_TEMPLATES = 15


def main(folder=None):
    os.environ["TZ"] = "UTC"
    time.tzset()
    if folder is None and published.package_version() is None:
        print("skipped: the package axolotl is not installed")
        sys.exit(77)
    templates = published.templates(folder)
    if len(templates) < MIN_TEMPLATES:
        sys.exit(f"{len(templates)} templates found, {MIN_TEMPLATES} are needed")
    n_cases, rendered = 0, set()
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "cases.jsonl"
        with path.open("w") as out:
            for row in published.rows(templates):
                out.write(published.parity.lines([row]))
                n_cases += "input" in row
                if row.get("text"):
                    rendered.add(row["name"])
        run = subprocess.run([str(MODELS_TEST), f"--gtest_filter={TEST}"], env={**os.environ, "HEDDLE_CHAT_TEMPLATE_CASES": str(path)},
                             capture_output=True, text=True, errors="replace", check=False)
    source = folder or f"axolotl {published.package_version()}"
    print(f"{source}, jinja2 {jinja2.__version__}: {len(templates)} templates, {n_cases} cases")
    print("refused whatever the conversation:", ", ".join(sorted(set(templates) - rendered)) or "none")
    if run.returncode != 0 or f"[       OK ] {TEST}" not in run.stdout:
        print(run.stdout[:20000], run.stderr[-2000:], sep="\n")
        sys.exit(f"{TEST}: exit {run.returncode}")


if __name__ == "__main__":
    main(*sys.argv[1:])
