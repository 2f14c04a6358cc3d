#!/usr/bin/env python3
"""Writes the skeleton of a new mixer and puts it where the program looks for mixers.

    new_mixer.py NAME [--letter X] [--dry-run]

NAME (snake_case) becomes the op, the mixer and its kind in Heddle's own format. The result compiles and passes its
tests; at run time it refuses by its name until it is written (`grep -rn 'FILL IN'`). A NAME that is taken is refused,
and nothing is written unless every place was found.
"""
import argparse
import difflib
import pathlib
import re
import shutil
import subprocess
import sys

import mixer_skeleton

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORDS = set("""alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const
consteval constexpr constinit continue co_await co_return co_yield decltype default delete do double else enum explicit
export extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator
or or_eq private protected public register requires return short signed sizeof static struct switch template this
thread_local throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor
xor_eq""".split())


class Refusal(Exception):
    """One line for the user."""


class Source:
    """A file of the tree, edited in memory."""

    def __init__(self, path):
        self.path = path
        self.before = self.text = (ROOT / path).read_text()

    def find(self, anchor, start=0):
        """Where the only line that begins with `anchor` begins."""
        at = [m.start() for m in re.finditer("^" + re.escape(anchor), self.text[start:], re.MULTILINE)]
        if len(at) != 1:
            raise Refusal(f"{self.path}: {len(at)} lines begin with '{anchor}', one was expected")
        return start + at[0]

    def insert(self, anchor, text):
        at = self.find(anchor)
        self.text = self.text[:at] + text + self.text[at:]

    def add_alternative(self, alias, alternative):
        """To `using ALIAS = std::variant<...>;`"""
        at = self.find(f"using {alias} =")
        end = self.text.index(">;", at)
        self.text = f"{self.text[:end]}, {alternative}{self.text[end:]}"

    def add_overload(self, function, visitor):
        """To the Overloaded{...} that the function visits its variant with."""
        start = self.text.index("Overloaded{", self.find(function)) + len("Overloaded{")
        depth, end = 1, start
        while depth:
            depth += {"{": 1, "}": -1}.get(self.text[end], 0)
            end += 1
        self.text = f"{self.text[:end - 1]},\n{visitor}{self.text[end - 1:]}"

    def include(self, header):
        """Into the lines that include files of the same folder, in their order."""
        folder = header.rsplit("/", 1)[0]
        lines = self.text.splitlines(keepends=True)
        ours = [i for i, line in enumerate(lines) if re.match(rf'#include "{folder}/[^/"]*"$', line)]
        if not ours:
            raise Refusal(f'{self.path}: no #include "{folder}/..."')
        line = f'#include "{header}"\n'
        at = next((i for i in ours if lines[i] > line), ours[-1] + 1)
        lines.insert(at, line)
        self.text = "".join(lines)


def edit_models(name, type_, letter, fill):
    spec = Source("models/layer_spec.h")
    spec.insert("using MixerSpec =", fill(mixer_skeleton.SPEC))
    spec.add_alternative("MixerSpec", f"{type_}Spec")

    names = Source("models/checkpoint.h")
    names.insert("using MixerNames =", fill(mixer_skeleton.NAMES))
    names.add_alternative("MixerNames", f"{type_}Names")

    header = Source("models/mixers/mixer.h")
    header.include(f"models/mixers/{name}.h")
    header.add_alternative("Mixer", type_)

    mixer = Source("models/mixers/mixer.cpp")
    mixer.add_overload("Mixer bind_mixer(", f"""[&](const {type_}Spec& s) -> Mixer {{
      return {type_}::bind(s, std::get<{type_}Names>(names), hidden, rope_index(s.rope, rope_specs), binder);
    }}""")
    for function, call in (("CacheNeed cache_need(", "cache_need(s)"),
                           ("std::size_t workspace_bytes(", "workspace_bytes(s, size)"),
                           ("std::string describe(", "describe(s)")):
        capture = "[&]" if "size" in call else "[]"
        mixer.add_overload(function, f"{capture}(const {type_}Spec& s) {{ return {type_}::{call}; }}")
    mixer.add_overload("MixerLetter letter(",
                       f"[](const {type_}Spec&) {{ return MixerLetter{{'{letter}', \"{name} (not written yet)\"}}; }}")

    hash_ = Source("models/spec_hash.cpp")
    hash_.insert("  void add(const DenseFfnSpec& spec)", fill(mixer_skeleton.HASH))

    native = Source("models/families/native_mixers.cpp")
    native.insert("struct MixerKind {", fill(mixer_skeleton.READER))
    end = native.text.index("};", native.find("constexpr MixerKind kMixerKinds[]"))
    native.text = f'{native.text[:end]}    {{"{name}", read_{name}}},\n{native.text[end:]}'
    return [spec, names, header, mixer, hash_, native]


def edit_kernels(name, type_):
    """`sample` is the last op everywhere; a new one goes before it."""
    override = f"  void {name}(const {type_}Args& args) override;\n"
    api = f"kernels/api/{name}.h"

    ops = Source("kernels/ops.h")
    ops.include(api)
    ops.insert("  virtual void sample(", f"  virtual void {name}(const {type_}Args& args) = 0;\n")

    tables = Source("kernels/cpu/cpu_tables.h")
    tables.include(api)
    tables.insert("const Table<SampleArgs>&", f"const Table<{type_}Args>& {name}_table();\n")

    cpu_h = Source("kernels/cpu/cpu_ops.h")
    cpu_h.insert("  void sample(", override)
    if cpu_h.text.count(" sample_;") != 1:
        raise Refusal("kernels/cpu/cpu_ops.h: no member list that ends with 'sample_;'")
    cpu_h.text = cpu_h.text.replace(" sample_;", f" {name}_, sample_;")

    cpu = Source("kernels/cpu/cpu_ops.cpp")
    cpu.insert("  f(sample_table());", f"  f({name}_table());\n")
    cpu.insert("      sample_(forced_variant(", f"      {name}_(forced_variant(forced, {name}_table().op)),\n")
    cpu.insert("void CpuOps::sample(", f"void CpuOps::{name}(const {type_}Args& args) {{\n"
                                       f"  run({name}_table(), args, {name}_, context_);\n}}\n")

    cuda_h = Source("kernels/cuda/cuda_ops.h")
    cuda_h.insert("  void sample(", override)
    cuda = Source("kernels/cuda/cuda_ops.cpp")
    cuda.insert("  f(sample_table());", f"  f({name}_table());\n")
    cuda.insert("void CudaOps::sample(", f"void CudaOps::{name}(const {type_}Args& args) {{\n"
                                         f"  run({name}_table(), args);\n}}\n")
    cuda_tables = Source("kernels/cuda/cuda_tables.h")
    cuda_tables.insert("const Table<SampleArgs>&", f"const Table<{type_}Args>& {name}_table();\n")
    missing = Source("kernels/cuda/missing_ops.cpp")
    missing.insert("}  // namespace heddle::cuda", f"const Table<{type_}Args>& {name}_table() {{\n"
                                                   f'  return missing<{type_}Args>("{name}");\n}}\n\n')
    return [ops, tables, cpu_h, cpu, cuda_h, cuda, cuda_tables, missing]


def without_comments(text):
    return re.sub(r"//.*", "", text)


def check_name(name, type_):
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > 40:
        raise Refusal(f"'{name}' is no name for a mixer: snake_case, up to 40 characters (gated_delta)")
    if name in WORDS:
        raise Refusal(f"'{name}' is a word of C++")
    for path in mixer_skeleton.FILES:
        path = path.replace("@NAME@", name)
        if (ROOT / path).exists():
            raise Refusal(f"'{name}' is taken: {path} exists")
    ours = re.compile(rf"\b({type_}(Spec|Names|Args)?|{name}_table|{name}_names|read_{name}(_spec)?|CpuOps::{name})\b"
                      rf'|\{{"{name}", read_')  # a kind of the native format
    for folder in ("base", "kernels", "models"):
        for path in sorted([*(ROOT / folder).rglob("*.h"), *(ROOT / folder).rglob("*.cpp")]):
            found = ours.search(without_comments(path.read_text()))
            if found:
                raise Refusal(f"'{name}' is taken: '{found[0]}' in {path.relative_to(ROOT)}")


def pick_letter(asked, name):
    used = set(re.findall(r"\{'([A-Z])', ", (ROOT / "models/mixers/mixer.cpp").read_text()))
    if asked:
        if not re.fullmatch("[A-Z]", asked) or asked in used:
            raise Refusal(f"--letter {asked}: a capital that stands for no other mixer; used: {' '.join(sorted(used))}")
        return asked
    for letter in name.replace("_", "").upper() + "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        if letter.isalpha() and letter not in used:
            return letter
    raise Refusal("every letter of the layer map is taken")


def formatter():
    tool = shutil.which("clang-format-14") or shutil.which("clang-format")
    version = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout if tool else ""
    return tool if "version 14." in version else None


def formatted(path, text, tool):
    if not tool:
        return text
    return subprocess.run([tool, f"--assume-filename={ROOT / path}"], input=text, capture_output=True, text=True,
                          check=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help="snake_case, such as gated_delta")
    parser.add_argument("--letter", help="in the layer map of `heddle inspect` (default: the first free one of NAME)")
    parser.add_argument("--dry-run", action="store_true", help="write nothing; print what would change")
    args = parser.parse_args()
    type_ = "".join(word.capitalize() for word in args.name.split("_"))
    try:
        check_name(args.name, type_)
        letter = pick_letter(args.letter, args.name)

        def fill(text):
            return text.replace("@NAME@", args.name).replace("@TYPE@", type_).replace("@LETTER@", letter)

        edited = edit_models(args.name, type_, letter, fill) + edit_kernels(args.name, type_)
    except Refusal as refusal:
        parser.error(str(refusal))
    tool = formatter()
    new = {fill(path): formatted(fill(path), fill(text), tool) for path, text in mixer_skeleton.FILES.items()}
    changed = {source.path: formatted(source.path, source.text, tool) for source in edited}
    if args.dry_run:
        for source in edited:
            sys.stdout.writelines(difflib.unified_diff(
                source.before.splitlines(keepends=True), changed[source.path].splitlines(keepends=True),
                f"a/{source.path}", f"b/{source.path}", n=1))
    else:
        for path, text in {**new, **changed}.items():
            (ROOT / path).write_text(text)
    would = "would be " if args.dry_run else ""
    for what, paths in (("written", new), ("edited", changed)):
        print(f"{would}{what}:", *paths, sep="\n  ")
    if not tool:
        print("clang-format 14 is not installed here: run tools/format where it is")
    rest = [(fill(where), fill(what)) for where, what in mixer_skeleton.REST]
    width = max(len(where) for where, _ in rest)
    print("left to do, in this order (docs/adding_a_mixer.md); grep -rn 'FILL IN' finds the gaps:")
    for where, what in rest:
        print(f"  {where:{width}}  {what}")
    print("A fast variant comes later, and with it the op's case for `heddle bench --kernels`. Until then nothing changes in\n"
          "scheduler/, tools/heddle/ or, but for a new kind of memory, engine/.")


if __name__ == "__main__":
    main()
