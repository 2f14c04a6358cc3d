"""What tests of model files that are wrong in one way share: a catalogue of them, and the look at what `heddle` says of
each. HEDDLE names the executable."""
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import model_files as mf

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HEDDLE = os.environ.get("HEDDLE", str(ROOT / "build" / "heddle"))
SECONDS = 20 if os.environ.get("TEST_SANITIZE") else 2  # sanitizers are slow to start

# What docs/model_files.md promises, and what may differ from it.
FORM = re.compile(r"error: /[^\n]*?: (?:[^\n]+[, ]got [^\n]+, allowed [^\n]+|[^\n]+ is missing(?:, [^\n]+)?)\n")
OTHER_FORMS = [re.compile(form) for form in (
    r": truncated at byte \d+: needs \d+ bytes, the file has \d+\n",  # has both under other names
    r": \w+:\d+:\d+: (not valid JSON near|JSON nested deeper than|duplicate key) ",  # the place says more
    r": (tokenizer\.)?chat_template: line \d+, column \d+: ",  # as of any language
    r": (no such file; allowed .*|not a regular file)\n",  # of the path, as every command says it
    r": larger than \d+ bytes, the most that is read\n",  # reading ends there: the size is not known
)]

CASES = []  # (name, phrases, make(folder) -> path to open, command)
GOOD = {}  # names of good models: {file name: bytes}


def case(name, *phrases, command=("inspect",)):
    """Adds the decorated function, which writes the files and returns what to open (None: the folder)."""
    return lambda make: CASES.append((name, phrases, make, command))


def gguf_case(name, *phrases, base="gguf", **kw):
    """change(model) breaks a good file's parts, or gives the bytes."""
    def add(change):
        def make(folder):
            model = mf.Gguf(next(iter(GOOD[base].values())))
            raw = change(model)
            path = folder / "x.gguf"
            path.write_bytes(raw if isinstance(raw, bytes) else model.serialise())
            return path
        case("gguf " + name, *phrases, **kw)(make)
    return add


def folder_case(name, *phrases, base="safetensors", opened=None, **kw):
    """change(files) breaks a good folder's files."""
    def add(change):
        def make(folder):
            files = dict(GOOD[base])
            change(files)
            write(folder, {k: v for k, v in files.items() if v is not None})
            return folder / opened if opened else folder
        case(name, *phrases, **kw)(make)
    return add


def header_case(name, *phrases, **kw):
    """change(safetensors) breaks the parts of a good folder's weights, or gives the bytes."""
    def add(change):
        def break_header(files):
            st = mf.Safetensors(files["model.safetensors"])
            raw = change(st)
            files["model.safetensors"] = raw if isinstance(raw, bytes) else st.serialise()
        folder_case("safetensors " + name, "/model.safetensors: ", *phrases, **kw)(break_header)
    return add


def config_case(name, *phrases, **kw):
    """change(config) breaks a good folder's config.json."""
    def add(change):
        def break_config(files):
            whole = json.loads(files["config.json"])
            change(whole)
            files["config.json"] = json.dumps(whole)
        folder_case("config " + name, *phrases, **kw)(break_config)
    return add


def write(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def make_good(name, *flags):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-B", ROOT / "tools/make_tiny_model.py", "--seed", "5", "--out", folder, *flags],
                       check=True, capture_output=True)
        GOOD[name] = {p.name: p.read_bytes() for p in pathlib.Path(folder).iterdir()}


def environment():
    return {k: v for k, v in os.environ.items() if not k.startswith("HEDDLE_") or k == "HEDDLE_CPU_ISA"}


def heddle(command, path):
    """(exit code, standard error, seconds)"""
    begin = time.monotonic()
    p = subprocess.run([HEDDLE, command[0], path, *command[1:]], stdin=subprocess.DEVNULL, capture_output=True,
                       timeout=120, env=environment())
    return p.returncode, p.stderr.decode(), time.monotonic() - begin


def not_good():
    """What heddle says of the good models, where it does not run them."""
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for name, files in GOOD.items():
            model = pathlib.Path(folder) / name
            model.mkdir()
            write(model, files)
            rc, err, _ = heddle(("generate", "-p", "x", "--max-tokens", "1"), model)
            if rc != 0:
                wrong.append(f"{name}: {err}")
    return wrong


def look(item):
    """None if one case is refused as it should be, else what is wrong."""
    name, phrases, make, command = item
    with tempfile.TemporaryDirectory() as folder:
        rc, err, seconds = heddle(command, make(pathlib.Path(folder)) or folder)
    if rc == 2 and seconds > SECONDS:  # another process may have had the processor
        return f"{name}: took {seconds:.1f} s"
    wrong = [p for p in phrases if p not in err]
    if not (FORM.fullmatch(err) or any(form.search(err) for form in OTHER_FORMS)):
        wrong.append("FILE: KEY: WHAT, got X, allowed Y")
    if rc != 2 or wrong or not re.fullmatch(r"error: [^\n]+\n", err):
        return f"{name}: exit code {rc}, without {wrong}: {err[:600]}"
    return None


def not_refused():
    """What is wrong with the cases of the catalogue, one text each."""
    names = [name for name, *_ in CASES]
    twice = [f"two cases of one name: {name}" for name in sorted({n for n in names if names.count(n) > 1})]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return twice + [wrong for wrong in pool.map(look, CASES) if wrong]
