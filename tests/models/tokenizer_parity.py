#!/usr/bin/env python3
"""Compares Heddle's tokenizer with the `tokenizers` package.

  train        writes golden/tokenizer/small_vocab.txt: a byte-level BPE for tests without a model
  golden       writes golden/tokenizer/strings.tsv (needs --model for the default model's column)
  check        regenerates in memory and says whether strings.tsv is still what the package gives
  code-points  writes a larger file of the same form, every assigned code point in context, to
               --out; read by the C++ test through HEDDLE_TOKENIZER_GOLDEN

A line of strings.tsv: mode, four id hashes, text. Mode S: special tokens are parsed, P: plain text.
Columns: smollm with the default model's vocabulary, then smollm, llama-bpe and qwen2 with the small
one; "-": nothing to compare (see README.md). Hash: FNV-1a (64 bits) over the ids as little-endian int32, low 40
bits. Text: bytes below 0x20, 0x7F and the backslash are written \\xHH.
"""

import argparse
import json
import pathlib
import random
import sys
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent / "golden" / "tokenizer"
LICENCES = pathlib.Path("/usr/share/common-licenses")

# What the families' tokenizer.json files say.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

# In the small vocabulary: tokens that no merge makes, and tokens found in the raw text.
UNREACHABLE = ["licensor", "Ġwhereas", "Ġqzxj", "ĊĊĊĊ", "Ġ=>", "'ll"]
CONTROL = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>", "<|im_start|>system",
    "<|reserved_1|>", "<|reserved_12|>", "<s>", "«é»",
]
USER_DEFINED = ["<tool_call>", "</tool_call>", "<tool", "<think>", "zqz", "   \n", "<|im_start|>!"]


def byte_alphabet():
    """GPT-2's letters by byte value."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) if b in printable else chr(0x100 + others.index(b)) for b in range(256)]


# ---------------------------------------------------------------------------------- oracles


def build(pre, vocab, merges, control, user_defined):
    model = models.BPE(vocab=vocab, merges=merges, ignore_merges=pre == "llama-bpe")
    tok = Tokenizer(model)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre == "smollm")
    if pre == "smollm":
        tok.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), byte_level]
        )
    else:
        pattern = Regex(LLAMA3 if pre == "llama-bpe" else QWEN2)
        split = pre_tokenizers.Split(pattern, "isolated", invert=False)
        tok.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    if pre == "qwen2":
        tok.normalizer = normalizers.NFC()
    tok.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in control])
    tok.add_tokens([AddedToken(t, normalized=False, special=False) for t in user_defined])
    return tok


def read_small_vocab():
    vocab, merges, control, user = {}, [], [], []
    for letter in byte_alphabet():
        vocab[letter] = len(vocab)
    for line in (HERE / "small_vocab.txt").read_text("utf-8").split("\n"):
        kind, _, text = line.partition(" ")
        if kind == "merge":
            left, right = text.split(" ")
            merges.append((left, right))
            vocab[left + right] = len(vocab)
        elif kind == "token":
            vocab[text] = len(vocab)
        elif kind in ("control", "user"):
            (control if kind == "control" else user).append(text.replace("\\n", "\n"))
    return vocab, merges, control, user


def read_gguf_vocab(path):
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    get = lambda key: fields["tokenizer.ggml." + key].contents()
    assert get("model") == "gpt2" and get("pre") == "smollm"
    tokens, types = get("tokens"), get("token_type")
    merges = [tuple(m.split(" ")) for m in get("merges")]
    pick = lambda kind: [t for t, k in zip(tokens, types) if k == kind]
    return {t: i for i, t in enumerate(tokens)}, merges, pick(3), pick(4)


def oracles(model_path):
    small = read_small_vocab()
    result = [build("smollm", *read_gguf_vocab(model_path)) if model_path else None]
    for pre in ("smollm", "llama-bpe", "qwen2"):
        result.append(build(pre, *small))
    # The package must number the added tokens as the file does.
    for i, token in enumerate(small[2] + small[3]):
        assert result[1].token_to_id(token) == len(small[0]) + i, token
    return result


def id_hash(ids):
    value = 0xCBF29CE484222325
    for token in ids:
        for byte in token.to_bytes(4, "little"):
            value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value & 0xFFFFFFFFFF:010x}"


def escape(text):
    return "".join(
        f"\\x{ord(c):02x}" if ord(c) < 0x20 or c in "\x7f\\" else c for c in text
    )


def line_of(mode, text, toks):
    hashes = []
    for tok in toks:
        if tok is None:
            hashes.append("-")
            continue
        tok.encode_special_tokens = mode == "P"
        if tok.normalizer and tok.normalizer.normalize_str(text) != unicodedata.normalize("NFC", text):
            hashes.append("-")  # the package's NFC tables are older than some combining marks
            continue
        hashes.append(id_hash(tok.encode(text, add_special_tokens=False).ids))
    return "\t".join([mode, *hashes, escape(text)])


# ---------------------------------------------------------------------------------- strings

SPACES = " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2003\u2007\u2009\u200a\u200b" \
         "\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
APOSTROPHES = "'\u2019\u02bc\uff07`\u00b4\u2032"
SUFFIXES = ["s", "t", "re", "ve", "m", "ll", "d", "S", "T", "RE", "Ve", "M", "LL", "lL", "D", "\u017f",
            "st", "ss", "x", "", "l", "r", "Re\u0301", "\u1e9e", "\ufb06"]
EMOJI = ["\U0001F469\u200d\U0001F469\u200d\U0001F467", "\U0001F3F3\ufe0f\u200d\U0001F308",
         "\U0001F44D\U0001F3FD", "\U0001F1E9\U0001F1EA", "1\ufe0f\u20e3", "\u2764\ufe0f", "\U0001F600",
         "\U0001F9D1\U0001F3FF\u200d\U0001F680", "\u00a9\ufe0f", "\U0001F3F4\U000E0067\U000E007F"]
CODE = ["def f(x):", "    return x**2  # squared", "if (a != b && c[i] <= 0x1F) {", "\t\tfoo();", "}",
        "std::vector<std::pair<int, float>> v;", "SELECT * FROM t WHERE id=42;", "<div class=\"a\">&nbsp;",
        "// \u4e2d\u6587\u6ce8\u91ca", "#include <x.h>", "\\begin{align}", "a->b.c()?.d!", "let x = 1_000_000u64;",
        "$HOME/.config/*.json", "https://e.org/a?b=c&d=%20#e", "{\"k\": [1, 2.5e-3, null]}", "'''doc'''",
        "printf(\"%d\\n\", n);", "@@ -1,3 +1,4 @@", "x = y // z", "\r\n", "\n\n", "/* */", "::<>()"]
WORDS = ("the quick brown fox jumps over a lazy dog licensor whereas License warranty Copyright I you "
         "they're don't WON'T naive 2024 12:30 co-operate e.g. U.S.A. (c) qzxj zqz isn't end").split()


def assigned():
    """Code points of Unicode 14 that text may hold (PCRE2 10.42 knows no later ones)."""
    assert unicodedata.unidata_version == "14.0.0", "use a Python with Unicode 14 (3.11)"
    return [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]


def scripts(points):
    """Letters and marks by the first word of their names."""
    groups = {}
    for c in points:
        if unicodedata.category(chr(c))[0] in "LMN":
            groups.setdefault(unicodedata.name(chr(c), "X").split()[0].split("-")[0], []).append(chr(c))
    return {name: chars for name, chars in sorted(groups.items()) if len(chars) >= 5}


def make_strings(rng):
    points = assigned()
    chars = [chr(c) for c in points]
    by_category = {}
    for c in chars:
        by_category.setdefault(unicodedata.category(c), []).append(c)
    letters = [c for k in ("Lu", "Ll", "Lo", "Lm", "Lt") for c in by_category[k]]
    numbers = [c for k in ("Nd", "Nl", "No") for c in by_category[k]]
    marks = [c for k in ("Mn", "Mc", "Me") for c in by_category[k]]
    some = lambda pool, low, high: "".join(rng.choice(pool) for _ in range(rng.randint(low, high)))
    out = []
    add = lambda text: out.append(("S", text))

    for name, pool in scripts(points).items():  # words of every script
        for _ in range(6):
            words = [some(pool, 1, 7) for _ in range(rng.randint(1, 4))]
            add(rng.choice(["", " ", "\n"]) + rng.choice([" ", "  ", ", ", "-", "1"]).join(words))
    pages = {}
    for c in points:
        pages.setdefault(c >> 8, []).append(chr(c))
    for number, pool in sorted(pages.items()):  # every page of every plane
        dense = 0x34 <= number <= 0x9F or 0xAC <= number <= 0xD7 or 0x120 <= number
        for _ in range(1 if dense else 5):
            add(some(pool, 3, 10))
    for _ in range(600):  # white space of all kinds, alone and between other things
        parts = [some(SPACES, 1, 5) if rng.random() < 0.6 else rng.choice(["a", "B1", "9", ".", "\u4e2d", "é", "'s"])
                 for _ in range(rng.randint(1, 7))]
        add("".join(parts))
    for _ in range(350):  # numbers of all scripts
        add(rng.choice(["", "x", " "]) + some(numbers, 1, 6) + rng.choice(["", ".", ",", " ", "%", "e"]) +
            some("0123456789", 0, 9) + rng.choice(["", "a", "\u0967"]))
    for _ in range(500):  # contractions
        add("".join(rng.choice(["I", "you", " we", "É", "\u4f60", "5", "!", " ", "\n", ""]) + rng.choice(APOSTROPHES) +
                    rng.choice(SUFFIXES) for _ in range(rng.randint(1, 4))))
    for _ in range(350):
        add(rng.choice(["\n", " ", "", "\n    "]).join(rng.choice(CODE) for _ in range(rng.randint(1, 3))))
    controls = by_category["Cc"] + by_category["Cf"] + by_category["Zl"] + by_category["Zp"]
    for _ in range(250):
        add("".join(some(controls, 1, 3) + rng.choice(["a", "1", " ", "", "?!"]) for _ in range(rng.randint(1, 5))))
    for _ in range(300):
        add("".join(rng.choice(EMOJI) + rng.choice(["", " ", "a", "\ufe0f", "\u200d", "."]) for _ in range(rng.randint(1, 4))))
    composed = [c for c in chars if unicodedata.decomposition(c) and unicodedata.decomposition(c)[0] != "<"]
    for i in range(0, len(composed), 9):  # canonical decompositions, both ways
        part = "".join(composed[i:i + 9])
        add(unicodedata.normalize("NFD", part) if i % 2 else part)
    jamo = [chr(c) for c in [*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]]
    for _ in range(60):
        add(some(jamo, 2, 8) + rng.choice(["", "\uac00\u11a8", "\u0301"]))
    for _ in range(350):  # marks in any order on any base
        add("".join(rng.choice(letters if rng.random() < 0.5 else "aeoAE\u1100 ") + some(marks if rng.random() < 0.5 else
            "\u0300\u0301\u0323\u0327\u0338\u0345\u05b4\u0e38\u3099", 1, 5) for _ in range(rng.randint(1, 3))))
    for _ in range(400):  # anything
        add(some(chars, 1, 12))
    for _ in range(350):  # plain text
        add(rng.choice([" ", "  ", "\n", ". "]).join(rng.choice(WORDS) for _ in range(rng.randint(1, 8))))
    for _ in range(80):  # runs
        run = rng.choice(["a", " ", "\n", "=", "\u0301", "0", "\u4e2d", "ab", " a", "\r\n", "'s", "\t ", "the"])
        add(rng.choice(["", "x"]) + run * rng.randint(20, 150 // len(run.encode())) + rng.choice(["", "x", " "]))
    specials = CONTROL + USER_DEFINED + ["<|endoftext|>", "<repo_name>", "<reponame>", "<issue_start>"]
    for _ in range(700):  # special tokens, whole, nested and broken
        parts = []
        for _ in range(rng.randint(1, 4)):
            token = rng.choice(specials)
            shape = rng.random()
            if shape < 0.25:
                token = token[:rng.randint(0, len(token))]
            elif shape < 0.4:
                token = token[rng.randint(0, len(token)):]
            elif shape < 0.5:
                token = token.upper() if rng.random() < 0.5 else token.replace("|", "\uff5c")
            parts.append(token + rng.choice(["", "", " ", "\n", "a", "<", "!", "system", "é"]))
        out.append((rng.choice("SP"), "".join(parts)))
    return [("S", "")] + list(dict.fromkeys(out))


def make_code_points():
    """Every assigned code point after and before a letter, a space, a digit, a quote and itself."""
    for c in map(chr, assigned()):
        yield "S", f"a{c}b {c} 1{c}2  {c}\n{c}'{c}s{c}{c}!{c}"
        yield "S", f"{c}\u0301e{c}\u0323 {c}"


# ---------------------------------------------------------------------------------- commands


def train(rng):
    text = [(LICENCES / name).read_text("utf-8") for name in ("Apache-2.0", "MPL-2.0", "GPL-3")]
    groups = scripts(assigned())
    for pool in groups.values():  # so that merges exist in every script's bytes
        words = ["".join(rng.choice(pool[:40]) for _ in range(rng.randint(1, 4))) for _ in range(60)]
        text.append(" ".join(words * 3))
    text += ["\n".join(CODE) + "\n"] * 20 + [" ".join(WORDS)] * 20
    text += [" " * n + "x" for n in range(1, 40)] + ["a" * 200 + " " + "=" * 100, "\n\n\n"] * 20
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=256 + 1800, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tok.train_from_iterator(text, trainer)
    lines = []
    for merge in json.loads(tok.to_str())["model"]["merges"]:
        lines.append("merge " + (merge if isinstance(merge, str) else " ".join(merge)))
    made = {line[6:].replace(" ", "") for line in lines}
    lines += ["token " + t for t in UNREACHABLE if t not in made]
    lines += ["control " + t for t in CONTROL] + ["user " + t.replace("\n", "\\n") for t in USER_DEFINED]
    (HERE / "small_vocab.txt").write_text("\n".join(lines) + "\n", "utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["train", "golden", "check", "code-points"])
    parser.add_argument("--model", help="the default model's GGUF")
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--out", help="for golden and code-points")
    args = parser.parse_args()
    print("tokenizers", tokenizers.__version__, file=sys.stderr)
    rng = random.Random(args.seed)
    if args.command == "train":
        return train(rng)
    toks = oracles(args.model)
    strings = make_code_points() if args.command == "code-points" else make_strings(rng)
    lines = [line_of(mode, text, toks) for mode, text in strings]
    golden = HERE / "strings.tsv"
    if args.command == "check":
        kept = golden.read_text("utf-8").rstrip("\n").split("\n")
        drop = lambda line: line if args.model else "\t".join([line[0], "-", *line.split("\t")[2:]])
        bad = [(a, b) for a, b in zip(map(drop, kept), lines) if a != b]
        print(f"{len(lines)} strings, {len(bad)} differ, {abs(len(kept) - len(lines))} missing")
        return sys.exit(1 if bad or len(kept) != len(lines) else 0)
    path = pathlib.Path(args.out) if args.out else golden
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("\n".join(lines) + "\n")
    print(f"{len(lines)} strings, {path.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
