"""`heddle needle` in this process: rows and reports, resuming after `kill -9`, comparing attention modes, and suites. HEDDLE
names the executable; exit status 77: skipped."""
import csv
import functools
import json
import pathlib
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import HEDDLE, Cli, environment, run_with_tiny_models  # noqa: E402
from default_model import default_model  # noqa: E402
from needle_runs import FILES, KEYS, needle, rows_of, settled, snapshot, without  # noqa: E402
from server import tiny_model  # noqa: E402

MODEL = "needle-hybrid"
ANSWER_ROOM = 64  # of the task number
OWN_ROOM = 128  # of a needle of one's own
GRID = ("--task", "number", "--lengths", "1k,2k", "--depths", "0,50,100")
LONG = ("--task", "number", "--lengths", "1k,2k,4k,8k")  # seconds
SVG = "{http://www.w3.org/2000/svg}"
FOLDER = None


def setUpModule():
    global FOLDER
    FOLDER = tempfile.TemporaryDirectory()


def tearDownModule():
    FOLDER.cleanup()


def new_folder():
    return tempfile.mkdtemp(dir=FOLDER.name) + "/run"


def hybrid(*args, **kw):
    return needle(MODEL, *args, "--threads", 1, **kw)


def run(*args, model=MODEL, code=0):
    """(folder, rows) of a run that ends with this exit code."""
    out = new_folder()
    rc, _, err = needle(model, *args, "--threads", 1, "--out", out)
    assert rc == code, (rc, err)
    return out, rows_of(out)


@functools.lru_cache(1)
def run_of_grid():
    return run(*GRID)


def start(*args):
    return subprocess.Popen([HEDDLE, "needle", MODEL, *map(str, args), "--threads", "1"], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, env=environment())


def wait_for_rows(process, out, n):
    """Until there are so many whole lines, or the process has ended."""
    path = pathlib.Path(out) / "results.jsonl"
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < n):
        time.sleep(0.001)


def end(process, sig):
    """(exit code, stderr)"""
    process.send_signal(sig)
    return process.wait(60), process.communicate()[1].decode()


class ReducedRun(Cli):
    @classmethod
    def setUpClass(cls):
        cls.out, cls.rows = run_of_grid()

    def test_all_needles_are_found(self):
        self.assertEqual([(r["length"], r["depth"]) for r in self.rows],
                         [(n, d) for n in (1024, 2048) for d in (100, 50, 0)], "the deepest needle first")
        for row in self.rows:
            self.assertEqual(list(row), KEYS)
            self.assertEqual((row["suite"], row["task"], row["model"], row["attention"], row["seed"], row["sample"]),
                             ("niah", "number", MODEL, "trained", 0, 0))
            self.assertEqual((row["score"], row["error"]), (1, None))
            self.assertEqual(row["answer"].strip(), row["expected"][0])
            self.assertRegex(row["expected"][0], r"^\d{7}$")
            self.assertEqual(row["prompt_tokens"] + ANSWER_ROOM, row["length"], "lengths are exact")
            self.assertGreater(row["prefill_s"], 0)
            self.assertGreater(row["kv_bytes"], 0)
            self.assertGreater(row["state_bytes"], 0)
        self.assertEqual(len({r["expected"][0] for r in self.rows}), 6)
        self.assertTrue(all(r["kv_bytes"] > 1.5 * self.rows[0]["kv_bytes"] for r in self.rows[3:]))

    def test_what_prompts_share_is_computed_once(self):
        first, half, begin = self.rows[3:]
        self.assertEqual(self.rows[0]["cached_tokens"], 0)
        self.assertTrue(800 < first["cached_tokens"] < 960, "the shorter haystack")
        self.assertTrue(850 < half["cached_tokens"] < 1100, "half of the haystack")
        self.assertTrue(0 < begin["cached_tokens"] < 100, "the preamble")

    def test_files(self):
        self.assertEqual({p.name for p in pathlib.Path(self.out).iterdir()}, FILES)
        modes = {p.name: p.stat().st_mode & 0o777 for p in pathlib.Path(self.out).iterdir()}
        self.assertEqual(len(set(modes.values())), 1, modes)
        text = (pathlib.Path(self.out) / "results.jsonl").read_text()
        self.assertEqual(text, "".join(json.dumps(r, separators=(",", ":"), ensure_ascii=False) + "\n" for r in self.rows))

    def test_the_summary_is_that_of_the_rows(self):
        with open(f"{self.out}/summary.csv", newline="") as file:
            summary = {(int(x["length"]), float(x["depth"])): x for x in csv.DictReader(file)}
        self.assertEqual(len(summary), 6)
        for row in self.rows:
            cell = summary[row["length"], row["depth"]]
            self.assertEqual((cell["suite"], cell["task"], int(cell["n"]), int(cell["errors"])), ("niah", "number", 1, 0))
            for key in ("score", "prompt_tokens", "cached_tokens", "prefill_s", "decode_s", "kv_bytes", "state_bytes"):
                self.assertAlmostEqual(float(cell[key]), row[key], places=9, msg=key)

    def test_the_report_is_that_of_the_rows(self):
        page = pathlib.Path(self.out, "report.html").read_text()
        lines = re.findall(r"<tr>(.*?)</tr>", page[page.index("All cells"):], re.S)[1:]
        told = [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in lines]
        self.assertEqual([x[:9] for x in told],
                         [["niah", "number", f"{r['length'] // 1024}k", f"{r['depth']:.0f}", "1", "0", "100.0",
                           str(r["prompt_tokens"]), str(r["cached_tokens"])]
                          for r in sorted(self.rows, key=lambda r: (r["length"], r["depth"]))])
        self.assertIn("of them 0 misses and 0 errors", page)
        self.assertIn(f"heddle needle {MODEL} --task number --lengths 1k,2k --depths 0,50,100", page)
        svg = re.search(r"<svg.*?</svg>", page, re.S).group()
        self.assertEqual(titles(ElementTree.fromstring(svg)), titles(picture(self.out)))
        self.assertNotIn("http", re.sub(r"http-equiv|http://www\.w3\.org/2000/svg", "", page), "it is self-contained")

    def test_the_picture_is_that_of_the_rows(self):
        svg = picture(self.out)
        self.assertEqual(titles(svg), {f"niah number, length {r['length']}, depth {r['depth']:.0f}: 100 % (n 1, errors 0)"
                                       for r in self.rows})
        texts = [(float(t.get("x")), float(t.get("y")), t.text) for t in svg.iter(SVG + "text")]
        columns, lines = set(), set()
        for cell in svg.iter(SVG + "rect"):
            if cell.get("class") != "cell":
                continue
            x, y, w, h = (float(cell.get(k)) for k in ("x", "y", "width", "height"))
            self.assertEqual([t for tx, ty, t in texts if x < tx < x + w and y < ty < y + h], ["100"])
            columns.add(x)
            lines.add(y)
        self.assertEqual((len(columns), len(lines)), (2, 3))
        self.assertIn("Needle in a haystack: niah number", {t for *_, t in texts})

    def test_the_png_has_the_size_of_the_picture(self):
        data = pathlib.Path(self.out, "heatmap.png").read_bytes()
        self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", data[16:24])
        svg = picture(self.out)
        self.assertEqual((width, height), (2 * int(svg.get("width")), 2 * int(svg.get("height"))))
        self.assertEqual(data[-8:-4], b"IEND")

    def test_the_same_run_gives_the_same_rows(self):
        _, rows = run(*GRID)
        self.assertEqual(without(rows, "prefill_s", "decode_s"), without(self.rows, "prefill_s", "decode_s"))

    def test_another_seed_gives_other_prompts(self):
        _, rows = run(*GRID[:2], "--lengths", "1k", "--depths", 3, "--seed", 7)
        self.assertEqual({r["seed"] for r in rows}, {7})
        self.assertEqual({r["score"] for r in rows}, {1})
        self.assertFalse({r["expected"][0] for r in rows} & {r["expected"][0] for r in self.rows})

    def test_without_reuse_answers_are_the_same(self):
        _, rows = run(*GRID, "--cache", "off")
        self.assertEqual({r["cached_tokens"] for r in rows}, {0})
        self.assertEqual(settled(rows), settled(self.rows))

    def test_side_by_side_rows_are_the_same(self):
        _, rows = run(*GRID, "--concurrency", 4)
        self.assertEqual(settled(rows), settled(self.rows))


def picture(out):
    return ElementTree.parse(f"{out}/heatmap.svg").getroot()


def titles(svg):
    return {t.text for t in svg.iter(SVG + "title")}


class Resume(Cli):
    GRID = ("--task", "number", "--lengths", "1k,2k", "--depths", 6)

    @classmethod
    def setUpClass(cls):
        cls.out, cls.rows = run_of_grid()
        cls.complete = settled(run(*cls.GRID)[1])

    def refused(self, out, *flags, parts, **kw):
        """What is there stays as it is."""
        before = snapshot(out)
        self.assertRefused(["needle", MODEL, *flags, "--threads", 1, "--out", out], *parts, **kw)
        self.assertEqual(snapshot(out), before)

    def test_after_kills_at_any_time_the_file_is_the_same(self):
        draw = random.Random(3)
        out, flags = new_folder(), ()
        for n in (0, 2, 4, 7, 9, 10):
            process = start(*self.GRID, "--out", out, *flags)
            wait_for_rows(process, out, n)
            time.sleep(draw.random() * 0.05)
            process.kill()
            process.communicate()
            path = pathlib.Path(out, "results.jsonl")
            if process.returncode == 0:  # it was quicker: as if it had been killed in time
                path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:n]))
            elif n % 2:  # killed while it wrote
                path.write_bytes(path.read_bytes()[:-draw.randrange(2, 100)])
            flags = ("--resume",)
        code, _, err = hybrid(*self.GRID, "--out", out, "--resume")
        self.assertEqual(code, 0, err)
        self.assertEqual(settled(rows_of(out)), self.complete)
        self.assertEqual({p.name for p in pathlib.Path(out).iterdir()}, FILES, "nothing temporary is left")
        before = rows_of(out)
        self.assertEqual(hybrid(*self.GRID, "--out", out, "--resume", "--cache", "off")[0], 0)
        self.assertEqual(rows_of(out), before, "there is nothing left to ask")

    def test_a_line_is_cut_off_anywhere(self):
        whole = pathlib.Path(self.out, "results.jsonl").read_bytes()
        last = whole[:-1].rindex(b"\n") + 1
        for size in (len(whole) - 1, last + 1, (last + len(whole)) // 2):
            out = new_folder()
            pathlib.Path(out).mkdir()
            pathlib.Path(out, "run.json").write_bytes(pathlib.Path(self.out, "run.json").read_bytes())
            pathlib.Path(out, "results.jsonl").write_bytes(whole[:size])
            self.assertEqual(hybrid(*GRID, "--out", out, "--resume")[0], 0)
            self.assertEqual(settled(rows_of(out)), settled(self.rows))

    def test_what_decides_rows_cannot_be_changed(self):
        hay = pathlib.Path(FOLDER.name, "hay.txt")
        hay.write_text("Grass grows where it rains. Rain falls where it wants. " * 20)
        for flags, parts in (((), ["--out", self.out, "--resume"]),
                             (("--resume", "--scorer", "exact"), ["scorer", '"task"', '"exact"']),
                             (("--resume", "--wording", "ruler"), ["wording", '"plain"', '"ruler"']),
                             (("--resume", "--haystack", hay), ["haystack", " was ", " is "]),
                             (("--resume", "--stop", "x"), ["stop", '["."]', '["x"]']),
                             (("--resume", "--answer-prefix", "none"), ["answer_prefix", '"task"', '""']),
                             (("--resume", "--answer-tokens", 30), ["answer_tokens", "was 0", "is 30"]),
                             (("--resume", "--attention", "sliding:512"), ['"trained"', '"sliding:512"']),
                             (("--resume", "--kv-dtype", "f32"), ["numerics", " was ", " is "])):
            with self.subTest(flags):
                self.refused(self.out, *GRID, *flags, parts=parts)

    def test_a_file_that_is_no_file_of_results(self):
        for text, part in (("{}\n", "results.jsonl:1: 'suite' is missing"), ("no\n", "results.jsonl:1"),
                           ('{"suite": 1}\n', "results.jsonl:1")):
            out = new_folder()
            pathlib.Path(out).mkdir()
            pathlib.Path(out, "run.json").write_bytes(pathlib.Path(self.out, "run.json").read_bytes())
            pathlib.Path(out, "results.jsonl").write_text(text)
            self.refused(out, *GRID, "--resume", parts=[part])
        pathlib.Path(out, "run.json").unlink()
        self.refused(out, *GRID, "--resume", parts=["run.json", "missing"])

    def test_another_length_goes_on(self):
        out, _ = run(*GRID[:2], "--lengths", "1k", "--depths", "0,50,100")
        self.assertEqual(hybrid(*GRID, "--out", out, "--resume")[0], 0)
        self.assertEqual(settled(rows_of(out)), settled(self.rows))

    def test_ctrl_c_keeps_rows(self):
        out = new_folder()
        process = start(*LONG, "--out", out)
        wait_for_rows(process, out, 2)
        self.assertEqual(end(process, signal.SIGINT)[0], 130)
        rows = rows_of(out)
        self.assertGreaterEqual(len(rows), 2)
        self.assertEqual({p.name for p in pathlib.Path(out).iterdir()}, FILES, "reports tell of what there is")

    def test_two_runs_cannot_write_one_folder(self):
        out = new_folder()
        first = start(*LONG, "--out", out)
        wait_for_rows(first, out, 1)
        self.assertRefused(["needle", MODEL, *LONG, "--out", out, "--threads", 1, "--resume"], "--out", out, "another run")
        self.assertIsNone(first.poll(), "the first one goes on")
        first.kill()
        first.communicate()


class Compare(Cli):
    def test_bytes_read_hold_both_levels_of_compressed_keys(self):
        out = new_folder()
        code, _, err = needle(MODEL, "--task", "number", "--lengths", "1k", "--depths", "50,", "--compare", "dense,infllm:64,16", "--out", out)
        self.assertEqual(code, 0, err)
        with open(out + "/compare.csv", newline="") as file:
            dense, infllm = (float(x["bytes_read_per_token"]) for x in csv.DictReader(file))
        # Below 21 blocks of 64 all keys are read, and beside them of 3 layers, 4 heads of 64, f32: a mean of each 16 and 64 keys.
        self.assertEqual(infllm - dense, 3 * 4 * 64 * 4 * (1024 // 16 + 1024 // 64))

    def test_modes_are_asked_the_same(self):
        out = new_folder()
        flags = (*GRID[:2], "--lengths", "1k", "--depths", "0,50,100", "--out", out)
        code, table, err = hybrid(*flags, "--compare", "dense,sliding:512")
        self.assertEqual(code, 0, err)
        self.assertEqual({p.name for p in pathlib.Path(out).iterdir()},
                         {"dense", "sliding-512", "compare.csv", "compare.svg", "compare.png", "compare.html"})
        dense, sliding = rows_of(out + "/dense"), rows_of(out + "/sliding-512")
        for rows, mode in ((dense, "dense"), (sliding, "sliding:512")):
            self.assertEqual({r["attention"] for r in rows}, {mode})
            self.assertEqual({p.name for p in pathlib.Path(out, mode.replace(":", "-")).iterdir()}, FILES)
        asked = ("suite", "task", "length", "depth", "seed", "sample", "expected", "prompt_tokens")
        self.assertEqual([[r[k] for k in asked] for r in dense], [[r[k] for k in asked] for r in sliding])
        self.assertEqual([r["score"] for r in dense], [1, 1, 1])
        mean = sum(r["score"] for r in sliding) / 3
        same = sum(a["answer"] == b["answer"] for a, b in zip(dense, sliding, strict=True)) / 3
        with open(out + "/compare.csv", newline="") as file:
            told = list(csv.DictReader(file))
        self.assertEqual([(x["attention"], x["length"], x["n"]) for x in told], [("dense", "1024", "3"), ("sliding:512", "1024", "3")])
        for key, wanted in (("score", (1, mean)), ("delta", (0, mean - 1)), ("same_answers", (1, same))):
            for x, value in zip(told, wanted, strict=True):
                self.assertAlmostEqual(float(x[key]), value, places=9, msg=key)
        read = [float(x["bytes_read_per_token"]) for x in told]
        self.assertLess(read[1], read[0])
        lines = {x.split()[1]: x.split() for x in table.splitlines() if x.startswith("niah")}
        self.assertEqual(lines["dense"][3:5], ["100.0", "+0.0"])
        self.assertEqual(lines["sliding:512"][3:5], [f"{100 * mean:.1f}", f"{100 * (mean - 1):+.1f}"])
        ElementTree.parse(out + "/compare.svg")
        self.assertEqual(pathlib.Path(out, "compare.png").read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
        before = {p: p.read_bytes() for p in pathlib.Path(out).glob("*/results.jsonl")}
        self.assertRefused(["needle", MODEL, *flags, "--compare", "dense,sliding:512"], "--out", "--resume")
        self.assertEqual(hybrid(*flags, "--compare", "dense,sliding:512", "--resume")[0], 0)
        self.assertEqual({p: p.read_bytes() for p in pathlib.Path(out).glob("*/results.jsonl")}, before)


class SelfCheck(Cli):
    def check(self, model, *flags):
        code, out, err = needle(model, "--self-check", *flags)
        self.assertEqual(code, 0, out + err)
        knowing, guessing = re.findall(r"(\S+) % of (\d+) prompts.*: ok", out)
        self.assertEqual((knowing[0], guessing[0]), ("100.0", "0.0"))
        self.assertEqual(knowing[1], guessing[1])
        self.assertGreaterEqual(int(knowing[1]), 5)

    def test_of_a_raw_model(self):
        self.check(MODEL, "--lengths", "1k,2k", "--depths", 3)

    def test_of_a_chat_model(self):
        model = tiny_model(FOLDER.name)
        for suite in ("niah", "niah-multi", "passkey"):
            self.check(model, "--suite", suite, "--lengths", "1k,3k", "--depths", 5)

    def test_of_many_values_in_lines(self):
        """Lines of equal needles, which only noise fills up to a length."""
        self.check(MODEL, "--suite", "niah-multi", "--task", "dense_uuid", "--lengths", "1000..2500:40", "--depths", 3)
        self.check(MODEL, "--suite", "ruler", "--task", "niah_multikey_3", "--lengths", "1000..2500:40")

    def test_of_the_default_model(self):
        if not pathlib.Path(default_model()).exists():
            self.skipTest("the default model is not there")
        self.check(default_model())


class Suites(Cli):
    def test_passkey(self):
        _, rows = run("--suite", "passkey", "--lengths", "1k", "--depths", 2)
        self.assertEqual([(r["suite"], r["task"], r["depth"], r["score"]) for r in rows],
                         [("passkey", "passkey", 100, 1), ("passkey", "passkey", 0, 1)])
        self.assertTrue(all(re.fullmatch(r"\d+", r["expected"][0]) for r in rows))

    def test_niah_multi(self):
        out, rows = run("--suite", "niah-multi", "--lengths", "1k", "--depths", "50,")
        self.assertEqual([(r["task"], len(r["expected"])) for r in rows], [("queries4", 4), ("values4", 4), ("dense_uuid", 1)])
        self.assertTrue(all(r["score"] >= 0.75 for r in rows), rows)
        self.assertEqual(len(titles(picture(out))), 3)

    def test_ruler(self):
        _, rows = run("--suite", "ruler", "--lengths", "1k")
        self.assertEqual([r["task"] for r in rows],
                         ["niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2",
                          "niah_multikey_3", "niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe", "qa_1", "qa_2"])
        for row in rows:
            self.assertIsNone(row["depth"])
            self.assertIsNone(row["error"])
            self.assertTrue(0 <= row["score"] <= 1)
            self.assertTrue(0 < row["prompt_tokens"] < 1024)

    def test_a_needle_of_ones_own(self):
        flags = ("--needle", "One of the special magic numbers for winter is: 4444444.", "--question",
                 "What is the special magic number for winter mentioned in the provided text?", "--answer", "4444444",
                 "--answer-prefix", "The special magic number for winter mentioned in the provided text is",
                 "--lengths", "1k", "--depths", "0,100")
        out, rows = run(*flags)
        self.assertEqual([(r["suite"], r["task"], r["expected"], r["score"]) for r in rows], [("niah", "custom", ["4444444"], 1)] * 2)
        self.assertEqual({r["prompt_tokens"] for r in rows}, {1024 - OWN_ROOM})
        self.assertRefused(["needle", MODEL, *flags[:2], "--question", "Which?", *flags[4:], "--out", out, "--resume"],
                           "needle was ", "Which?")

    def test_a_haystack_of_ones_own(self):
        hay = pathlib.Path(new_folder())
        hay.mkdir()
        prose = (ROOT / "tests/support/plain_prose.txt").read_text().splitlines()
        (hay / "a.txt").write_text("\n".join(prose[:len(prose) // 2]))
        (hay / "b.txt").write_text("\n".join(prose[len(prose) // 2:]))
        (hay / "c.md").write_text("Not read. ")
        flags = (*GRID[:2], "--lengths", "1k", "--depths", 2)
        whole, rows = run(*flags, "--haystack", hay)
        self.assertEqual({r["score"] for r in rows}, {1})
        part, _ = run(*flags, "--haystack", hay / "a.txt")
        hashes = {json.loads(pathlib.Path(x, "run.json").read_text())["haystack"] for x in (whole, part, run_of_grid()[0])}
        self.assertEqual(len(hashes), 3)

    def test_depths_close_at_the_ends(self):
        _, rows = run(*GRID[:2], "--lengths", "1k", "--depths", 5, "--spacing", "sigmoid")
        self.assertEqual([r["depth"] for r in rows], [100, 92.414, 50, 7.586, 0])

    def test_samples_and_scorers(self):
        flags = (*GRID[:2], "--lengths", "1k", "--depths", "0,100", "--samples", 2)
        _, rows = run(*flags, "--scorer", "rouge1")
        self.assertEqual([(r["sample"], r["depth"]) for r in rows], [(0, 100), (0, 0), (1, 100), (1, 0)])
        self.assertEqual(len({r["expected"][0] for r in rows}), 4)
        self.assertEqual({r["score"] for r in rows}, {1})
        out, exact = run(*flags, "--scorer", "exact")
        self.assertEqual(settled(exact), settled(rows))
        with open(out + "/summary.csv", newline="") as file:
            self.assertEqual([x["n"] for x in csv.DictReader(file)], ["2", "2"])


if __name__ == "__main__":
    run_with_tiny_models()
