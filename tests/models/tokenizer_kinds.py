"""Tokenizers of many kinds as tokenizer.json files, built with the `tokenizers` package from
vocabularies that packages carry, by the recipes that the models' own converters publish."""
import base64
import io
import json
import os
import pathlib
import random
import sys

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import tokenizer_parity

UNDERLINE = "\u2581"


def mistral_data():
    """The data folder of mistral-common, found without importing it (its dependencies are many)."""
    for place in [os.environ.get("HEDDLE_MISTRAL_DATA", ""), *(p + "/mistral_common/data" for p in sys.path)]:
        if place and pathlib.Path(place).is_dir():
            return pathlib.Path(place)
    return None


def proto_fields(data):
    """(number, value) of a protobuf message: bytes, or the varint."""
    pos = 0

    def varint():
        nonlocal pos
        value = shift = 0
        while True:
            byte = data[pos]
            pos += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while pos < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
        else:
            size = {1: 8, 5: 4}.get(kind)
            if size is None:
                size = varint()
            yield key >> 3, data[pos:pos + size]
            pos += size


def charsmap(model_bytes):
    spec = next(v for n, v in proto_fields(model_bytes) if n == 3)
    return next((v for n, v in proto_fields(spec) if n == 2), b"")


class Pieces:
    """A SentencePiece model through the `sentencepiece` package."""

    def __init__(self, model_bytes):
        self.bytes = model_bytes
        self.sp = sentencepiece.SentencePieceProcessor(model_proto=model_bytes)
        n = self.sp.get_piece_size()
        self.texts = [self.sp.id_to_piece(i) for i in range(n)]
        self.scores = [self.sp.get_score(i) for i in range(n)]
        self.control = [i for i in range(n) if self.sp.is_control(i) or self.sp.is_unknown(i)]

    def merges(self):
        """Every way to make a piece of two, the best pieces first."""
        ids = {t: i for i, t in enumerate(self.texts)}
        found = []
        for piece, i in ids.items():
            local = []
            for k in range(1, len(piece)):
                left, right = piece[:k], piece[k:]
                if left in ids and right in ids:
                    local.append((ids[left], ids[right], left, right))
            local.sort()
            found += [(-self.scores[i], left, right) for _, _, left, right in local]
        found.sort(key=lambda f: f[0])
        return [(left, right) for _, left, right in found]


def add_specials(tok, texts, **flags):
    tok.add_special_tokens([AddedToken(t, **{"normalized": False, "special": True, **flags}) for t in texts])


def llama2(pieces):
    tok = Tokenizer(models.BPE(
        vocab={t: i for i, t in enumerate(pieces.texts)}, merges=pieces.merges(),
        unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend(UNDERLINE), normalizers.Replace(" ", UNDERLINE)])
    tok.decoder = decoders.Sequence([
        decoders.Replace(UNDERLINE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    add_specials(tok, [pieces.texts[i] for i in pieces.control])
    return tok


def llama2_normalized_specials(pieces):
    tok = llama2(pieces)
    fresh = Tokenizer(tok.model)
    fresh.normalizer, fresh.decoder, fresh.post_processor = tok.normalizer, tok.decoder, tok.post_processor
    add_specials(fresh, [pieces.texts[i] for i in pieces.control], normalized=True)
    return fresh


def mistral_v3(pieces):
    tok = llama2(pieces)
    tok.normalizer = None
    tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement=UNDERLINE, prepend_scheme="first", split=False)
    return tok


def gemma(pieces):
    tok = llama2(pieces)
    tok.normalizer = normalizers.Replace(" ", UNDERLINE)
    tok.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tok.decoder = decoders.Sequence([decoders.Replace(UNDERLINE, " "), decoders.ByteFallback(), decoders.Fuse()])
    return tok


def tekken(path, size=None):
    data = json.loads(path.read_text("utf-8"))
    config = data["config"]
    specials = config["default_num_special_tokens"]
    n = (size or config["default_vocab_size"]) - specials
    ranks = {base64.b64decode(t["token_bytes"]): t["rank"] for t in data["vocab"][:n]}

    def halves(token, rank):
        parts = [bytes([b]) for b in token]
        while len(parts) > 2:
            best = min(((ranks.get(parts[i] + parts[i + 1], 1 << 30), i) for i in range(len(parts) - 1)))
            if best[0] >= rank:
                break
            parts[best[1]:best[1] + 2] = [parts[best[1]] + parts[best[1] + 1]]
        return parts

    letters = tokenizer_parity.byte_alphabet()
    spell = lambda b: "".join(letters[x] for x in b)
    names = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
             "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]"]
    names += [f"<SPECIAL_{i}>" for i in range(len(names), specials)]
    vocab = {name: i for i, name in enumerate(names)}
    merges = []
    for token, rank in ranks.items():
        vocab[spell(token)] = rank + specials
        if len(token) > 1:
            parts = halves(token, rank)
            if len(parts) == 2:
                merges.append(tuple(map(spell, parts)))
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(config["pattern"]), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B:1", special_tokens=[("<s>", 1)])
    add_specials(tok, names)
    return tok


# What published tokenizer.json files split by.
PATTERNS = {
    "cl100k": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "cl100k possessive": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
                         r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
             r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
             r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "deepseek": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
                r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "han": "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    "scripts": r"\p{Han}+|[\p{Hiragana}\p{Katakana}]+|\p{^L}\P{N}\p{Greek}|\w+|\W\S*|\u4e2d\x{6587}\x41",
    "boundaries": r"\b\w|\w\b|^.|.$|\d+|\D\h|[\s\S]\v|\Z",
    "optional": r"x*|(?<=a)b|(?<!\n)\n",
}


def small_byte_level():
    """The byte-level vocabulary of golden/tokenizer/small_vocab.txt."""
    vocab, merges, control, user = tokenizer_parity.read_small_vocab()
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tok.decoder = decoders.ByteLevel()
    return tok, control, user


def byte_level(split, behavior="isolated", invert=False, prefix=False, nfc=None):
    tok, control, user = small_byte_level()
    steps = [pre_tokenizers.Split(Regex(PATTERNS[p]), behavior, invert) for p in split]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=not split))
    tok.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if nfc:
        tok.normalizer = nfc
    add_specials(tok, control)
    tok.add_tokens([AddedToken(t, normalized=False, special=False) for t in user])
    return tok


def added_token_flags():
    """RoBERTa's shape: <mask> takes white space along; tokens of every combination of flags."""
    tok, _, _ = small_byte_level()
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tok.normalizer = normalizers.Lowercase()
    specials = [AddedToken("<s>", special=True, normalized=True), AddedToken("</s>", special=True, normalized=False),
                AddedToken("<mask>", special=True, lstrip=True, normalized=False),
                AddedToken("<Sep>", special=True, rstrip=True, lstrip=True, normalized=True)]
    tok.add_special_tokens(specials)
    tok.add_tokens([AddedToken("the", single_word=True, normalized=False), AddedToken("Fox", single_word=True),
                    AddedToken("BROWN", normalized=True), AddedToken("<tool>", rstrip=True, normalized=False)])
    ids = [tok.token_to_id(t) for t in ("<s>", "</s>")]
    tok.post_processor = processors.RobertaProcessing(("</s>", ids[1]), ("<s>", ids[0]))
    return tok


def train_sentencepiece(texts, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=6000, minloglevel=2,
        num_threads=1, hard_vocab_limit=False, **options)
    return model.getvalue()


def unigram(pieces, byte_fallback, end=True):
    tok = Tokenizer(models.Unigram([*zip(pieces.texts, pieces.scores)], pieces.sp.unk_id(), byte_fallback))
    steps = [normalizers.Precompiled(charsmap(pieces.bytes))] if charsmap(pieces.bytes) else []
    tok.normalizer = normalizers.Sequence(steps + [normalizers.Replace(Regex(" {2,}"), " ")])
    tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement=UNDERLINE, prepend_scheme="always")
    tok.decoder = decoders.Metaspace(replacement=UNDERLINE, prepend_scheme="always")
    if byte_fallback:
        tok.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(UNDERLINE, "always")]) if not end else \
            decoders.Sequence([decoders.Metaspace(UNDERLINE, "always"), decoders.ByteFallback(), decoders.Fuse()])
    if end:
        tok.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 2)])
    add_specials(tok, [pieces.texts[i] for i in pieces.control])
    return tok


def characters(rng, normalizer, cutter, unk=True, fuse=False):
    """BPE over characters with a few merges, for odd pipelines."""
    pool = [chr(c) for c in tokenizer_parity.assigned() if c < 0x3000 or c % 97 == 0]
    some = sorted(set(rng.sample(pool, 1500)) | set(map(chr, range(32, 127))) | {UNDERLINE})
    vocab = {"<unk>": 0}
    for c in some:
        vocab.setdefault(c, len(vocab))
    merges = []
    for left, right in ["th", "in", "an", "er", "re", "on"]:
        merges.append((left, right))
        vocab.setdefault(left + right, len(vocab))
    merges.append(("th", "er"))
    vocab.setdefault("ther", len(vocab))
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>" if unk else None, fuse_unk=fuse))
    tok.normalizer, tok.pre_tokenizer = normalizer, cutter
    add_specials(tok, ["<unk>"])
    return tok


def write_gguf(path, model, pre, tokens, types, scores=None, merges=None, **flags):
    """A GGUF file that holds a tokenizer and nothing else."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if scores is not None:
        writer.add_token_scores(scores)
    if merges is not None:
        writer.add_token_merges([" ".join(m) for m in merges])
    for key, value in flags.items():
        if isinstance(value, bool):
            writer.add_bool("tokenizer.ggml." + key, value)
        else:
            writer.add_uint32("tokenizer.ggml." + key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def piece_kind(sp, i):
    """GGUF's token type of a SentencePiece id."""
    return (2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 5 if sp.is_unused(i) else 1)


def gguf_llama(pieces, path, user_defined=(), **flags):
    types = [piece_kind(pieces.sp, i) for i in range(len(pieces.texts))]
    for i in user_defined:
        types[i] = 4
    ids = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    write_gguf(path, "llama", None, pieces.texts, types, scores=pieces.scores, **ids, **flags)


def gguf_bytes(path, pre, vocab=None):
    """The byte-level vocabulary of golden/tokenizer/small_vocab.txt under a pre-tokenizer's name."""
    vocab, merges, control, user = vocab or tokenizer_parity.read_small_vocab()
    tokens = [t for t, _ in sorted(vocab.items(), key=lambda item: item[1])] + control + user
    types = [1] * len(vocab) + [3] * len(control) + [4] * len(user)
    write_gguf(path, "gpt2", pre, tokens, types, merges=merges, add_bos_token=False)


# The pre-tokenizers of GGUF's names, as the families' tokenizer.json files have them.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}"
          r"\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
GGUF_PRE = {  # name -> (digits first, patterns, ignore_merges, NFC)
    "gpt-2": (False, [GPT2], False, False),
    "gpt-4o": (False, [PATTERNS["o200k"]], False, False),
    "tekken": (False, [TEKKEN], True, False),
    "starcoder": (True, [GPT2], False, False),
    "refact": (True, [GPT2], False, False),
    "command-r": (True, [GPT2], False, True),
    "dbrx": (False, [PATTERNS["cl100k"]], False, False),
    "qwen35": (False, [QWEN35], False, True),
    "deepseek-v3": (False, [r"\p{N}{1,3}", PATTERNS["han"], PATTERNS["deepseek"]], False, False),
}


def gguf_reference(pre):
    digits, patterns, ignore_merges, nfc = GGUF_PRE[pre]
    vocab, merges, control, user = tokenizer_parity.read_small_vocab()
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges))
    steps = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    steps += [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    tok.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tok.decoder = decoders.ByteLevel()
    if nfc:
        tok.normalizer = normalizers.NFC()
    add_specials(tok, control)
    tok.add_tokens([AddedToken(t, normalized=False, special=False) for t in user])
    return tok
