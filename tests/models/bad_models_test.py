"""A catalogue of model files and folders that are wrong in one way each. Every one must be refused by `heddle` within
two seconds, with exit code 2 and one error line that says what is wrong. HEDDLE names the executable."""
import json
import os
import pathlib
import struct
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
import model_files as mf  # noqa: E402
from wrong_models import (CASES, GOOD, case, config_case, folder_case, gguf_case, header_case, heddle,  # noqa: E402
                          make_good, not_good, not_refused, write)

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n"
HTML = b"<!DOCTYPE html><html><head><title>404</title></head></html>"

# --- GGUF


def gguf_cases():
    def header(name, *phrases, **attributes):
        gguf_case(name, "gguf_header: ", *phrases)(lambda m: [setattr(m, k, v) for k, v in attributes.items()] and None)

    def key(name, of, kind, form, value, *phrases, area="gguf_header: "):
        gguf_case(name, area, *phrases)(lambda m: m.set(of, kind, form, value))

    def tensor(name, part, value, *phrases):
        def change(m):
            m.tensors["blk.0.attn_q.weight"][part] = value
        gguf_case(name, "gguf_tensor: ", *phrases)(change)

    gguf_case("empty", "truncated at byte 0: needs 24 bytes, the file has 0")(lambda m: b"")
    for n in (3, 7, 23):
        gguf_case(f"of {n} bytes", f"truncated at byte 0: needs 24 bytes, the file has {n}")(
            lambda m, n=n: m.serialise()[:n])
    for part in (1, 8, 20, 40, 63):
        gguf_case(f"cut at {part}/64", "truncated at byte ")(
            lambda m, part=part: m.serialise()[:len(m.serialise()) * part // 64])
    header("magic", "magic, got 'GGUG', allowed 'GGUF'", magic=b"GGUG")
    gguf_case("that is an LFS pointer", "got a Git LFS pointer")(lambda m: LFS)
    gguf_case("that is a config.json", "magic, got a JSON text, allowed 'GGUF'")(lambda m: b'{"model_type": "llama"}\n')
    gguf_case("that is a README", "magic, got a text, allowed 'GGUF'")(lambda m: b"# A model\n\nWeights elsewhere.\n")
    gguf_case("that is an HTML page", "got an HTML page")(lambda m: HTML)
    gguf_case("that is a pickle", "got a Python pickle (never read: it can run code)")(lambda m: b"\x80\x02}q\x00.")
    gguf_case("that is a zip archive", "got a zip archive or PyTorch checkpoint")(lambda m: b"PK\x03\x04" + bytes(60))
    gguf_case("that is safetensors", "got a safetensors file")(lambda m: struct.pack("<Q", 16) + b"{" + bytes(60))
    for version in (0, 1, 99):
        header(f"version {version}", f"version, got {version}, allowed 2 or 3", version=version)
    header("of another byte order", "byte order, got big-endian, allowed little-endian", version=3 << 24)
    header("with 2^63 keys", "number of keys, got 9223372036854775808, allowed up to", n_keys=1 << 63)
    header("with 2^63 tensors", "number of tensors, got 9223372036854775808, allowed up to", n_tensors=1 << 63)

    def more(name, raw, *phrases):
        def change(m):
            m.more_keys, m.n_keys = raw, len(m.keys) + 1
        gguf_case(name, "gguf_header: ", *phrases)(change)
    more("with a key of 2^63 bytes", struct.pack("<Q", 1 << 63) + b"x", "length of a key, got 9223372036854775808")
    more("with a string of a terabyte", mf.text("x") + struct.pack("<IQ", mf.STRING, 1 << 40), "string length in 'x'")
    more("with arrays in arrays", mf.text("x") + struct.pack("<I", mf.ARRAY) + struct.pack("<IQ", mf.ARRAY, 1) * 1000,
         "element kind of 'x', got array")
    more("with an array beyond all sizes", mf.text("x") + struct.pack("<IIQ", mf.ARRAY, mf.U64, (1 << 61) + 1),
         "array length of 'x', got 2305843009213693953")
    more("with an unknown kind", mf.text("x") + struct.pack("<II", 13, 0), "kind of 'x', got 13, allowed 0 to 12")
    more("with a bool of 2", mf.text("x") + struct.pack("<IB", mf.BOOL, 2), "value of 'x', got 2, allowed 0 or 1")
    more("with a key twice", mf.text("llama.block_count") + struct.pack("<II", mf.U32, 2),
         "key 'llama.block_count', got it twice")
    more("with a key of control characters", mf.text("a\nb") + struct.pack("<II", mf.U32, 2), "got 'a\\x0ab'")
    for alignment in (0, 13, 1 << 31):
        key(f"alignment {alignment}", "general.alignment", mf.U32, "I", alignment, f"general.alignment, got {alignment}")
    key("alignment of another kind", "general.alignment", mf.F32, "f", 32.0, "kind of 'general.alignment', got f32")
    tensor("without dimensions", 0, [], "rank of 'blk.0.attn_q.weight', got 0")
    tensor("of rank 5", 0, [64, 64, 1, 1, 1], "rank of 'blk.0.attn_q.weight', got 5")
    tensor("with a dimension 0", 0, [64, 0], "dimension 1 of 'blk.0.attn_q.weight', got 0")
    tensor("with a dimension 2^31", 0, [64, 1 << 31], "dimension 1 of 'blk.0.attn_q.weight', got 2147483648")
    tensor("beyond 2^62 bytes", 0, [(1 << 31) - 1] * 3, "size of 'blk.0.attn_q.weight', got more than 2^62 bytes")
    tensor("of an unknown type", 1, 99, "type of 'blk.0.attn_q.weight', got unknown number 99")
    tensor("of a type not read", 1, 16, "got IQ2_XXS, which this version does not read, allowed ")
    tensor("at an odd place", 2, 33, "offset of 'blk.0.attn_q.weight', got 33, allowed multiples of 32")
    tensor("over another", 2, 0, "overlapping, allowed disjoint ones")
    tensor("past the end", 2, 1 << 40, "range of 'blk.0.attn_q.weight', got bytes")
    tensor("at an offset that wraps", 2, (1 << 64) - 32, "offset of 'blk.0.attn_q.weight'")

    @gguf_case("with rows that are no blocks", "gguf_tensor: row length of 'blk.0.attn_q.weight', got 63")
    def _(m):
        m.tensors["blk.0.attn_q.weight"][:2] = [[63, 64], 8]

    @gguf_case("with a tensor twice", "gguf_tensor: tensor 'token_embd.weight', got it twice")
    def _(m):
        m.more_tensors = mf.text("token_embd.weight") + struct.pack("<IQIQ", 1, 1, 0, 0)
        m.n_tensors = len(m.tensors) + 1


def gguf_config_cases():
    def config(name, of, kind, form, value, *phrases):
        gguf_case(name, "config: " + of, *phrases)(lambda m: m.set(of, kind, form, value))

    gguf_case("of an unknown architecture", "config: general.architecture, got 'hyena', allowed ")(
        lambda m: m.set_text("general.architecture", "hyena"))
    gguf_case("without an architecture", "config: general.architecture is missing")(
        lambda m: m.keys.pop("general.architecture") and None)
    config("heads 0", "llama.attention.head_count", mf.U32, "I", 0, "got 0, allowed 1 to ")
    config("kv heads over heads", "llama.attention.head_count_kv", mf.U32, "I", 99, "got 99")
    config("layers 10^9", "llama.block_count", mf.U32, "I", 10**9, "got 1000000000, allowed 1 to 10000")
    config("context 2^31", "llama.context_length", mf.U32, "I", 1 << 31, "got 2147483648")
    config("width -1", "llama.embedding_length", mf.I32, "i", -1, "got -1")
    config("width as text", "llama.embedding_length", mf.F32, "f", 64.0, "got a value of kind f32, allowed an integer")
    config("eps 0", "llama.attention.layer_norm_rms_epsilon", mf.F32, "f", 0.0, "got 0")
    config("eps NaN", "llama.attention.layer_norm_rms_epsilon", mf.F32, "f", float("nan"), "got nan")
    config("theta 0", "llama.rope.freq_base", mf.F32, "f", 0.0, "got 0")
    config("theta infinite", "llama.rope.freq_base", mf.F32, "f", float("inf"), "got inf")
    config("vocabulary of another size", "llama.vocab_size", mf.U32, "I", 12345, "got 12345", "rows of token_embd.weight")
    for kind in ("linear", "yarn"):
        gguf_case(f"{kind} rope without a factor", "config: llama.rope.scaling.factor is missing")(
            lambda m, kind=kind: m.set_text("llama.rope.scaling.type", kind))
    gguf_case("yarn with theta 1", "config: llama.rope.freq_base, got 1, allowed numbers above 1 with yarn")(
        lambda m: [m.set_text("llama.rope.scaling.type", "yarn"), m.set("llama.rope.scaling.factor", mf.F32, "f", 2.0),
                   m.set("llama.rope.freq_base", mf.F32, "f", 1.0)] and None)
    gguf_case("with experts, not said how many of them", "config: llama.expert_used_count is missing, allowed 1 to 8")(
        lambda m: m.set("llama.expert_count", mf.U32, "I", 8))
    gguf_case("one layer more than it has", "tensor 'blk.2.", "is missing")(
        lambda m: m.set("llama.block_count", mf.U32, "I", 3))
    gguf_case("one layer less than it has", "has no place in family llama")(
        lambda m: m.set("llama.block_count", mf.U32, "I", 1))
    gguf_case("another width than its tensors", "shape, got [", ", allowed [")(
        lambda m: m.set("llama.feed_forward_length", mf.U32, "I", 160))
    gguf_case("without an embedding", "tensor 'token_embd.weight' is missing")(
        lambda m: m.tensors.pop("token_embd.weight") and None)


def gguf_tokenizer_cases():
    def tokens(name, change, *phrases):
        gguf_case("tokenizer: " + name, ": tokenizer: ", *phrases)(change)

    prefix = "tokenizer.ggml."
    tokens("none", lambda m: m.keys.pop(prefix + "tokens") and None, "tokenizer.ggml.tokens")
    tokens("of numbers", lambda m: m.keys.update({prefix + "tokens": [mf.ARRAY, mf.array(mf.U8, "B", [1, 2])]}),
           "got an array of u8")
    tokens("one token less", lambda m: m.keys.update(
        {prefix + "tokens": [mf.ARRAY, mf.texts(m.values(prefix + "tokens")[:-1])]}), "tokenizer.ggml.")
    tokens("a token twice", lambda m: m.keys.update(
        {prefix + "tokens": [mf.ARRAY, mf.texts(m.values(prefix + "tokens")[:-1] + [m.values(prefix + "tokens")[20]])]}),
        "distinct tokens")
    tokens("types of another length", lambda m: m.keys.update(
        {prefix + "token_type": [mf.ARRAY, mf.array(mf.I32, "i", [1, 1])]}), "tokenizer.ggml.token_type")
    tokens("a type out of range", lambda m: m.keys.update(
        {prefix + "token_type": [mf.ARRAY, mf.array(mf.I32, "i", [77] * len(m.values(prefix + "tokens")))]}), "77")
    tokens("a merge of tokens it has not", lambda m: m.keys.update(
        {prefix + "merges": [mf.ARRAY, mf.texts(["qqqq zzzz"])]}), "merges")
    tokens("without merges", lambda m: m.keys.pop(prefix + "merges") and None, "merges is missing, needed: the pairs")
    tokens("merges empty", lambda m: m.keys.update({prefix + "merges": [mf.ARRAY, mf.texts([])]}), "merges, got 0 entries")
    tokens("without types", lambda m: m.keys.pop(prefix + "token_type") and None, "token_type is missing, needed: ")
    tokens("pieces without scores", lambda m: m.set_text(prefix + "model", "llama"), "scores is missing, needed: one score")
    tokens("bos beyond the vocabulary", lambda m: m.set(prefix + "bos_token_id", mf.U32, "I", 1 << 30), "bos_token_id")
    tokens("an unknown model", lambda m: m.set_text(prefix + "model", "telepathy"), "'telepathy'")
    tokens("no pre-tokenizer", lambda m: m.keys.pop(prefix + "pre") and None, "tokenizer.ggml.pre, got nothing, allowed ")
    tokens("a type of another kind", lambda m: m.keys.update(
        {prefix + "token_type": [mf.ARRAY, mf.array(mf.I32, "i", [16711681] * len(m.values(prefix + "tokens")))]}),
        "tokenizer.ggml.token_type[0], got 16711681, allowed 1 to 6")
    tokens("an unknown pre-tokenizer", lambda m: m.set_text(prefix + "pre", "telepathy"), "'telepathy'")


def split_cases():
    def parts_case(name, *phrases):
        def add(change):
            def make(folder):
                parts = mf.split(mf.Gguf(next(iter(GOOD["gguf"].values()))), 3)
                change(parts)
                for i, part in enumerate(parts):
                    if part is not None:
                        (folder / f"x-{i + 1:05}-of-00003.gguf").write_bytes(part.serialise())
                return next(iter(sorted(folder.iterdir())))
            case("split " + name, "gguf_tensor: ", *phrases)(make)
        return add

    def put(i, value):
        return lambda parts: parts.__setitem__(i, value)
    parts_case("without its second part", "parts, got no file 'x-00002-of-00003.gguf'")(put(1, None))
    parts_case("without its first part", "parts, got no file 'x-00001-of-00003.gguf'")(put(0, None))
    parts_case("with parts exchanged", "split.no and split.count, got 2 and 3, allowed 1 and 3")(
        lambda parts: parts.reverse() or parts.insert(0, parts.pop()))
    parts_case("with another count of parts", "split.no and split.count, got 1 and 4")(
        lambda parts: parts[1].set("split.count", mf.U16, "H", 4))
    parts_case("with another count of tensors", "split.tensors.count, got 5")(
        lambda parts: parts[2].set("split.tensors.count", mf.I32, "i", 5))
    parts_case("whose counts are all wrong", "the tensors of all parts")(
        lambda parts: [p.set("split.tensors.count", mf.I32, "i", 7) for p in parts])
    parts_case("with a tensor in two parts", "got it in this and in an earlier part")(
        lambda parts: parts[2].tensors.update({"token_embd.weight": parts[2].tensors.pop(list(parts[2].tensors)[0])}))
    parts_case("part beyond its count", "split.no, got 9, allowed 0 to 2")(
        lambda parts: parts[0].set("split.no", mf.U16, "H", 9))


# --- safetensors


Q = "model.layers.0.self_attn.q_proj.weight"


def safetensors_cases():
    def entry(name, part, value, *phrases):
        header_case(name, *phrases)(lambda st: st.entries[Q].update({part: value}))

    header_case("empty", "header_length: truncated at byte 0: needs 8 bytes, the file has 0")(lambda st: b"")
    header_case("of 7 bytes", "header_length: truncated at byte 0: needs 8 bytes, the file has 7")(lambda st: b"1234567")
    for part in (1, 2, 8, 32, 63):
        header_case(f"cut at {part}/64", "truncated at byte ")(
            lambda st, part=part: st.serialise()[:len(st.serialise()) * part // 64])
    for length in (0, 1, 100_000_001, 1 << 63, (1 << 64) - 1):
        header_case(f"header of {length} bytes", f"header_length: bytes of the header, got {length}")(
            lambda st, length=length: setattr(st, "length", length))
    header_case("header longer than the file", "header_length: bytes of the header, got 99999999")(
        lambda st: setattr(st, "length", 99_999_999))
    header_case("that is an LFS pointer", "header_length: got a Git LFS pointer")(lambda st: LFS)
    header_case("that is a text", "header_length: got a text, allowed a safetensors file")(lambda st: b"Weights elsewhere.\n")
    header_case("that is an HTML page", "header_length: got an HTML page")(lambda st: HTML)
    header_case("that is a zip archive", "header_length: got a zip archive")(lambda st: b"PK\x03\x04" + bytes(60))
    header_case("that is GGUF", "header_length: got a GGUF file")(lambda st: b"GGUF" + bytes(60))
    for what, header in {"an array": "[]", "not UTF-8": b'{"\xff":1}', "cut": '{"a":', "of two objects": "{}{}",
                         "with NUL": b"{}\0\0", "a bomb": '{"a":' + "[" * 1000 + "]" * 1000 + "}",
                         "with a tensor twice": '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{}}',
                         "with a dtype twice": '{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}',
                         "with an entry of text": '{"a":"F32"}'}.items():
        header_case("header " + what, "header_json")(lambda st, header=header: setattr(st, "header", header))
    header_case("metadata of numbers", "header_json: __metadata__ 'n', got 1")(
        lambda st: setattr(st, "metadata", {"n": 1}))
    header_case("an entry without offsets", "header_json: tensor", "no data_offsets")(
        lambda st: st.entries[Q].pop("data_offsets") and None)
    entry("offsets reversed", "data_offsets", [64, 0], "tensor_range: data_offsets of ", "64 before 0")
    entry("offsets that overlap", "data_offsets", [0, 64 * 64 * 4], "tensor_range: got ", "overlapping")
    entry("offsets past the end", "data_offsets", [1 << 40, (1 << 40) + 64 * 64 * 4], "tensor_range: ")
    entry("offsets that wrap", "data_offsets", [(1 << 64) - 8, (1 << 64) - 1], "tensor_range: data_offsets of ")
    entry("offsets of text", "data_offsets", ["0", "1"], "tensor_range: data_offsets of ", "allowed two integers")
    header_case("a hole", "tensor_range: got 8 bytes between ")(
        lambda st: [setattr(st, "data", bytes(8) + st.data),
                    [e.update({"data_offsets": [o + 8 for o in e["data_offsets"]]}) for e in st.entries.values()]] and None)
    header_case("a tail", "tensor_range: got 5 bytes after ")(lambda st: setattr(st, "data", st.data + b"tail!"))
    entry("shape negative", "shape", [-64, 64], "shape: dimension 0 of ", "got -64")
    entry("shape of floats", "shape", [64.0, 64], "shape: dimension 0 of ", "got 64.0")
    entry("shape with 0", "shape", [0, 64], "shape: dimension 0 of ", "got 0")
    entry("shape of rank 9", "shape", [64, 64] + [1] * 7, "shape: rank of ", "got 9")
    entry("shape that overflows", "shape", [1 << 32, 1 << 32], "size_overflow: bits of ")
    entry("shape of another size", "shape", [64, 65], "tensor_range: bytes of ")
    entry("shape of another form", "shape", [32, 128], "tensor 'model.layers.0.self_attn.q_proj.weight': shape, got [32, 128]")
    entry("dtype unknown", "dtype", "Q4_K", "dtype: of ", "got 'Q4_K'")
    entry("dtype that no kernel reads", "dtype", "I32", "dtype, got I32, allowed F32, F16, BF16")
    entry("dtype of half bytes, odd", "dtype", "F4", "tensor_range: bytes of ")
    header_case("without a tensor", "is missing")(
        lambda st: [st.entries.pop(list(st.entries)[-1]),
                    setattr(st, "data", st.data[:max(e["data_offsets"][1] for e in st.entries.values())])] and None)
    header_case("with a tensor that no part uses", "tensor 'model.layers.0.extra.weight': place, got one that has no place in family llama")(
        lambda st: [st.entries.update({"model.layers.0.extra.weight": {
            "dtype": "F32", "shape": [1], "data_offsets": [len(st.data), len(st.data) + 4]}}),
            setattr(st, "data", st.data + b"\0\0\0\0")] and None)


def index_cases():
    index = "model.safetensors.index.json"

    def index_case(name, *phrases, **kw):
        def add(change):
            def break_index(files):
                value = json.loads(files[index])
                raw = change(value, files)
                files[index] = raw if isinstance(raw, (bytes, str)) else json.dumps(value)
            folder_case("index " + name, *phrases, base="sharded", **kw)(break_index)
        return add

    def shards(value):
        return sorted(set(value["weight_map"].values()))
    for what, name in {"up": "../x.safetensors", "absolute": "/etc/passwd", "in a folder": "a/b.safetensors",
                       "with NUL": "x\0y", "that is the folder": ".", "empty": "", "above": ".."}.items():
        index_case("names a shard " + what, "shard_path: of tensor ")(
            lambda v, f, name=name: v["weight_map"].update({Q: name}))
    index_case("names a shard by a number", "shard_path: of tensor ")(lambda v, f: v["weight_map"].update({Q: 1}))
    index_case("names a shard that is missing", "shard_missing: got no file ")(
        lambda v, f: f.update({shards(v)[1]: None}))
    index_case("misses a shard that is there", "index_mismatch: shards, got a file ")(
        lambda v, f: f.update({"model-00003-of-00003.safetensors": f[shards(v)[0]]}))
    index_case("and a single file", "index_mismatch: shards, got a file 'model.safetensors'")(
        lambda v, f: f.update({"model.safetensors": f[shards(v)[0]]}))
    index_case("has both files be the same", "index_mismatch: tensor ", "got it in ")(
        lambda v, f: f.update({shards(v)[1]: f[shards(v)[0]]}))
    index_case("names the wrong shard", "index_mismatch: tensor ", "(as weight_map says)")(
        lambda v, f: v["weight_map"].update({Q: [s for s in shards(v) if s != v["weight_map"][Q]][0]}))
    index_case("names a tensor that is nowhere", "index_mismatch: tensor 'ghost', got no file that has it")(
        lambda v, f: v["weight_map"].update({"ghost": shards(v)[0]}))
    index_case("misses a tensor", "index_mismatch: tensor '" + Q + "'", "no entry in weight_map")(
        lambda v, f: v["weight_map"].pop(Q) and None)
    index_case("of another total size", "index_mismatch: metadata.total_size, got 1, allowed ")(
        lambda v, f: v["metadata"].update({"total_size": 1}))
    index_case("without a map", "index_mismatch: weight_map, got nothing")(lambda v, f: "{}")
    index_case("that is no JSON", "index_mismatch:1:1: not valid JSON")(lambda v, f: "x")
    index_case("with a tensor twice", "index_mismatch:", "duplicate key 'a'")(
        lambda v, f: '{"weight_map":{"a":"x","a":"y"}}')

    def special(name, *phrases):
        def add(change):
            def make(folder):
                write(folder, GOOD["sharded"])
                shard = next(p for p in sorted(folder.iterdir()) if p.name.startswith("model-00001"))
                shard.unlink()
                change(shard)
                return folder
            case("shard " + name, "shard_path: got ", *phrases)(make)
        return add
    special("that leads to a device", "a link to '/dev/zero'")(lambda p: p.symlink_to("/dev/zero"))
    special("that leads out", "a link to '../elsewhere'")(lambda p: p.symlink_to("../elsewhere"))
    special("that is a FIFO", "a FIFO, allowed a regular file")(os.mkfifo)
    special("that is a directory", "a directory, allowed a regular file")(lambda p: p.mkdir())


# --- folders, config.json


def config_cases():
    def config(name, key, value, *phrases):
        config_case(name, "/config.json: config: ", *phrases)(
            lambda c: c.pop(key) and None if value is None else c.update({key: value}))

    config("heads 0", "num_attention_heads", 0, "num_attention_heads, got 0")
    config("hidden not divided by heads", "head_dim", 15, "head_dim, got 15")
    config("kv heads over heads", "num_key_value_heads", 8, "num_key_value_heads, got 8")
    config("layers 10^9", "num_hidden_layers", 10**9, "num_hidden_layers, got 1000000000, allowed 1 to 10000")
    config("layers missing", "num_hidden_layers", None, "num_hidden_layers is missing")
    config("vocabulary of another size", "vocab_size", 380, "vocab_size, got 380, allowed ")
    config("vocabulary 2^31", "vocab_size", 1 << 31, "vocab_size, got 2147483648")
    config("theta 0", "rope_theta", 0, "rope_theta, got 0")
    config("eps negative", "rms_norm_eps", -1e-5, "rms_norm_eps, got -1e-05")
    config("context 2^31", "max_position_embeddings", 1 << 31, "max_position_embeddings, got 2147483648")
    config("width negative", "hidden_size", -3, "hidden_size, got -3, allowed 1 to 1048576")
    config("width as text", "hidden_size", "64", "hidden_size, got '64'")
    config("width of a half", "hidden_size", 64.5, "hidden_size, got 64.5")
    config("width beyond 64 bits", "hidden_size", (1 << 64) - 1, "hidden_size, got 18446744073709551615")
    config("activation unknown", "hidden_act", "relu2", "hidden_act, got 'relu2'")
    config("tied as text", "tie_word_embeddings", "yes", "tie_word_embeddings, got 'yes'")
    config("rope of an unknown type", "rope_scaling", {"rope_type": "spiral", "factor": 2.0}, "got 'spiral'")
    config("rope without a factor", "rope_scaling", {"rope_type": "linear"}, "rope_scaling.factor is missing")
    config("rope factor 0", "rope_scaling", {"rope_type": "linear", "factor": 0}, "rope_scaling.factor, got 0")
    config_case("yarn with theta 1", "/config.json: config: rope_theta, got 1, allowed numbers above 1 with yarn")(
        lambda c: c.update({"rope_theta": 1, "rope_scaling": {"rope_type": "yarn", "factor": 2.0}}))
    config("rope as a list", "rope_scaling", [1], "rope_scaling, got an array of 1")
    config("unknown model", "model_type", "hyena", "model_type, got 'hyena' (architectures: 'LlamaForCausalLM')")
    config("no model type", "model_type", None, "model_type is missing")
    config("model type a number", "model_type", 7, "model_type, got 7, allowed a string")
    config("with experts", "num_local_experts", 8, "num_local_experts, got 8", "no mixture of experts")
    config("bidirectional", "use_bidirectional_attention", True, "use_bidirectional_attention, got true, allowed none")
    config("of an encoder and a decoder", "is_encoder_decoder", True, "is_encoder_decoder, got true, allowed none")
    config("of an encoder", "is_decoder", False, "is_decoder, got false, allowed true")
    config("not causal", "is_causal", False, "is_causal, got false, allowed true")
    config("of a classifier", "architectures", ["LlamaForSequenceClassification"],
           "architectures, got 'LlamaForSequenceClassification', allowed causal language models (LlamaForCausalLM)")
    config("quantised another way", "quantization_config", {"quant_method": "gptq"}, "quant_method, got 'gptq'")

    def file(name, content, *phrases):
        folder_case("config " + name, "/config.json", *phrases)(lambda f: f.update({"config.json": content}))
    file("that is no JSON", "{", "config:1:2: not valid JSON")
    file("with NaN", '{"rope_theta": NaN}', "not valid JSON")
    file("with a key twice", '{"a":1,"a":2}', "duplicate key 'a'")
    file("that is a list", "[]", "got an array of 0, allowed an object")
    file("that is a bomb", "[" * 5000, "JSON nested deeper than 64")
    file("that is an LFS pointer", LFS, "got a Git LFS pointer")
    file("that is an HTML page", HTML, "got an HTML page")
    file("that is empty", "", "got an empty file")
    file("of 20 MB", " " * 20_000_000, "larger than 16777216 bytes")


def bin_cases():
    def broken(name, *phrases):
        def add(change):
            def change_file(files):
                files["pytorch_model.bin"] = change(files["pytorch_model.bin"])
            folder_case("bin " + name, "/pytorch_model.bin: ", *phrases, base="bin")(change_file)
        return add

    def replaced(name, old, new, *phrases):
        """The sizes stay; checksums are nobody's concern."""
        assert len(old) == len(new)
        broken(name, "pickle: ", *phrases)(lambda raw: raw.replace(old, new, 1))

    for part in (1, 2, 8, 32, 63):
        broken(f"cut at {part}/64", "zip_archive: end record, got none")(lambda raw, part=part: raw[:len(raw) * part // 64])
    broken("that is an LFS pointer", "zip_archive: got a Git LFS pointer")(lambda raw: LFS)
    broken("that is an old pickle", "zip_archive: got a Python pickle")(lambda raw: b"\x80\x02}q\x00.")
    broken("of other bytes in front", "zip_archive: directory, got ")(lambda raw: b"MZ" + raw)
    replaced("with an unknown global", b"_rebuild_tensor_v2", b"_rebuild_tensor_v3",
             "got 'torch._utils._rebuild_tensor_v3' (never run: a pickle can hold code)")
    replaced("of protocol 4", b"\x80\x02c", b"\x80\x04c", "protocol, got 4, allowed 2")
    replaced("with an unknown opcode", b"(X\x19\x00\x00\x00model", b"iX\x19\x00\x00\x00model", "opcode at byte ")
    replaced("of another storage type", b"FloatStorage", b"ShortStorage", "bytes of 'archive/data/0', got ")
    folder_case("bin of another family", "shard_missing: weights, got 'pytorch_model.bin', a Python pickle", base="bin")(
        lambda f: f.update({"config.json": f["config.json"].replace(b"transnormer", b"llama")}))


def folder_cases():
    drop = {"model.safetensors": None}
    for weights in ("pytorch_model.bin", "consolidated.00.pth"):
        folder_case(f"folder with {weights} only", "shard_missing: weights, got '" + weights + "', a Python pickle")(
            lambda f, weights=weights: f.update({**drop, weights: b"PK\x03\x04"}))
    folder_case("folder without weights", "shard_missing: weights, got neither")(lambda f: f.update(drop))
    folder_case("folder with a shard without index", "shard_missing: got 'model-00001-of-00002.safetensors' without")(
        lambda f: f.update({**drop, "model-00001-of-00002.safetensors": b""}))
    folder_case("folder with nothing", "model folder, got no config.json and no .gguf file, allowed config.json")(
        lambda f: f.clear())
    folder_case("folder with two GGUF models", "model folder, got 2 .gguf models")(
        lambda f: [f.clear(), f.update({"a.gguf": b"", "b.gguf": b""})])
    folder_case("file beside no config", "got no config.json beside it", opened="model.safetensors")(
        lambda f: f.update({"config.json": None}))
    folder_case("file that is not the model's", "got one that the model in", opened="x.safetensors")(
        lambda f: f.update({"x.safetensors": b""}))
    case("a file that is not there", "no such file")(lambda folder: folder / "nowhere.gguf")
    case("a FIFO", "not a regular file")(lambda folder: [os.mkfifo(folder / "x.gguf"), folder / "x.gguf"][1])
    case("a device", "not a regular file")(lambda folder: "/dev/null")

    def generation(name, value, *phrases):
        folder_case("generation_config " + name, "/generation_config.json: config", *phrases)(
            lambda f: f.update({"generation_config.json": value}))
    generation("temperature negative", '{"do_sample":true,"temperature":-1}', "temperature, got -1")
    generation("temperature NaN", '{"temperature":NaN}', "not valid JSON")
    generation("eos beyond the vocabulary", '{"eos_token_id":1000000}', "eos_token_id, got 1000000")
    generation("eos of 2000 ids", json.dumps({"eos_token_id": [1] * 2000}), "eos_token_id, got 2000 ids")
    generation("top_k as text", '{"top_k":"many"}', "top_k, got 'many'")


def tokenizer_cases():
    def tokenizer(name, change, *phrases):
        def break_tokenizer(files):
            whole = json.loads(files["tokenizer.json"])
            raw = change(whole)
            files["tokenizer.json"] = raw if isinstance(raw, (bytes, str)) else json.dumps(whole)
        folder_case("tokenizer.json " + name, "/tokenizer.json: tokenizer", *phrases)(break_tokenizer)

    def vocab(whole):
        return whole["model"]["vocab"]
    folder_case("folder without a tokenizer", "tokenizer", "got none, allowed tokenizer.json")(
        lambda f: f.update({"tokenizer.json": None}))
    tokenizer("that is no JSON", lambda w: "{", "not valid JSON")
    tokenizer("that is a bomb", lambda w: '{"model":' + "[" * 100_000, "nested deeper than")
    tokenizer("with an id twice", lambda w: vocab(w).update({list(vocab(w))[30]: vocab(w)[list(vocab(w))[31]]}), "/model/vocab")
    tokenizer("with a negative id", lambda w: vocab(w).update({list(vocab(w))[30]: -1}), "/model/vocab")
    tokenizer("with a merge of tokens it has not", lambda w: w["model"]["merges"].append("qqqq zzzz"), "/model/merges")
    tokenizer("of an unknown model", lambda w: w["model"].update({"type": "Telepathy"}), "/model", "Telepathy")
    tokenizer("with an unknown pre-tokenizer", lambda w: w.update({"pre_tokenizer": {"type": "Telepathy"}}),
              "/pre_tokenizer", "Telepathy")
    tokenizer("with an unknown normalizer", lambda w: w.update({"normalizer": {"type": "Telepathy"}}),
              "/normalizer", "Telepathy")
    tokenizer("with an unknown decoder", lambda w: w.update({"decoder": {"type": "Telepathy"}}), "/decoder", "Telepathy")
    tokenizer("with an empty added token", lambda w: w["added_tokens"][0].update({"content": ""}), "/added_tokens/0")
    tokenizer("without a model", lambda w: w.pop("model") and None, "no member 'model'")
    folder_case("tokenizer.json that is an LFS pointer", "tokenizer.json", "Git LFS pointer")(
        lambda f: f.update({"tokenizer.json": LFS}))


def template_cases():
    generate = ("generate", "-p", "x", "--max-tokens", "1")
    bad = "{% for m in messages %}\n{{ m ! }}{% endfor %}"
    where = "chat_template: line 2, column 6: "
    gguf_case("template that does not parse", "x.gguf: tokenizer." + where, command=generate)(
        lambda m: m.set_text("tokenizer.chat_template", bad))
    gguf_case("template that fails", "x.gguf: tokenizer.chat_template: line 1, column ", "no good", command=generate)(
        lambda m: m.set_text("tokenizer.chat_template", "{{ raise_exception('no good') }}"))
    folder_case("template of a file", "/chat_template.jinja: " + where, command=generate)(
        lambda f: f.update({"chat_template.jinja": bad}))
    folder_case("template that is not UTF-8", "/chat_template.jinja: chat_template: text, got bytes that are not UTF-8")(
        lambda f: f.update({"chat_template.jinja": b"\xff"}))
    folder_case("template of tokenizer_config.json", "/tokenizer_config.json: " + where, command=generate)(
        lambda f: f.update({"tokenizer_config.json": json.dumps(
            {**json.loads(f["tokenizer_config.json"]), "chat_template": bad})}))


# --- weights


def weight_cases():
    generate = ("generate", "-p", "x", "--max-tokens", "1")

    def value(name, tensor, index, number, *phrases):
        @header_case(name, f"tensor '{tensor}': ", *phrases, "--allow-nonfinite", command=generate)
        def _(st):
            begin, end = st.entries[tensor]["data_offsets"]
            raw = bytearray(st.data)
            places = range(begin, end, 4) if index is None else [begin + 4 * index]
            for at in places:
                raw[at:at + 4] = struct.pack("<f", number)
            st.data = bytes(raw)
    value("NaN in a matrix", Q, 65, float("nan"), "1 value that is not finite (the first at row 1, column 1)")
    value("infinity in the embedding", "model.embed_tokens.weight", 0, float("inf"), "row 0, column 0")
    value("infinity in a norm", "model.norm.weight", 3, float("-inf"), "row 0, column 3")
    value("a norm of zeros", "model.norm.weight", None, 0.0, "got a norm of zeros only")

    @gguf_case("NaN in a matrix", "tensor 'blk.1.ffn_down.weight': weights, got 1 value that is not finite", command=generate)
    def _(m):
        at = m.tensors["blk.1.ffn_down.weight"][2]
        m.data = m.data[:at] + struct.pack("<f", float("nan")) + m.data[at + 4:]

    def quantised(folder):
        (name, raw), = GOOD["q8_0"].items()
        m = mf.Gguf(raw)
        at = m.tensors["blk.0.ffn_up.weight"][2] + 34
        m.data = m.data[:at] + struct.pack("<H", 0x7C00) + m.data[at + 2:]
        (folder / name).write_bytes(m.serialise())
        return folder / name
    case("gguf infinite scale", "tensor 'blk.0.ffn_up.weight': weights, got 1 block that is not finite (the first at row 0, column 32)",
         command=generate)(quantised)


for add_cases in (gguf_cases, gguf_config_cases, gguf_tokenizer_cases, split_cases, safetensors_cases, index_cases,
                  config_cases, bin_cases, folder_cases, tokenizer_cases, template_cases, weight_cases):
    add_cases()


class BadModels(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        make_good("gguf", "--family", "llama", "--format", "gguf")
        make_good("q8_0", "--family", "llama", "--format", "gguf", "--dtype", "Q8_0")
        make_good("safetensors", "--family", "llama", "--format", "safetensors")
        make_good("sharded", "--family", "llama", "--format", "safetensors", "--shards", "2")
        make_good("bin", "--family", "transnormer", "--format", "safetensors", "--weights", "bin")

    def test_the_models_they_are_made_from_are_good(self):
        self.assertEqual(not_good(), [])
        with tempfile.TemporaryDirectory() as folder:
            parts = mf.split(mf.Gguf(next(iter(GOOD["gguf"].values()))), 3)
            for i, part in enumerate(parts):
                (pathlib.Path(folder) / f"x-{i + 1:05}-of-00003.gguf").write_bytes(part.serialise())
            self.assertEqual(heddle(("inspect",), pathlib.Path(folder) / "x-00002-of-00003.gguf")[0], 0)

    def test_memory_is_counted_before_weights_are_read(self):
        # The weights are wrong too, which nobody finds out.
        st = mf.Safetensors(GOOD["safetensors"]["model.safetensors"])
        st.data = b"\xff" * len(st.data)
        m = mf.Gguf(next(iter(GOOD["gguf"].values())))
        m.data = b"\xff" * len(m.data)
        for files in ({**GOOD["safetensors"], "model.safetensors": st.serialise()}, {"x.gguf": m.serialise()}):
            with tempfile.TemporaryDirectory() as folder:
                write(pathlib.Path(folder), files)
                for limit, remedy in ("1", "a smaller --max-step-tokens lowers it"), ("2", "a smaller --ctx"):
                    rc, err, _ = heddle(("generate", "-p", "x", "--memory-limit", limit), folder)
                    self.assertEqual(rc, 3, err)
                    self.assertRegex(
                        err, r"^error: memory: needs .* MiB: weights .*; the memory limit allows .* MiB; " + remedy)

    def test_taking_a_file_apart_and_together_changes_nothing(self):
        whole = next(iter(GOOD["gguf"].values()))
        self.assertEqual(mf.Gguf(whole).serialise(), whole)

    def test_each_is_refused_with_its_reason(self):
        self.assertGreaterEqual(len(CASES), 150)
        wrong = not_refused()
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))


if __name__ == "__main__":
    unittest.main(verbosity=2)
