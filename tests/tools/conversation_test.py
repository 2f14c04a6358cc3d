"""A conversation of twenty turns with needle-hybrid, edited in its twelfth: what is reused of each prompt, and why not the
rest. HEDDLE names the executable."""
import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import HEDDLE, heddle  # noqa: E402

MODEL = "needle-hybrid"
TURNS = 20
EDITED = 12
GRID = 1024  # tokens between the states that are kept wherever they lie
PROSE = (ROOT / "tests/support/plain_prose.txt").read_text().splitlines()
NAMES = ("quiet-harbor", "green-lantern", "old-bridge", "small-garden", "cold-river", "bright-window", "long-road",
         "dark-forest", "warm-kitchen", "high-tower")
REUSED = re.compile(r"(?m)^reused (\d+) of (\d+) prompt tokens(.*?); prompt \d")


def code(turn):
    return str(4000 + 37 * turn)


def message(turn):
    """Odd turns tell a code, even ones ask for it."""
    prose = " ".join(PROSE[6 * turn:6 * turn + 6])
    name = NAMES[(turn - 1) // 2]
    if turn % 2:
        return f"{prose} The secret code of {name} is {code(turn)}."
    return f"{prose} What is the secret code of {name}? The secret code of {name} is"


def chat(lines, *flags):
    rc, out, log = heddle("chat", MODEL, "-v", "--temp", 0, "-n", 12, "--stop", ".", *flags,
                          stdin="".join(line + "\n" for line in lines).encode())
    assert rc == 0, log
    return out.splitlines(), [(int(cached), int(prompt), why) for cached, prompt, why in REUSED.findall(log)]


class Conversation(unittest.TestCase):
    def test_each_turn_begins_behind_the_one_before_and_an_edit_behind_what_it_leaves(self):
        edited = message(EDITED).replace(PROSE[6 * EDITED + 2], "Somebody had drawn a map of the harbour on the wall.")
        lines = [message(turn) for turn in range(1, TURNS + 1)] + [f"/edit {EDITED} {edited}"]
        answers, reuse = chat(lines)
        self.assertEqual(len(answers), TURNS + 1)
        self.assertEqual(len(reuse), TURNS + 1)
        for turn in range(2, TURNS + 1, 2):
            self.assertEqual(answers[turn - 1].strip(), code(turn - 1))
        self.assertEqual(answers[-1].strip(), code(EDITED - 1))

        self.assertEqual(reuse[0][0], 0)
        self.assertEqual(reuse[0][2], "; nothing that is kept begins like it")
        for (_, before, _), (cached, prompt, why) in zip(reuse, reuse[1:TURNS]):
            self.assertEqual(why, f"; the rest is new from {cached}")
            self.assertGreaterEqual(cached, before, "all of the prompt before, and of the answer what reads the same")
            self.assertLess(cached, prompt)
        cached, prompt, why = reuse[-1]
        replay, state, replayed, at = re.fullmatch(r"(; no state behind (\d+); (\d+) replayed)?; the rest is new from (\d+)",
                                                   why).groups()
        at, replayed = int(at), int(replayed or 0)
        self.assertEqual(cached + replayed, at)
        if replay:
            self.assertEqual(int(state), cached)
        self.assertGreater(at, reuse[EDITED - 2][1], "behind the turn before")
        self.assertLess(at, reuse[EDITED - 1][1], "where the words were changed")
        self.assertLess(replayed, GRID)

        cold, reuse = chat(lines, "--no-prefix-cache")
        self.assertEqual(cold, answers)
        self.assertEqual({why for *_, why in reuse}, {"; the prefix cache is not used"})


if __name__ == "__main__":
    if not pathlib.Path(HEDDLE).exists():
        sys.exit(f"there is no executable {HEDDLE}")
    unittest.main()
