"""Who may include whom (docs/architecture.md, "Folders"): reads every #include of the tree.

Exit status 0 if every rule holds; else one line per violation. The rules themselves
are first tried on includes that must be refused.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALLOWED = {
    "base": {"base"},
    "kernels": {"base", "kernels"},
    "models": {"base", "kernels", "models"},
    "scheduler": {"base", "scheduler"},
    "engine": {"base", "kernels", "models", "scheduler", "engine"},
    "tools": {"base", "kernels", "models", "scheduler", "engine", "tools"},
}
CUDA_HEADER = re.compile(
    r"^((cuda|cublas|cudnn|curand|cufft|cusparse|cusolver|cufile|nccl|nvml|nvrtc)\w*(\.h|\.hpp|/)"
    r"|(cub|cutlass|cute|thrust|nvtx3|cooperative_groups)/|mma\.h$|cooperative_groups\.h$)")
INCLUDE = re.compile(r'^\s*#\s*include(?:_next)?\s*([<"])([^>"]+)[>"]', re.MULTILINE)
# Heavy third-party headers, and the only folders that may see them.
HEAVY = {
    "CLI/": {"tools"},
    "boost/": {"tools"},
    "png.h": {"tools"},
    "spdlog/": {"base"},
    "pcre2.h": {"models"},
    "utf8proc.h": {"models"},
    "sentencepiece_": {"models"},
}
SUFFIXES = {".h", ".hpp", ".cpp", ".cu", ".cuh"}


def violations(path, text):
    """Rule violations of one file; `path` is relative to the root."""
    parts = pathlib.PurePosixPath(path).parts
    folder = parts[0]
    in_cuda = parts[:2] == ("kernels", "cuda")
    found = []
    for match in INCLUDE.finditer(text):
        quote, name = match.groups()
        line = text.count("\n", 0, match.start(2)) + 1
        where = f"{path}:{line}: "
        first = name.split("/")[0]
        if quote == '"':
            if name.startswith(".") or first not in ALLOWED | {"tests": set()}:
                found.append(where + f'"{name}" is not a path from the root')
            elif folder in ALLOWED and first not in ALLOWED[folder]:
                found.append(where + f'{folder} may not include {first} ("{name}")')
            elif "/cuda/" in name and name.endswith(".cuh") and not in_cuda and folder != "tests":
                found.append(where + f'"{name}": device code stays under kernels/cuda')
        else:
            if CUDA_HEADER.match(name) and not in_cuda:
                found.append(where + f"<{name}>: CUDA headers stay under kernels/cuda")
            for heavy, folders in HEAVY.items():
                if name.startswith(heavy) and folder in ALLOWED and folder not in folders:
                    found.append(where + f"<{name}> belongs to {', '.join(sorted(folders))}")
            if name == "regex":
                found.append(where + "<regex> overflows the stack on long input")
    if pathlib.PurePosixPath(path).suffix in {".h", ".hpp", ".cuh"} and "#pragma once" not in text:
        found.append(f"{path}:1: no #pragma once")
    return found


def files():
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"],
                             capture_output=True, text=True)
    if tracked.returncode == 0:
        names = tracked.stdout.splitlines()
    else:  # an archive, not a clone
        relative = (p.relative_to(ROOT) for p in ROOT.rglob("*"))
        names = [str(p) for p in relative if not p.parts[0].startswith("build")]
    for name in names:
        path = pathlib.PurePosixPath(name)
        ours = path.suffix in SUFFIXES and path.parts[0] in {*ALLOWED, "tests"}
        if ours and (ROOT / name).is_file():
            yield name


def self_test():
    refused = [
        ("base/a.cpp", '#include "kernels/ops.h"'),
        ("kernels/a.cpp", '#include "models/decoder.h"'),
        ("models/a.cpp", '#include "scheduler/sequence.h"'),
        ("models/a.cpp", '  #  include "engine/engine.h"'),
        ("scheduler/a.cpp", '#include "models/decoder.h"'),
        ("scheduler/a.cpp", '#include "kernels/ops.h"'),
        ("engine/a.cpp", '#include "tools/heddle/flags.h"'),
        ("engine/a.cpp", '#include <cuda_runtime.h>'),
        ("kernels/backend.cpp", '#include <cublas_v2.h>'),
        ("kernels/backend.cpp", '#include <nccl.h>'),
        ("kernels/backend.cpp", '#include <cub/cub.cuh>'),
        ("kernels/backend.cpp", '#include "kernels/cuda/plain.cuh"'),
        ("models/a.cpp", '#include "../base/error.h"'),
        ("models/a.cpp", '#include "error.h"'),
        ("models/a.cpp", '#include <CLI/CLI.hpp>'),
        ("models/a.cpp", '#include <regex>'),
        ("models/a.h", '#include <string>'),
    ]
    accepted = [
        ("kernels/cuda/a.cu", '#include <cuda_runtime.h>\n#include "kernels/cuda/plain.cuh"'),
        ("engine/a.cpp", '#include "scheduler/sequence.h"\n#include <cstdint>\n#include "models/a.h"'),
        ("models/a.h", '#pragma once\n#include "base/error.h"\n#include <cuchar>'),
        ("tests/engine/a_test.cpp", '#include "tests/support/compare.h"\n#include "engine/engine.h"'),
    ]
    wrong = [f"not refused: {p}: {t}" for p, t in refused if not violations(p, t)]
    wrong += [f"refused: {v}" for p, t in accepted for v in violations(p, t)]
    return wrong


def main():
    names = list(files())
    found = self_test() + [v for name in names for v in violations(name, (ROOT / name).read_text())]
    for line in found:
        print(line)
    if len(names) < 10:
        print(f"only {len(names)} source files found in {ROOT}")
        return 1
    print(f"{len(names)} files, {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
