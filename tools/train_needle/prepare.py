"""From corpus.py's text to what training reads: tokenizer.model, tokens.npz, held_out.txt."""

import argparse
import json
import pathlib
import random
import re
import sys

import numpy as np
import sentencepiece

import tasks
import words

VOCABULARY = 4096
CHUNK = 4000  # characters; 6 % of chunks are held out for evaluation


def sentences_of(text: str) -> list[str]:
    """Split behind . ! ? and closing quotes before white space; white space becomes one space."""
    flat = " ".join(text.split())
    return [part for part in re.split(r"(?<=[.!?])\s+|(?<=[.!?][\"')])\s+", flat) if part]


def chunks_of(text: str) -> list[list[str]]:
    """Sentences in chunks of about CHUNK characters."""
    chunks: list[list[str]] = [[]]
    size = 0
    for sentence in sentences_of(text):
        if size > CHUNK:
            chunks.append([])
            size = 0
        chunks[-1].append(sentence)
        size += len(sentence)
    return chunks


def task_texts(rng: random.Random, n: int) -> list[str]:
    """Needles and questions for the tokenizer, so that their words, digits and hexadecimal digits
    have pieces."""
    texts = list(tasks.NOISE) * 20 + [tasks.PASSKEY_PREAMBLE] * 20
    for _ in range(n):
        kind = rng.choice(("number", "word", "uuid"))
        key_kind = rng.choice(("word", "word", "uuid"))
        key, value = tasks.key_of(key_kind, rng), tasks.value_of(kind, rng)
        texts.append(tasks.magic_needle(kind, key, value))
        texts.append(tasks.magic_question(kind, [key], rng.randint(1, 2)) + f" {value}.")
        texts.append(tasks.passkey_needle(words.passkey(rng)))
        texts.append(tasks.code_needle(rng.choice(("code", "word")), key, value))
    texts += [tasks.passkey_question(), *map(tasks.magic_preamble, ("number", "word", "uuid"))] * 20
    texts += [tasks.best_thing_needle(*tasks.SAN_FRANCISCO), tasks.best_thing_question("it")] * 20
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=pathlib.Path, required=True, help="corpus.py's --out")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    files = sorted((args.corpus / "text").glob("*.txt"))
    if not files:
        sys.exit(f"{args.corpus / 'text'}: text files, got none, allowed: those that corpus.py writes")
    args.out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)
    train: list[str] = []
    held: list[str] = []
    for file in files:
        for chunk in chunks_of(file.read_text()):
            (held if rng.random() < 0.06 else train).extend(chunk)
    spm_text = args.out / "tokenizer.txt"
    spm_text.write_text("\n".join(train + task_texts(rng, 6000)) + "\n")
    sentencepiece.SentencePieceTrainer.train(
        input=str(spm_text), model_prefix=str(args.out / "tokenizer"), vocab_size=VOCABULARY,
        model_type="bpe", byte_fallback=True, split_digits=False, split_by_number=False,
        character_coverage=1.0, normalization_rule_name="nmt_nfkc", num_threads=2,
        user_defined_symbols=list(".,-:?"), unk_id=0, bos_id=1, eos_id=2, pad_id=3,
        max_sentence_length=65536,
        input_sentence_size=400_000, shuffle_input_sentence=False, minloglevel=1,
    )  # fmt: skip
    spm_text.unlink()
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(args.out / "tokenizer.model"))
    pieces = tokenizer.encode(train)
    ends = np.cumsum([0, *map(len, pieces)])
    counts: dict[str, int] = {}
    for word in re.findall(r"[A-Za-z]+", " ".join(train)):
        counts[word] = counts.get(word, 0) + 1
    common = sorted(w for w, n in counts.items() if n >= 2 and 3 <= len(w) <= 12)
    np.savez_compressed(
        args.out / "tokens.npz",
        tokens=np.concatenate(pieces).astype(np.uint16),
        ends=ends.astype(np.int32),
        words=np.array([w for w in common if w.islower()]),
        names=np.array([w for w in common if w.istitle() and w.lower() not in counts]),
    )
    (args.out / "held_out.txt").write_text("\n".join(held) + "\n")
    (args.out / "prepared.json").write_text(
        json.dumps(
            {
                "sources": json.loads((args.corpus / "sources.json").read_text()),
                "train_characters": sum(map(len, train)),
                "train_tokens": int(ends[-1]),
                "held_out_characters": sum(map(len, held)),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
