"""The tokenizer of the tiny checkpoints: byte-level BPE over any text, with ChatML's special tokens."""
import re

PRE_TOKENIZERS = ("smollm", "llama-bpe", "qwen2")
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
BOS, EOS = "<|endoftext|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# What the merges are learned from.
TEXT = """The weaver sets the warp on the loom and lifts the heddle: every second thread rises, the
shuttle passes through the shed, and the reed beats the weft into the cloth. A pear 12 lane, the
green river and the old stone bridge; the user asks and the assistant answers. Then the other
threads rise, the shuttle returns, and the pattern grows line by line as the weaver counts: one,
two, three, four. There is nothing else in the room but the sound of the loom and of the rain."""
N_MERGES = 120
VOCAB = len(SPECIALS) + 256 + N_MERGES

LLAMA_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_alphabet():
    """GPT-2's printable character for each byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {b: chr(b) for b in plain}
    for b in range(256):
        if b not in alphabet:
            alphabet[b] = chr(256 + len(alphabet) - len(plain))
    return alphabet


def learn_merges(text, n):
    """The n most frequent pairs, one after the other; ties go to the smaller pair."""
    alphabet = byte_alphabet()
    words = [[alphabet[b] for b in w.encode()] for w in re.findall(r" ?[A-Za-z]+", text.replace("\n", " "))]
    merges = []
    while len(merges) < n:
        counts = {}
        for w in words:
            for pair in zip(w, w[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            raise SystemExit(f"the text has only {len(merges)} merges")
        best = min(counts, key=lambda p: (-counts[p], p))
        merges.append(best)
        for w in words:
            i = 0
            while i + 1 < len(w):
                if (w[i], w[i + 1]) == best:
                    w[i : i + 2] = ["".join(best)]
                i += 1
    return merges


def vocabulary():
    """(tokens, merges as pairs): specials, the 256 bytes, one token per merge."""
    merges = learn_merges(TEXT, N_MERGES)
    alphabet = byte_alphabet()
    tokens = [*SPECIALS, *(alphabet[b] for b in range(256)), *("".join(m) for m in merges)]
    if len(set(tokens)) != len(tokens) or len(tokens) != VOCAB:
        raise SystemExit("two merges give one token")
    return tokens, merges


def gguf_keys(pre):
    """(key, kind, value) of the tokenizer in GGUF."""
    tokens, merges = vocabulary()
    types = [3] * len(SPECIALS) + [1] * (len(tokens) - len(SPECIALS))
    return [
        ("tokenizer.ggml.model", "string", "gpt2"),
        ("tokenizer.ggml.pre", "string", pre),
        ("tokenizer.ggml.tokens", "strings", tokens),
        ("tokenizer.ggml.token_type", "i32s", types),
        ("tokenizer.ggml.merges", "strings", [" ".join(m) for m in merges]),
        ("tokenizer.ggml.bos_token_id", "u32", tokens.index(BOS)),
        ("tokenizer.ggml.eos_token_id", "u32", tokens.index(EOS)),
        ("tokenizer.ggml.add_bos_token", "bool", pre == "llama-bpe"),
        ("tokenizer.chat_template", "string", CHAT_TEMPLATE),
    ]


def pre_tokenizer(pre):
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    if pre == "smollm":
        first = {"type": "Digits", "individual_digits": True}
        return {"type": "Sequence", "pretokenizers": [first, {**byte_level, "use_regex": True}]}
    pattern = LLAMA_PATTERN % (r"\p{N}{1,3}" if pre == "llama-bpe" else r"\p{N}")
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, {**byte_level, "use_regex": False}]}


def tokenizer_json(pre):
    """tokenizer.json's value."""
    tokens, merges = vocabulary()
    post = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    if pre == "llama-bpe":
        bos = {"id": BOS, "ids": [tokens.index(BOS)], "tokens": [BOS]}
        sequence = lambda name: {"Sequence": {"id": name, "type_id": 0}}
        special = {"SpecialToken": {"id": BOS, "type_id": 0}}
        template = {"type": "TemplateProcessing", "single": [special, sequence("A")],
                    "pair": [special, sequence("A"), special, sequence("B")], "special_tokens": {BOS: bos}}
        post = {"type": "Sequence", "processors": [post, template]}
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, t in enumerate(SPECIALS)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": pre_tokenizer(pre),
        "post_processor": post,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "ignore_merges": pre == "llama-bpe", "vocab": {t: i for i, t in enumerate(tokens)},
                  "merges": [list(m) for m in merges]},
    }


def tokenizer_config():
    """tokenizer_config.json's value."""
    return {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS,
            "add_prefix_space": False, "clean_up_tokenization_spaces": False, "chat_template": CHAT_TEMPLATE}
