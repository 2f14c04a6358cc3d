"""The needle tasks: their texts, and prompts for evaluation.

Texts follow Landmark's passkey task, RULER's needle tasks (arXiv 2404.06654) and the
San Francisco needle, so that `heddle needle` and this model speak of the same things. They differ
from RULER's in three ways: two keys are joined as "a and b" (RULER: "a, and b"); the preamble is in
the plural for one value too (RULER: "A special magic number is hidden"); parts are joined by spaces
(RULER: line breaks around the text). The model is a plain completer: a prompt ends where the answer
begins.
"""

import dataclasses
import random
from collections.abc import Callable, Sequence

import words

NOISE = [
    "The grass is green.",
    "The sky is blue.",
    "The sun is yellow.",
    "Here we go.",
    "There and back again.",
]
PASSKEY_PREAMBLE = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
    "I will quiz you about the important information there."
)
SAN_FRANCISCO = ("San Francisco", "eat a sandwich and sit in Dolores Park on a sunny day")


def joined(items: Sequence[str]) -> str:
    """a / a and b / a, b, and c."""
    if len(items) == 1:
        return items[0]
    if len(items) == 2:
        return f"{items[0]} and {items[1]}"
    return ", ".join(items[:-1]) + f", and {items[-1]}"


def passkey_needle(value: str) -> str:
    return f"The pass key is {value}. Remember it. {value} is the pass key."


def passkey_question() -> str:
    return "What is the pass key? The pass key is"


def magic_preamble(kind: str) -> str:
    return (
        f"Some special magic {kind}s are hidden within the following text. Make sure to memorize "
        f"it. I will quiz you about the {kind}s afterwards."
    )


def magic_needle(kind: str, key: str, value: str) -> str:
    """`kind`: number, word, uuid."""
    return f"One of the special magic {kind}s for {key} is: {value}."


def magic_question(kind: str, keys: Sequence[str], n_values: int) -> str:
    """Asks for all values of the keys, in the order of the keys or, of one key, of the text."""
    of = f"for {joined(keys)} mentioned in the provided text"
    if len(keys) == 1 and n_values == 1:
        return f"What is the special magic {kind} {of}? The special magic {kind} {of} is"
    return f"What are all the special magic {kind}s {of}? The special magic {kind}s {of} are"


def code_needle(kind: str, key: str, value: str) -> str:
    """`kind`: code, word."""
    return f"The secret {kind} of {key} is {value}."


def code_question(kind: str, key: str) -> str:
    return f"What is the secret {kind} of {key}? The secret {kind} of {key} is"


def best_thing_needle(place: str, thing: str) -> str:
    return f"The best thing to do in {place} is {thing}."


def best_thing_question(place: str) -> str:
    return f"What is the best thing to do in {place}? The best thing to do in {place} is"


@dataclasses.dataclass(frozen=True)
class Task:
    """One kind of evaluation prompt."""

    haystack: str  # noise, prose, or needles: nothing but other needles
    kind: str = "number"  # of the values
    key_kind: str = "word"  # word: a pair; uuid
    keys: int = 1  # needles with keys of their own, beside those of a haystack of needles
    queries: int = 1  # keys asked for
    values: int = 1  # needles of each key
    # Tokens of a prompt: a longer haystack of needles would take more keys than are held out.
    longest: int = 1 << 30


# passkey and san_francisco have needles of their own, the others RULER's.
TASKS: dict[str, Task] = {
    "passkey": Task("noise"),
    "number": Task("prose"),
    "word": Task("prose", kind="word"),
    "uuid": Task("prose", kind="uuid"),
    "multikey8": Task("prose", keys=8),
    "san_francisco": Task("prose"),
    "queries4": Task("prose", keys=4, queries=4),
    "values4": Task("prose", values=4),
    "dense_number": Task("needles", longest=65536),
    "dense_uuid": Task("needles", kind="uuid", key_kind="uuid"),
}


@dataclasses.dataclass(frozen=True)
class Prompt:
    """`text` and then `answer`: together at most `length` tokens with BOS."""

    task: str
    length: int
    depth: int
    sample: int
    text: str
    answer: str  # begins with a space


class Haystack:
    """Sentences of one book after the other: what stands around the needles."""

    def __init__(self, sentences: Sequence[str], count: Callable[[str], int]):
        """`count`: tokens of a text that follows other text."""
        self.sentences = list(sentences)
        self.tokens = [count(sentence) for sentence in self.sentences]
        self.count = count

    def fill(self, start: int, budget: int) -> list[tuple[str, int]]:
        """Sentences from number `start` on, again from 0 at the end, of `budget` tokens in all, the
        last one cut behind a word: at most a word's tokens less. Each with its tokens."""
        taken, i = [], start
        while budget > 0:
            text, n = self.sentences[i % len(self.sentences)], self.tokens[i % len(self.sentences)]
            if n > budget:
                parts = text.split(" ")
                while parts and self.count(" ".join(parts)) > budget:
                    parts.pop()
                if parts:
                    taken.append((" ".join(parts), budget))
                return taken
            taken.append((text, n))
            budget -= n
            i += 1
        return taken


def value_of(kind: str, rng: random.Random) -> str:
    """A value for evaluation."""
    if kind == "uuid":
        return words.uuid(rng)
    return words.held_out_pair(rng) if kind == "word" else words.number(rng)


def key_of(kind: str, rng: random.Random) -> str:
    return words.uuid(rng) if kind == "uuid" else words.held_out_pair(rng)


def new_key(kind: str, rng: random.Random, keys: set[str]) -> str:
    """A key that is not among `keys`, and is put there: two needles with one key would have two
    right answers. Throws ValueError if it finds none."""
    for _ in range(10_000):
        if (key := key_of(kind, rng)) not in keys:
            keys.add(key)
            return key
    raise ValueError(f"no key is left beside {len(keys)}")


def insert(parts: list[tuple[str, int]], needle: str, depth: float) -> None:
    """Puts `needle` behind the sentence that ends nearest to `depth` percent of the tokens."""
    total = sum(n for _, n in parts)
    wanted, passed, best = total * depth / 100.0, 0, (total * depth / 100.0, 0)
    for i, (_, n) in enumerate(parts):
        passed += n
        best = min(best, (abs(passed - wanted), i + 1))
    parts.insert(best[1], (needle, 0))


def make_prompt(
    name: str,
    length: int,
    depth: int,
    sample: int,
    seed: int,
    prose: Haystack,
    noise: Haystack,
) -> Prompt:
    """One evaluation prompt. Every second sample has the task's preamble. A needle that is not
    asked for, or one of several, stands at a random depth. `length` must leave room for them, and
    be at most the task's longest; ValueError else."""
    task = TASKS[name]
    if length > task.longest:
        raise ValueError(f"{name}: {length} tokens, allowed: up to {task.longest}")
    rng = random.Random(f"{name} {length} {depth} {sample} {seed}")
    count = prose.count
    kind = task.kind
    used: set[str] = set()
    if name == "passkey":
        value = words.passkey(rng)
        preamble, question, answer = PASSKEY_PREAMBLE, passkey_question(), value
        needles = [passkey_needle(value)]
    elif name == "san_francisco":
        place, answer = SAN_FRANCISCO
        preamble, question = "", best_thing_question(place)
        needles = [best_thing_needle(place, answer)]
    else:
        keys = [new_key(task.key_kind, rng, used) for _ in range(task.keys)]
        values = [[value_of(kind, rng) for _ in range(task.values)] for _ in keys]
        preamble = magic_preamble(kind)
        question = magic_question(kind, keys[: task.queries], task.values)
        answer = joined([value for of_key in values[: task.queries] for value in of_key])
        needles = [
            magic_needle(kind, key, value) for key, of_key in zip(keys, values) for value in of_key
        ]
    if sample % 2:
        preamble = ""
    fixed = [preamble, *needles, question, answer + "."]
    budget = length - 1 - sum(count(text) for text in fixed if text)
    if budget < 0:
        raise ValueError(f"{name}: {length} tokens do not hold its needles and its question")
    if task.haystack == "needles":
        parts = []
        while True:
            text = magic_needle(kind, new_key(task.key_kind, rng, used), value_of(kind, rng))
            if count(text) > budget:
                break
            parts.append((text, count(text)))
            budget -= count(text)
    else:
        source = noise if task.haystack == "noise" else prose
        start = rng.randrange(len(source.sentences)) if source is prose else 0
        parts = source.fill(start, budget)
    if task.values > 1:  # in the order of the text: the first at `depth`, the others after it
        depths = sorted([float(depth), *(rng.uniform(depth, 100) for _ in needles[1:])])
        for needle, at in reversed(list(zip(needles, depths))):
            insert(parts, needle, at)
    else:
        for needle in needles[1:]:
            insert(parts, needle, rng.uniform(0, 100))
        insert(parts, needles[0], depth)
    text = " ".join([preamble] * bool(preamble) + [text for text, _ in parts] + [question])
    return Prompt(name, length, depth, sample, text, " " + answer)
