"""Token ids and decoded texts are those of the `tokenizers` package for tokenizer.json files of every
kind that is read: on real vocabularies (mistral-common's, the default model's) and on small ones.
Exit status 77: a package is missing.

HEDDLE_KINDS=NAME,... runs some kinds only."""
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import unicodedata

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
try:
    import tokenizer_kinds as kinds
    import tokenizer_parity
    from default_model import default_model
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

PROBE = pathlib.Path(os.environ.get("HEDDLE_BUILD", "build")) / "tests" / "tokenizer_probe"
SEED = 20261125


class Probe:
    """tokenizer_probe on one tokenizer; all requests at once."""

    def __init__(self, *arguments):
        self.arguments = [str(PROBE), *map(str, arguments)]

    def ask(self, requests):
        run = subprocess.run(self.arguments, input="\n".join(requests) + "\n", capture_output=True,
                             text=True, check=False)
        lines = run.stdout.split("\n")
        if run.returncode != 0 or len(lines) != len(requests) + 2:
            sys.exit(f"{self.arguments}: exit {run.returncode}: {run.stdout[-400:]}{run.stderr[-400:]}")
        self.description = lines[0]
        return lines[1:-1]


def show(text):
    return ascii(text if len(text) < 120 else text[:120] + "...")


def hexed(text):
    return text.encode("utf-8").hex()


def compare(name, tok, probe, strings, rng, decode=True):
    """Prints the first differences; returns their number."""
    requests, wanted, what = [], [], []

    def expect(request, want, label):
        requests.append(request)
        wanted.append(want)
        what.append(label)

    special_ids = {i for i, t in tok.get_added_tokens_decoder().items() if t.special}
    unknown = tok.token_to_id("<unk>")

    def forged(ids, text=""):
        """The package's Unigram makes special tokens of plain text that spells them; Heddle does not."""
        found = sum(i in special_ids and i != unknown for i in ids)
        return found > 0 and found > sum(text.count(s) for s in specials)

    specials = [t.content for t in tok.get_added_tokens_decoder().values()]
    cases = list(strings)
    for _ in range(600 if specials else 0):
        parts = [rng.choice(specials) if rng.random() < 0.5 else rng.choice(["a", " ", "the", "\n", " x ", "Fox", "\u00e9", ""])
                 for _ in range(rng.randint(1, 6))]
        cases.append("".join(parts))
    encodings = []
    for text in cases:
        tok.encode_special_tokens = False
        ids = tok.encode(text, add_special_tokens=False).ids
        if forged(ids, text):
            continue
        encodings.append(ids)
        plain_only = getattr(tok, "plain_only", False)
        expect(("P " if plain_only else "N ") + hexed(text), " ".join(map(str, ids)), text)
        if rng.random() < 0.2 and not (plain_only and ("<" in text or "[" in text)):
            with_ends = tok.encode(text, add_special_tokens=True).ids
            expect("S " + hexed(text), " ".join(map(str, with_ends)), text)
    tok.encode_special_tokens = True
    for text in rng.sample(cases, min(len(cases), 1500)):
        if sum(s in text for s in specials) < 2:  # overlapping ones are a matter of taste
            ids = tok.encode(text, add_special_tokens=False).ids
            if not forged(ids) and "<unk>" not in text:
                expect("P " + hexed(text), " ".join(map(str, ids)), text)
    tok.encode_special_tokens = False
    # The package decodes these as their normalised forms, and shows special ones among them.
    rewritten = {i for i, t in tok.get_added_tokens_decoder().items()
                 if t.normalized and tok.normalizer and tok.normalizer.normalize_str(t.content) != t.content}
    if decode:
        size = tok.get_vocab_size()
        for _ in range(1500):
            encodings.append([rng.randrange(size) for _ in range(rng.randint(1, 8))])
        for ids in encodings:
            if rewritten & set(ids):
                continue
            texts = [tok.decode(ids, skip_special_tokens=skip) for skip in (True, False)]
            if any("\ufffd" in t for t in texts):
                continue  # the reference replaces a whole run of bytes, the program what is wrong of it
            plain, full = (hexed(t) or "-" for t in texts)
            expect("D " + " ".join(map(str, ids)), f"{plain} {plain} {full} {full}", ids)
    differences = 0
    for request, want, got, label in zip(requests, wanted, probe.ask(requests), what):
        if want == got or getattr(tok, "may_tie", False) and tied(tok, want, got):
            continue
        differences += 1
        if differences <= 4:
            text = show(label) if isinstance(label, str) else label
            print(f"  {name} {request[0]}: {text}\n    want {want[:300]}\n    got  {got[:300]}")
    print(f"{name}: {len(cases)} strings, {len(requests)} comparisons, {differences} differences; {probe.description}",
          flush=True)
    return differences


def tied(tok, want, got):
    """The same pieces, so the same score, in another order that spells the same text."""
    spell = lambda ids: "".join(tok.sp.id_to_piece(int(i)) for i in ids.split())
    return sorted(want.split()) == sorted(got.split()) and spell(want) == spell(got)


class SentencePieceReference:
    """What `compare` asks of a tokenizer, from the `sentencepiece` package: plain texts only."""

    def __init__(self, pieces, may_tie=False):
        self.sp = pieces.sp
        self.normalizer = self.pre_tokenizer = None
        self.plain_only = True
        self.may_tie = may_tie  # versions of the library cut ties of a unigram model in different orders

    class Ids:
        def __init__(self, ids):
            self.ids = ids

    def get_added_tokens_decoder(self):
        return {}

    def get_vocab_size(self):
        return self.sp.get_piece_size()

    def token_to_id(self, text):
        return None

    def encode(self, text, add_special_tokens):
        return self.Ids(([1] if add_special_tokens else []) + self.sp.encode(text.encode("utf-8")))

    def decode(self, ids, skip_special_tokens):
        # The package shows unknown tokens as a sign of its own; control tokens have no text in it.
        special = any(self.sp.is_unknown(i) or self.sp.is_control(i) for i in ids)
        return "\ufffd" if special else self.sp.decode(ids)


def training_text(rng):
    groups = tokenizer_parity.scripts(tokenizer_parity.assigned())
    text = [" ".join(rng.choice(tokenizer_parity.WORDS) for _ in range(12)) for _ in range(3000)]
    for pool in groups.values():
        for _ in range(12):
            text.append(" ".join("".join(rng.choice(pool[:30]) for _ in range(rng.randint(1, 5))) for _ in range(6)))
    return text + tokenizer_parity.CODE * 5


def all_kinds(rng):
    """(name, function that builds it, are all strings wanted)"""
    data = kinds.mistral_data()
    if data:
        spm = lambda name: kinds.Pieces((data / name).read_bytes())
        v1, v3, v7 = "tokenizer.model.v1", "mistral_instruct_tokenizer_240323.model.v3", \
            "mistral_instruct_tokenizer_241114.model.v7"
        yield "llama2", lambda: kinds.llama2(spm(v1))
        yield "llama2-normalized-specials", lambda: kinds.llama2_normalized_specials(spm(v1))
        yield "mistral-v3", lambda: kinds.mistral_v3(spm(v3))
        yield "gemma", lambda: kinds.gemma(spm(v7))
        yield "tekken", lambda: kinds.tekken(data / "tekken_240911.json")
    model = default_model()
    if os.path.exists(model):
        def smollm():
            tok = tokenizer_parity.build("smollm", *tokenizer_parity.read_gguf_vocab(model))
            tok.decoder = decoders.ByteLevel()
            return tok
        yield "smollm2", smollm
    for names in (["cl100k"], ["cl100k possessive"], ["o200k"], ["han", "deepseek"], ["scripts"], ["boundaries"],
                  ["optional"], []):
        yield "bytes " + "+".join(names), lambda n=names: kinds.byte_level(n)
    yield "bytes nfc", lambda: kinds.byte_level(["cl100k"], nfc=normalizers.NFC())
    yield "bytes prefix", lambda: kinds.byte_level([], prefix=True)
    for behavior in ("removed", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            yield f"bytes {behavior} {invert}", lambda b=behavior, i=invert: kinds.byte_level(["scripts"], b, i)
    yield "flags", kinds.added_token_flags
    text = training_text(random.Random(SEED))
    train = lambda **o: kinds.Pieces(kinds.train_sentencepiece(text, **o))
    yield "unigram nmt_nfkc", lambda: kinds.unigram(train(model_type="unigram"), False)
    yield "unigram bytes", lambda: kinds.unigram(
        train(model_type="unigram", byte_fallback=True, normalization_rule_name="nfkc_cf", character_coverage=0.98), True)
    yield "unigram identity", lambda: kinds.unigram(
        train(model_type="unigram", normalization_rule_name="identity"), False, end=False)
    n, p = normalizers, pre_tokenizers
    odd = {
        "strip lowercase whitespace": (n.Sequence([n.Strip(), n.Lowercase()]), p.Whitespace(), True, False),
        "nfd accents punctuation": (n.Sequence([n.NFD(), n.StripAccents()]), p.Punctuation(), True, True),
        "nmt nfkc digits": (n.Sequence([n.Nmt(), n.NFKC()]), p.Sequence([p.WhitespaceSplit(), p.Digits(False)]), False, False),
        "replace": (n.Sequence([n.Replace(Regex(r"\s+"), " "), n.Replace("e", "ea"), n.Replace(Regex("x*"), "-"),
                                n.Prepend("> ")]), p.CharDelimiterSplit(" "), True, True),
        "strip left metaspace": (n.Strip(left=True, right=False), p.Metaspace(prepend_scheme="never"), True, False),
        "nfkd punctuation": (n.NFKD(), p.Punctuation("merged_with_next"), False, False),
        "digits metaspace": (None, p.Sequence([p.Digits(True), p.Metaspace(prepend_scheme="first")]), True, True),
    }
    for name, (normalizer, cutter, unk, fuse) in odd.items():
        yield name, lambda a=normalizer, b=cutter, c=unk, d=fuse: kinds.characters(random.Random(SEED), a, b, c, d)


def sentencepiece_kinds():
    """(name, reference, bytes of tokenizer.model)"""
    data = kinds.mistral_data()
    names = ["tokenizer.model.v1", "mistral_instruct_tokenizer_240216.model.v2",
             "mistral_instruct_tokenizer_240323.model.v3", "mistral_instruct_tokenizer_241114.model.v7",
             "mistral_instruct_tokenizer_241114.model.v7m1"] if data else []
    for name in names:
        pieces = kinds.Pieces((data / name).read_bytes())
        yield f"model {name.split('.')[-1]}", SentencePieceReference(pieces), pieces.bytes
        if name.endswith("v1"):
            yield "model v1 tokenizers", kinds.llama2(pieces), pieces.bytes
    text = training_text(random.Random(SEED))
    for name, options in {
            "unigram nmt_nfkc": {"model_type": "unigram"},
            "unigram bytes": {"model_type": "unigram", "byte_fallback": True, "character_coverage": 0.98,
                              "normalization_rule_name": "nfkc_cf"},
            "bpe user": {"model_type": "bpe", "user_defined_symbols": ["<tool>", "zqz"], "character_coverage": 0.98,
                         "add_dummy_prefix": False, "remove_extra_whitespaces": False}}.items():
        pieces = kinds.Pieces(kinds.train_sentencepiece(text, **options))
        yield f"model {name}", SentencePieceReference(pieces, may_tie="unigram" in name), pieces.bytes


def gguf_kinds():
    """(name, reference, function that writes the file)"""
    data = kinds.mistral_data()
    if data:
        for name in ("tokenizer.model.v1", "mistral_instruct_tokenizer_241114.model.v7"):
            pieces = kinds.Pieces((data / name).read_bytes())
            yield f"gguf llama {name[-2:]} sentencepiece", SentencePieceReference(pieces), \
                lambda path, p=pieces: kinds.gguf_llama(p, path)
            yield f"gguf llama {name[-2:]} tokenizers", kinds.llama2(pieces), \
                lambda path, p=pieces: kinds.gguf_llama(p, path)
            yield f"gguf llama {name[-2:]} no prefix", kinds.gemma(pieces), \
                lambda path, p=pieces: kinds.gguf_llama(p, path, add_space_prefix=False)
    pieces = kinds.Pieces(kinds.train_sentencepiece(
        training_text(random.Random(SEED)), model_type="bpe", normalization_rule_name="identity",
        remove_extra_whitespaces=True, user_defined_symbols=["<tool>", "zqz"], character_coverage=0.98))
    user = [pieces.texts.index(t) for t in ("<tool>", "zqz")]
    yield "gguf llama squeezed", SentencePieceReference(pieces), \
        lambda path: kinds.gguf_llama(pieces, path, user, remove_extra_whitespaces=True)
    for pre in kinds.GGUF_PRE:
        yield f"gguf {pre}", kinds.gguf_reference(pre), lambda path, p=pre: kinds.gguf_bytes(path, p)


def agreed(tok, texts):
    """Strings on which the package's Unicode tables (some of them of version 9) do not matter."""
    names = set(re.findall(r"\w+", repr(tok.normalizer) + repr(tok.pre_tokenizer)))
    forms = {"NFC", "NFD", "NFKC", "NFKD"} & names
    mine = [lambda t, f=f: getattr(normalizers, f)().normalize_str(t) == unicodedata.normalize(f, t) for f in forms]
    if "StripAccents" in names:
        mine.append(lambda t: normalizers.StripAccents().normalize_str(unicodedata.normalize("NFD", t)) == "".join(
            c for c in unicodedata.normalize("NFD", t) if unicodedata.category(c) != "Mn"))
    if "Punctuation" in names:
        split = pre_tokenizers.Punctuation("removed")
        odd = {c for c in map(chr, tokenizer_parity.assigned()) if not c.isascii()
               and (len(split.pre_tokenize_str(f"a{c}a")) == 2) != (unicodedata.category(c)[0] == "P")}
        mine.append(lambda t: not odd & set(unicodedata.normalize("NFKD", t) + t))
    return [t for t in texts if all(same(t) for same in mine)]


def main():
    if unicodedata.unidata_version != "14.0.0" or not PROBE.exists():
        print(f"skipped: needs Python with Unicode 14 (3.11) and {PROBE}")
        sys.exit(77)
    only = [n for n in os.environ.get("HEDDLE_KINDS", "").split(",") if n]
    strings = [text for _, text in tokenizer_parity.make_strings(random.Random(SEED))]
    differences = tried = 0
    for name, build in all_kinds(random.Random(SEED)):
        if only and name not in only:
            continue
        tok = build()
        with tempfile.TemporaryDirectory() as folder:
            tok.save(folder + "/tokenizer.json")
            texts = agreed(tok, strings)
            assert len(texts) >= 5000, len(texts)
            differences += compare(name, tok, Probe("folder", folder, tok.get_vocab_size() + 7), texts,
                                   random.Random(SEED))
        tried += 1
    for name, tok, model in sentencepiece_kinds():
        if only and name not in only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "tokenizer.model").write_bytes(model)
            differences += compare(name, tok, Probe("folder", folder, tok.get_vocab_size() + 7), strings,
                                   random.Random(SEED))
        tried += 1
    for name, tok, write in gguf_kinds():
        if only and name not in only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            write(folder + "/model.gguf")
            texts = agreed(tok, strings)
            assert len(texts) >= 5000, len(texts)
            differences += compare(name, tok, Probe("gguf", folder + "/model.gguf"), texts, random.Random(SEED))
        tried += 1
    if differences or not tried:
        sys.exit(f"{differences} differences in {tried} kinds")
    if not kinds.mistral_data():
        print("skipped: the kinds on real vocabularies, which need the package mistral-common")
        sys.exit(77)


if __name__ == "__main__":
    main()
