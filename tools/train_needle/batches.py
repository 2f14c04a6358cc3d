"""Training batches: a function of seed, step and number of steps, whoever computes them.

A batch is 65,536 tokens of sequences of one length. What is learned from a token is its class:
ANSWER (a needle's value behind its question, and the full stop), COPY (the second time of a
repeated segment), TEXT (prose), or nothing: needles, questions and haystacks teach nothing.
"""

import dataclasses
import random
from bisect import bisect_left

import numpy as np
import sentencepiece

import tasks
import words

BATCH_TOKENS = 65536
BOS = 1
NONE, ANSWER, COPY, TEXT = range(4)
Span = tuple[int, int, int]  # first token, end, class


@dataclasses.dataclass
class Text:
    """The training text: tokens, the end of each sentence in them, and its words."""

    tokens: np.ndarray  # uint16
    ends: np.ndarray  # ascending
    words: list[str]  # lower case, in the order of the alphabet
    names: list[str]  # capitalised


@dataclasses.dataclass(frozen=True)
class Stage:
    """From `start`, a share of all steps, on: sequence lengths, shares of kinds of sequences."""

    start: float
    lengths: tuple[int, ...]
    multi: float
    single: float
    copy: float  # the rest is text


STAGES = (
    Stage(0.00, (256,), 0.45, 0.05, 0.35),
    Stage(0.08, (256, 512), 0.50, 0.10, 0.25),
    Stage(0.18, (256, 512, 1024), 0.55, 0.10, 0.20),
    Stage(0.35, (512, 1024, 2048), 0.60, 0.15, 0.12),
    Stage(0.55, (512, 1024, 2048, 4096), 0.60, 0.18, 0.10),
)


@dataclasses.dataclass
class Group:
    """Needles and the question that asks for all their values."""

    needles: list[list[int]]
    question: list[int]
    values: list[str]  # of each needle
    phrase: list[int] = dataclasses.field(default_factory=list)  # the answer, if it is no text
    in_text_order: bool = False  # the order of the answer: the needles' in the text, else as here

    @property
    def tokens(self) -> int:
        return sum(map(len, self.needles)) + len(self.question)


class Builder:
    """Builds sequences of token ids with their classes."""

    def __init__(self, text: Text, tokenizer: sentencepiece.SentencePieceProcessor):
        self.text = text
        self.encode = tokenizer.encode
        self.vocab = tokenizer.vocab_size()
        self.stop = self.encode("a.")[-1:]
        pieces = map(tokenizer.id_to_piece, range(self.vocab))
        self.word_starts = {i for i, piece in enumerate(pieces) if piece.startswith("\u2581")}
        self.kinds = ("number", "word")  # of values and keys in the sequence at hand
        self.used: list[str] = []  # its keys
        self.region = (0, len(text.tokens))  # its prose
        self.noise = [self.encode(sentence) for sentence in tasks.NOISE]
        self.preambles = [self.encode(tasks.PASSKEY_PREAMBLE)] + [
            self.encode(tasks.magic_preamble(kind)) for kind in ("number", "word", "uuid")
        ]

    # --- keys and values

    def pair(self, rng: random.Random) -> str:
        """A pair that is not held out: of the lists, or of any words of the text."""
        while True:
            if rng.random() < 0.6:
                first, second = rng.choice(words.ADJECTIVES), rng.choice(words.NOUNS)
            else:
                first, second = rng.choice(self.text.words), rng.choice(self.text.words)
            if not words.pair_is_held_out(first, second):
                return f"{first}-{second}"

    def key(self, rng: random.Random, kind: str, used: list[str]) -> str:
        """A key that is not among `used`, and is put there; at times half of a pair is."""
        while True:
            if kind == "uuid":
                key = words.uuid(rng)
            elif kind == "place":
                key = " ".join(rng.choice(self.text.names) for _ in range(rng.randint(1, 2)))
            elif kind == "any" and rng.random() < 0.3:
                key = rng.choice(self.text.words)
            else:
                key = self.pair(rng)
                near = rng.choice(used) if used and rng.random() < 0.3 else ""
                if near.count("-") == 1:
                    parts = list(zip(key.split("-"), near.split("-")))
                    first, second = parts[0][rng.random() < 0.5], parts[1][rng.random() < 0.5]
                    if not words.pair_is_held_out(first, second):
                        key = f"{first}-{second}"
            if key not in used and key != tasks.SAN_FRANCISCO[0]:
                used.append(key)
                return key

    def value(self, rng: random.Random, kind: str) -> str:
        if kind == "uuid":
            return words.uuid(rng)
        if kind == "word":
            return self.pair(rng) if rng.random() < 0.8 else rng.choice(self.text.words)
        return (
            words.number(rng) if rng.random() < 0.8 else str(rng.randrange(10 ** rng.randint(2, 9)))
        )

    def phrase(self, rng: random.Random) -> list[int]:
        """3 to 24 tokens: any words, some with a capital; or pieces of prose, often of the haystack
        at hand, so that what follows a few of its tokens there is not what follows here."""
        n = rng.randint(3, 24)
        if rng.random() < 0.4:
            several = [rng.choice(self.text.words) for _ in range(n // 2 + 1)]
            capital = rng.random() < 0.5
            return self.encode(
                " ".join(w.title() if capital and rng.random() < 0.4 else w for w in several)
            )
        first, end = self.region if rng.random() < 0.7 else (0, len(self.text.tokens))
        ids: list[int] = []
        while len(ids) < n:
            start = rng.randrange(first, max(first + 1, end - 8))
            while start < end - 8 and self.text.tokens[start] not in self.word_starts:
                start += 1
            ids += self.text.tokens[start : start + rng.choice((3, 4, 6, 24))].tolist()
        return [id_ for id_ in ids[:n] if id_ not in self.stop]

    # --- needles and questions

    def group(
        self, rng: random.Random, form: str, kind: str, key_kind: str, used: list[str]
    ) -> Group:
        """`form`: one, values (of one key), queries (several keys), code, phrase, passkey."""
        encode = self.encode
        if form == "passkey":
            value = words.passkey(rng)
            return Group(
                [encode(tasks.passkey_needle(value))], encode(tasks.passkey_question()), [value]
            )
        if form == "code":
            key, value = self.key(rng, "any", used), self.value(rng, rng.choice(("word", "number")))
            what = rng.choice(("code", "word"))
            needle = encode(tasks.code_needle(what, key, value))
            return Group([needle], encode(tasks.code_question(what, key)), [value])
        if form == "phrase":
            place, phrase = self.key(rng, "place", used), self.phrase(rng) + self.stop
            needle = encode(tasks.best_thing_needle(place, "").removesuffix(" .")) + phrase
            return Group([needle], encode(tasks.best_thing_question(place)), [""], phrase)
        n = 1 if form == "one" else rng.choice((2, 3, 4, 4))
        if form == "values":
            keys = [self.key(rng, key_kind, used)] * n
            question = tasks.magic_question(kind, keys[:1], n)
        else:
            keys = [self.key(rng, key_kind, used) for _ in range(n)]
            question = tasks.magic_question(kind, keys, 1)
        values = [self.value(rng, kind) for _ in keys]
        needles = [encode(tasks.magic_needle(kind, k, v)) for k, v in zip(keys, values)]
        return Group(needles, encode(question), values, in_text_order=form == "values")

    def answer(self, group: Group, order: list[int]) -> list[int]:
        """`order`: the group's needles by place."""
        values = [group.values[i] for i in order] if group.in_text_order else group.values
        return group.phrase or self.encode(tasks.joined(values) + ".")

    def retrieval(self, rng: random.Random, n: int, single: bool) -> tuple[list[int], list[Span]]:
        """About `n` tokens: preamble, haystack with needles, questions with answers."""
        dense = not single and rng.random() < 0.35
        preamble = rng.choice(self.preambles) if rng.random() < 0.5 and n > 256 else []
        room = n - len(preamble)
        start = int(self.text.ends[rng.randrange(self.sentences_before(room))])
        self.region = (start, start + room)
        groups = self.groups(rng, room, single, dense)
        needles = [
            (needle, g, i)
            for g, group in enumerate(groups)
            for i, needle in enumerate(group.needles)
        ]
        # An answer's length depends on its order by no more than a few tokens: keep them free.
        answers = [self.answer(group, list(range(len(group.needles)))) for group in groups]
        room -= sum(group.tokens + len(answer) + 2 for group, answer in zip(groups, answers))
        if dense:
            needles += [(needle, -1, 0) for needle in self.distractors(rng, room, 10_000)]
        elif not single and rng.random() < 0.5:
            needles += [(needle, -1, 0) for needle in self.distractors(rng, room // 2, 8)]
        room -= sum(len(needle) for needle, g, _ in needles if g < 0)
        rng.shuffle(needles)
        noise = not dense and rng.random() < 0.3
        body, ends = self.noises(rng, room) if noise else self.prose(start, room)
        if dense:
            places = [0 if rng.random() < 0.5 else len(body)] * len(needles)
        else:
            places = sorted(self.place(rng, ends, len(body)) for _ in needles)
        ids, at = list(preamble), 0
        for (needle, _, _), place in zip(needles, places):
            ids += body[at:place] + needle
            at = place
        ids += body[at:]
        spans = []
        for g in rng.sample(range(len(groups)), len(groups)):
            ids += groups[g].question
            answer = self.answer(groups[g], [i for _, of, i in needles if of == g])
            spans.append((len(ids), len(ids) + len(answer), ANSWER))
            ids += answer
        return ids, spans

    def groups(self, rng: random.Random, room: int, single: bool, dense: bool) -> list[Group]:
        """One group, or as many as fill a random share of `room` with questions."""
        kinds, key_kinds = ("number", "word", "uuid"), ("word", "any", "uuid")
        kind = rng.choices(kinds, (0.4, 0.2, 0.4))[0]
        key_kind = rng.choices(key_kinds, (0.6, 0.15, 0.25))[0]
        if dense and rng.random() < 0.4:
            kind = key_kind = "uuid"
        mixed = single or rng.random() < 0.4
        wanted = 1 if single else int(room * rng.uniform(0.05, 0.55))
        forms = ("one", "values", "queries", "code", "phrase", "passkey")
        shares = (0.3, 0.3, 0.2, 0.04, 0.12, 0.04)
        if single:
            shares = (0.42, 0, 0, 0.1, 0.28, 0.2)
        elif dense:
            shares = (0.7, 0.2, 0.1, 0, 0, 0)
        groups: list[Group] = []
        used = self.used = []
        self.kinds = (kind, key_kind)
        asked, passkeys = 0, 0
        for _ in range(1000):
            if asked >= wanted:
                break
            if mixed:
                kind = rng.choices(kinds, (0.4, 0.3, 0.3))[0]
                key_kind = rng.choices(key_kinds, (0.7, 0.2, 0.1))[0]
            form = rng.choices(forms, shares)[0]
            if form == "passkey" and passkeys:
                continue
            group = self.group(rng, form, kind, key_kind, used)
            answer = len(self.answer(group, list(range(len(group.needles))))) + 2
            if group.tokens + answer > room:
                if groups:
                    break
                kind, key_kind, mixed = "number", "word", False
                continue
            passkeys += form == "passkey"
            room -= group.tokens + answer
            asked += len(group.question) + answer
            groups.append(group)
        return groups

    def distractors(self, rng: random.Random, room: int, at_most: int) -> list[list[int]]:
        """Needles that nobody asks for, of the kinds of the last groups()."""
        needles: list[list[int]] = []
        for _ in range(at_most if at_most > 100 else rng.randint(1, at_most)):
            needle = self.group(rng, "one", *self.kinds, self.used).needles[0]
            if len(needle) > room:
                break
            needles.append(needle)
            room -= len(needle)
        return needles

    # --- haystacks

    def sentences_before(self, n: int) -> int:
        """Sentences that `n` tokens of text follow from their begin on."""
        return int(np.searchsorted(self.text.ends, len(self.text.tokens) - n, side="right")) - 1

    def prose(self, start: int, n: int) -> tuple[list[int], list[int]]:
        """`n` tokens from `start`, the begin of a sentence; and where sentences end in them."""
        first, stop = np.searchsorted(self.text.ends, (start, start + n), side="right")
        ends = (self.text.ends[first:stop] - start).tolist()
        return self.text.tokens[start : start + max(0, n)].tolist(), ends

    def noises(self, rng: random.Random, n: int) -> tuple[list[int], list[int]]:
        """The noise sentences again and again, at times others."""
        loop = self.noise
        if rng.random() < 0.3:
            starts = [rng.randrange(len(self.text.tokens) - 20) for _ in range(rng.randint(1, 6))]
            loop = [self.text.tokens[at : at + rng.randint(5, 20)].tolist() for at in starts]
        ids, ends, i = [], [], 0
        while len(ids) < n:
            ids += loop[i % len(loop)]
            ends.append(len(ids))
            i += 1
        return ids[: max(0, n)], [end for end in ends if end <= n]

    @staticmethod
    def place(rng: random.Random, ends: list[int], n: int) -> int:
        """Where a needle goes: anywhere behind a sentence; 10 % at the begin, 5 % at the end."""
        u = rng.random()
        if u < 0.10 or not ends:
            return 0
        if u < 0.15:
            return n
        return ends[min(bisect_left(ends, rng.random() * n), len(ends) - 1)]

    # --- other sequences

    def segment(self, rng: random.Random, kind: str, n: int) -> list[int]:
        if kind == "ids":
            return [rng.randrange(260, self.vocab) for _ in range(n)]
        if kind == "words":
            return self.encode(" ".join(rng.choice(self.text.words) for _ in range(n // 2 + 1)))[:n]
        start = rng.randrange(len(self.text.tokens) - n)
        return self.text.tokens[start : start + n].tolist()

    def copies(self, rng: random.Random, n: int) -> tuple[list[int], list[Span]]:
        """Segments, and all of them again in another order. A segment's first tokens cannot be
        known; they are not learned."""
        kind = rng.choice(("ids", "words", "prose"))
        parts, total = [], 0
        while total < n // 2 - 16:
            part = self.segment(rng, kind, min(rng.randint(8, 128), n // 2 - total))
            parts.append(part)
            total += len(part)
        ids = [token for part in parts for token in part]
        spans = []
        for part in rng.sample(parts, len(parts)):
            spans.append((len(ids) + 3, len(ids) + len(part), COPY))
            ids += part
        return ids, spans

    def sequence(self, seed: str, n: int, stage: Stage) -> tuple[list[int], list[Span]]:
        """BOS and up to `n` tokens."""
        rng = random.Random(seed)
        kind = rng.random()
        if kind < stage.multi + stage.single:
            ids, spans = self.retrieval(rng, n, single=kind >= stage.multi)
        elif kind < stage.multi + stage.single + stage.copy:
            ids, spans = self.copies(rng, n)
        else:
            ids = self.segment(rng, "prose", n)
            spans = [(0, n, TEXT)]
        return [BOS, *ids[:n]], [(a + 1, min(b, n) + 1, c) for a, b, c in spans if a < min(b, n)]


@dataclasses.dataclass
class Batch:
    """`ids` [B, T]; the tokens learned: at `where` (a flat index of the token before), `target`,
    `class_of`; rows beyond `count` repeat the last."""

    ids: np.ndarray
    where: np.ndarray
    target: np.ndarray
    class_of: np.ndarray


def make_batch(builder: Builder, seed: int, step: int, share: float) -> Batch:
    """The batch of `step`, at `share` of the training."""
    stage = [stage for stage in STAGES if stage.start <= share][-1]
    n = random.Random(f"{seed} {step}").choice(stage.lengths)
    rows = BATCH_TOKENS // n
    ids = np.zeros((rows, n + 1), np.int64)
    classes = np.zeros((rows, n + 1), np.int8)
    for row in range(rows):
        sequence, spans = builder.sequence(f"{seed} {step} {row}", n, stage)
        ids[row, : len(sequence)] = sequence
        for first, end, class_ in spans:
            classes[row, first:end] = class_
    where = np.flatnonzero(classes[:, 1:])
    return Batch(ids[:, :-1], where, ids[:, 1:].ravel()[where], classes[:, 1:].ravel()[where])
