"""The command line as a user meets it: the built executable on a tiny random model, and a few runs
of the default model where it is there. HEDDLE names the executable; exit status 77: skipped."""
import fcntl
import json
import math
import os
import pathlib
import platform
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import HEDDLE, TIMEOUT, Cli, as_json, environment, good, heddle, run_with_tiny_models  # noqa: E402
from default_model import default_model  # noqa: E402

DEFAULT = default_model()
NEEDS_DEFAULT = unittest.skipUnless(pathlib.Path(DEFAULT).exists(), "the default model is not there")

FOLDER = None  # of this run: tiny models, input files
MODEL = ""  # with a chat template
GREEDY = ("--temp", "0")
KERNELS = ("portable", "avx512", "avx2", "avx512_vnni") if platform.machine() == "x86_64" else ("portable",)


def setUpModule():
    global FOLDER, MODEL
    FOLDER = tempfile.TemporaryDirectory()
    MODEL = tiny("model")


def tearDownModule():
    FOLDER.cleanup()


def tiny(name, *flags):
    out = pathlib.Path(FOLDER.name) / name
    subprocess.run(
        [sys.executable, "-B", ROOT / "tools/make_tiny_model.py", "--family", "llama", "--format", "gguf",
         "--seed", "17", "--out", out, *flags], check=True, capture_output=True)
    return str(next(out.rglob("*.gguf")))


def file(name, content):
    path = pathlib.Path(FOLDER.name) / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def patched(name, old, new):
    """The tiny model with some bytes replaced by as many others."""
    data = pathlib.Path(MODEL).read_bytes()
    assert data.count(old) == 1 and len(old) == len(new)
    return file(name, data.replace(old, new))


class Usage(Cli):
    def test_unknown_things_list_the_valid_ones(self):
        self.assertRefused(["nonsense"], "nonsense", "generate, chat, serve, batch, score")
        self.assertRefused([], "command")
        self.assertRefused(["generate", MODEL, "--no-such-flag"], "--no-such-flag", "--top-k")
        self.assertRefused(["generate", MODEL, "-p", "x", "--kv-dtype", "f64"], "f32, f16, bf16")
        self.assertRefused(["help", "nonsense"], "nonsense", "generate")

    def test_values_that_are_no_numbers_or_out_of_range(self):
        for args in (["-n", "-5"], ["--temp", "nan"], ["--temp", "1e400"], ["--top-p", "0"], ["-t", "5x"],
                     ["--top-k", ""], ["--logprobs", "21", "--json"], ["--logit-bias", "5"],
                     ["--logit-bias", "1=1e9"], ["--logit-bias", "x=1"], ["--stop", ""]):
            with self.subTest(args=args):
                self.assertRefused(["generate", MODEL, "-p", "x", *args], args[0], "allowed")
        self.assertRefused(["bench", MODEL, "-p", "many"], "-p", "many")
        self.assertRefused(["generate", MODEL, "-p", "x", "--logit-bias", "99999=1"], "99999")

    def test_what_was_typed_cannot_drive_the_terminal(self):
        bad = "a\x1b[31mx"
        for args in ([bad], ["help", bad], ["docs", bad], ["generate", MODEL, "--" + bad], ["generate", bad, "-p", "x"],
                     ["generate", MODEL, "-p", "x", "--temp", bad], ["generate", MODEL, bad], ["pull", bad],
                     ["generate", MODEL, "-f", "/no/" + bad], ["tokenize", MODEL, "--decode", "-p", bad],
                     ["generate", MODEL, "-p", "x", "--logit-bias", bad],
                     ["generate", MODEL, "-p", "x", "--force-kernel", bad],
                     ["generate", MODEL, "--prompts", file("p.jsonl", json.dumps({"prompt": "a", bad: 1}))]):
            with self.subTest(args=args):
                rc, _, err = heddle(*args)
                self.assertEqual(rc, 2, err)
                self.assertNotIn("\x1b", err)
                self.assertIn("a\\x1b[31mx", err)
        self.assertNotIn("\x1b", heddle("version", env={"HEDDLE_\x1b[31m": "1"})[2])
        self.assertIn("\u00e9", heddle("generate", MODEL, "-f", "/no/\u00e9")[2], "letters stay")

    def test_models_that_cannot_be(self):
        self.assertRefused(["generate", "/no/such/model", "-p", "x"], "/no/such/model", "smollm2-135m")
        self.assertRefused(["inspect", file("x.gguf", "no model")], "x.gguf")
        data = pathlib.Path(MODEL).read_bytes()
        cut = file("cut.gguf", data[: len(data) // 2])
        self.assertRefused(["generate", cut, "-p", "x"], "cut.gguf")
        self.assertRefused(["pull", "nonsense"], "nonsense", "smollm2-135m")

    def test_kernels(self):
        self.assertRefused(["generate", MODEL, "-p", "x", "--force-kernel", "matmul=fastest"], "matmul", "ref")
        self.assertRefused(["generate", MODEL, "-p", "x", "--force-kernel", "matmul"], "OP=VARIANT")
        listed = good("--list-kernels")
        for op in ("matmul", "attention", "rms_norm"):
            self.assertRegex(listed, rf"cpu +{op} .*ref")
        self.assertEqual(good("generate", "--list-kernels"), listed)
        ops = as_json("version", "--list-kernels")["cpu"]
        self.assertEqual(ops["matmul"][-1], "ref")

    def test_help_names_every_command_and_flag(self):
        overview = good("--help")
        self.assertEqual(overview, good("help"))
        for command in ("generate", "chat", "score", "tokenize", "inspect", "bench", "pull", "version", "selftest"):
            self.assertIn(f"  {command}", overview)
            text = good(command, "--help")
            self.assertEqual(text, good("help", command))
            self.assertIn("--log-level", text)

    def test_the_document_is_the_table(self):
        self.assertEqual((ROOT / "docs/cli.md").read_text(), good("docs", "cli"),
                         "stale: heddle docs cli > docs/cli.md")
        self.assertIn(good("docs", "families"), (ROOT / "README.md").read_text(), "stale: heddle docs families")

    def test_version(self):
        v = as_json("version")
        self.assertRegex(v["version"], r"^\d+\.\d+\.\d+$")
        for key in ("commit", "compiler", "cpu_features", "cores", "cuda_devices"):
            self.assertIn(key, v)
        self.assertIn(v["version"], good("--version"))

    def test_more_memory_than_allowed(self):
        self.assertRefused(["generate", MODEL, "-p", "x", "--memory-limit", "1"], "memory", "1.0 MiB", "--max-step-tokens", code=3)


class Configuration(Cli):
    def temperature_is_hot(self, *args, **kw):
        """Whether two seeds give two answers."""
        a, b = (as_json("generate", MODEL, "-p", "x", "-n", 24, "--ignore-eos", "--seed", s, *args, **kw)["tokens"]
                for s in (1, 2))
        return a != b

    def test_flag_over_environment_over_file(self):
        cold = file("cold.json", '{"temp": 0, "score-is-not-a-flag": 1}')
        self.assertRefused(["generate", MODEL, "-p", "x", "--config", cold], "score-is-not-a-flag", "max-tokens")
        cold = file("cold.json", '{"temp": 0, "depth": 1}')
        self.assertFalse(self.temperature_is_hot("--config", cold))
        self.assertTrue(self.temperature_is_hot("--config", cold, env={"HEDDLE_TEMP": "1"}))
        self.assertFalse(self.temperature_is_hot("--config", cold, "--temp", 0, env={"HEDDLE_TEMP": "1"}))
        self.assertTrue(self.temperature_is_hot(env={"HEDDLE_CONFIG": file("hot.json", '{"temp": 1}')}))

    def test_environment_errors_name_the_variable(self):
        self.assertRefused(["generate", MODEL, "-p", "x"], "HEDDLE_TOP_K", "many", env={"HEDDLE_TOP_K": "many"})
        self.assertRefused(["generate", MODEL, "-p", "x"], "no.json", env={"HEDDLE_CONFIG": "/no.json"})

    def test_unknown_variable_is_a_warning(self):
        rc, _, err = heddle("version", env={"HEDDLE_THREDS": "1"})
        self.assertEqual(rc, 0)
        self.assertIn("HEDDLE_THREDS", err)


class Generate(Cli):
    def test_json_object(self):
        x = as_json("generate", MODEL, "-p", "the loom", "-n", 12, *GREEDY, "--ignore-eos", "--raw")
        self.assertEqual(x["prompt_token_ids"], as_json("tokenize", MODEL, "-p", "the loom")["ids"])
        self.assertEqual(x["prompt_tokens"], len(x["prompt_token_ids"]))
        self.assertEqual((x["completion_tokens"], len(x["tokens"]), x["finish_reason"]), (12, 12, "length"))
        self.assertEqual(x["model"], MODEL)
        self.assertEqual(set(x["timings"]), {"load_s", "prefill_s", "prefill_tok_s", "decode_s", "decode_tok_s"})
        self.assertGreater(x["timings"]["decode_tok_s"], 0)
        self.assertGreater(x["peak_rss_bytes"], 1 << 20)
        self.assertNotIn("logprobs", x)

    def test_text_is_the_answer_and_a_newline(self):
        args = ("generate", MODEL, "-p", "the loom", "-n", 40, *GREEDY, "--ignore-eos")
        rc, out, err = heddle(*args)
        self.assertEqual((rc, out, err), (0, as_json(*args)["text"] + "\n", ""))
        _, _, err = heddle(*args, "-v")
        self.assertRegex(err, r"prompt \d+ tokens in .* answer 40 tokens")

    def test_prompt_from_anywhere(self):
        want = as_json("generate", MODEL, "-p", "weft\n", "-n", 1)["prompt_token_ids"]
        path = file("prompt.txt", "weft\n")
        for args, stdin in ((["-f", path], b""), (["-f", "-"], b"weft\n"), (["-"], b"weft\n")):
            self.assertEqual(as_json("generate", MODEL, *args, "-n", 1, stdin=stdin)["prompt_token_ids"], want)
        self.assertRefused(["generate", MODEL], "prompt is missing")
        self.assertRefused(["generate", MODEL, "-p", "a", "-"], "only one")
        self.assertRefused(["generate", MODEL, "-p", ""], "empty")
        self.assertRefused(["generate", MODEL, "-"], "empty")
        self.assertRefused(["generate", MODEL, "-f", "/no/file"], "/no/file")
        self.assertRefused(["generate", MODEL, "-f", FOLDER.name], FOLDER.name)
        self.assertRefused(["generate", MODEL, "x"], "unexpected")

    # R10
    def test_bytes_that_are_not_utf8(self):
        a = as_json("generate", MODEL, "-", "-n", 1, "--raw", stdin=b"a\xffb")["prompt_token_ids"]
        b = as_json("generate", MODEL, "-", "-n", 1, "--raw", stdin="a\ufffdb".encode())["prompt_token_ids"]
        self.assertEqual(a, b)

    def test_template_raw_and_system(self):
        chat = as_json("tokenize", MODEL, "--chat", file("m.json", json.dumps([
            {"role": "system", "content": "S"}, {"role": "user", "content": "U <|im_end|>"}])))
        self.assertEqual(as_json("generate", MODEL, "-p", "U <|im_end|>", "--system", "S", "-n", 1)["prompt_token_ids"],
                         chat["ids"])
        self.assertIn("<|im_start|>system\nS<|im_end|>", chat["text"])
        marker = as_json("tokenize", MODEL, "-p", "<|im_end|>")["ids"]
        self.assertEqual(len(marker), 1)
        self.assertEqual(chat["ids"].count(marker[0]), 2, "the one that the user wrote is plain text")
        self.assertRefused(["generate", MODEL, "-p", "x", "--raw", "--system", "S"], "--system")

    def test_seeds(self):
        run = lambda s: as_json("generate", MODEL, "-p", "x", "-n", 24, "--temp", 1, "--ignore-eos", *s)
        self.assertEqual(run(["--seed", 7])["tokens"], run(["--seed", 7])["tokens"])
        self.assertNotEqual(run(["--seed", 7])["tokens"], run(["--seed", 8])["tokens"])
        fresh = run([])
        self.assertEqual(run(["--seed", fresh["seed"]])["tokens"], fresh["tokens"])

        self.assertEqual(run(["--seed", 2**63 - 1])["seed"], 2**63 - 1)

    def test_one_thread_is_two_threads(self):
        a, b = (as_json("generate", MODEL, "-p", "x", "-n", 24, *GREEDY, "-t", t)["tokens"] for t in (1, 2))
        self.assertEqual(a, b)

    def test_stop_text_is_not_part_of_the_answer(self):
        args = ("generate", MODEL, "-p", "x", "-n", 60, *GREEDY, "--ignore-eos")
        text = as_json(*args)["text"]
        stop = text[len(text) // 2:][:2]
        x = as_json(*args, "--stop", "never seen", "--stop", stop)
        self.assertEqual((x["finish_reason"], x["text"]), ("stop", text[: text.index(stop)]))

    def test_logprobs(self):
        x = as_json("generate", MODEL, "-p", "x", "-n", 3, *GREEDY, "--ignore-eos", "--logprobs", 4)
        self.assertEqual([t["token"] for t in x["logprobs"]], x["tokens"])
        for row in x["logprobs"]:
            self.assertEqual(len(row["top"]), 4)
            self.assertEqual(row["top"][0]["token"], row["token"], "greedy takes the best")
            self.assertLess(row["logprob"], 0)
            self.assertLessEqual(sum(math.exp(t["logprob"]) for t in row["top"]), 1 + 1e-5)
        self.assertRefused(["generate", MODEL, "-p", "x", "--logprobs", 1], "--json")

    def test_bias_forbids_and_forces(self):
        x = as_json("generate", MODEL, "-p", "x", "-n", 5, *GREEDY, "--ignore-eos", "--logit-bias", "100=100")
        self.assertEqual(x["tokens"], [100] * 5)

    def test_context(self):
        long = " ".join(["pear"] * 600)
        self.assertRefused(["generate", MODEL, "-p", long, "--ctx", 256], "256", "8192")
        self.assertRefused(["generate", MODEL, "-p", "x", "--ctx", 100000], "100000", "8192")
        x = as_json("generate", MODEL, "-p", "x", "--raw", "-n", 0, "--ctx", 64, *GREEDY, "--ignore-eos")
        self.assertEqual((x["prompt_tokens"] + x["completion_tokens"], x["finish_reason"]), (64, "length"))
        y = as_json("generate", MODEL, "-p", "x", "--raw", "-n", 999, "--ctx", 64, *GREEDY, "--ignore-eos")
        self.assertEqual(y["tokens"], x["tokens"])

    def test_sizes_do_not_change_the_answer(self):
        args = ("generate", MODEL, "-p", "the pattern grows " * 30, "-n", 16, *GREEDY, "--ignore-eos")
        want = as_json(*args)["tokens"]
        for extra in (("--block-tokens", 64), ("--max-step-tokens", 7), ("--kv-tokens", 512)):
            self.assertEqual(as_json(*args, *extra)["tokens"], want, extra)


class JsonMembers(Cli):
    def test_help_names_every_member(self):
        text = " ".join(good("help", "generate").split())
        rows = file("members.jsonl", "".join(json.dumps({"prompt": p}) + "\n" for p in ("the weaver", "the weaver counts threads")))
        out = good("generate", MODEL, "--raw", "--prompts", rows, "--parallel", 1, "-n", 2, *GREEDY, "--json")
        lines = list(map(json.loads, out.splitlines()))
        self.assertEqual([x["not_reused"] for x in lines], ["no_prefix", "diverged_at"])
        self.assertEqual(lines[1]["diverged_at"], lines[1]["cached_tokens"])
        for member in {*lines[0], *lines[1]} | set(lines[0]["timings"]):
            self.assertRegex(text, rf"\b{member}\b")


class Prompts(Cli):
    def rows(self, content, *args, code=0, **kw):
        rc, out, err = heddle("generate", MODEL, "--prompts", file("p.jsonl", content), *GREEDY, *args, **kw)
        self.assertEqual(rc, code, err)
        return [json.loads(x) for x in out.splitlines()]

    def test_batched_is_alone_in_input_order(self):
        texts = ["the loom", "a", "pear " * 50, "rain?", "two", "three"]
        lines = [json.dumps({"prompt": t, "id": f"n{i}", "max_tokens": 5 + 7 * (i % 3)}) for i, t in enumerate(texts)]
        got = self.rows("\n".join(lines) + "\n\n", "--ignore-eos", "--parallel", 4)
        self.assertEqual([(x["index"], x["id"]) for x in got], [(i, f"n{i}") for i in range(len(texts))])
        for x, t in zip(got, texts):
            n = x["completion_tokens"]
            alone = as_json("generate", MODEL, "-p", t, "-n", n, *GREEDY, "--ignore-eos")
            self.assertEqual((x["tokens"], x["text"], x["prompt_token_ids"]),
                             (alone["tokens"], alone["text"], alone["prompt_token_ids"]))

    def test_messages_and_overrides(self):
        line = {"messages": [{"role": "user", "content": "hi"}], "temperature": 1, "seed": 3, "max_tokens": 9, "stop": "zzz"}
        got = self.rows(json.dumps(line), "--ignore-eos")[0]
        alone = as_json("generate", MODEL, "-p", "hi", "-n", 9, "--temp", 1, "--seed", 3, "--ignore-eos")
        self.assertEqual((got["tokens"], got["seed"]), (alone["tokens"], 3))
        for seed in (2**53 + 1, 2**63 - 1):
            self.assertEqual(self.rows(json.dumps({"prompt": "a", "seed": seed, "max_tokens": 1}))[0]["seed"], seed)

    def test_a_system_message_of_the_line_wins(self):
        user = {"role": "user", "content": "hi"}
        lines = [{"messages": m, "max_tokens": 1} for m in ([user], [{"role": "system", "content": "own"}, user])]
        got = self.rows("\n".join(map(json.dumps, lines)), "--system", "S")
        for row, system in zip(got, ("S", "own")):
            alone = as_json("generate", MODEL, "-p", "hi", "--system", system, "-n", 1)
            self.assertEqual(row["prompt_token_ids"], alone["prompt_token_ids"])

    def test_room_is_made_for_the_system_message(self):
        system = "you are a helpful thing number seven " * 120
        user = {"role": "user", "content": "hi"}
        lines = [{"prompt": "hi"}, {"prompt": "there"}, {"messages": [user]}]
        got = self.rows("\n".join(map(json.dumps, lines)), "--system", system, "-n", 8)
        alone = as_json("generate", MODEL, "-p", "hi", "--system", system, "-n", 8, *GREEDY)
        for i in (0, 2):
            self.assertEqual((got[i]["prompt_token_ids"], got[i]["tokens"]), (alone["prompt_token_ids"], alone["tokens"]))

    def test_a_bad_line_is_named_before_anything_runs(self):
        for bad, part in (("{", "JSON"), ('{"prompt": 1}', "prompt"), ("{}", "prompt"), ('{"prompt": "a", "x": 1}', "'x'"),
                          ('{"prompt": "a", "messages": []}', "either"), ('{"prompt": "a", "max_tokens": -1}', "max_tokens"),
                          ('{"prompt": "a", "temperature": "hot"}', "temperature"), ('{"messages": [{"role": 1}]}', "role"),
                          ('{"prompt": "a", "seed": -1}', "'seed' is -1, allowed"),
                          ('{"prompt": "a", "seed": 9223372036854775808}', "9223372036854775807"),
                          ('{"prompt": "a", "max_tokens": 1e30}', "'max_tokens' is 1e+30, allowed"),
                          ('{"prompt": "a", "stop": [""]}', "stop"), ("[]", "object"),
                          (json.dumps({"prompt": "a", "stop": ["x"] * 33}), "stop texts"),
                          (json.dumps({"prompt": "pear " * 9000}), "8192")):
            with self.subTest(bad=bad[:60]):
                path = file("p.jsonl", '{"prompt": "a"}\n\n' + bad + "\n")
                self.assertRefused(["generate", MODEL, "--prompts", path], "p.jsonl:3", part)
        path = file("p.jsonl", '{"prompt": "a", "max_tokens": 1}\n\n{"prompt": "' + "pear " * 99 + '", "max_tokens": 1}\n')
        self.assertRefused(["generate", MODEL, "--raw", "--kv-tokens", 32, "--prompts", path], "p.jsonl:3", "cache blocks")
        self.assertRefused(["generate", MODEL, "--prompts", file("p.jsonl", "\n")], "no prompts")
        self.assertRefused(["generate", MODEL, "--prompts", "-", "-p", "x"], "--prompts")


class Score(Cli):
    def test_windows_cover_the_text(self):
        text = "the weaver counts: one, two, three. " * 20
        path = file("text.txt", text)
        n = len(as_json("tokenize", MODEL, "-f", path)["ids"])
        logprobs = pathlib.Path(FOLDER.name) / "lp.jsonl"
        x = as_json("score", MODEL, "-f", path, "--ctx", 50, "--logprobs", logprobs)
        windows = -(-n // 50)
        self.assertEqual((x["tokens"], x["scored"], x["windows"]), (n, n - windows, windows))
        self.assertAlmostEqual(x["ppl"], math.exp(x["nll"]), places=6)
        rows = [json.loads(line) for line in logprobs.read_text().splitlines()]
        self.assertEqual([r["position"] for r in rows], list(range(n)))
        self.assertEqual([r["logprob"] is None for r in rows], [i % 50 == 0 for i in range(n)])
        self.assertAlmostEqual(-sum(r["logprob"] or 0 for r in rows) / x["scored"], x["nll"], places=5)
        self.assertEqual("".join(r["text"] for r in rows), text)

    def test_agrees_with_generate(self):
        path = file("text.txt", "the loom")
        y = as_json("generate", MODEL, "-p", "the loom", "--raw", "-n", 6, *GREEDY, "--ignore-eos", "--logprobs", 0)
        ids = y["prompt_token_ids"] + y["tokens"]
        text = good("tokenize", MODEL, "--decode", "-p", str(ids), "--json")
        again = as_json("tokenize", MODEL, "-p", json.loads(text)["text"])["ids"]
        if again != ids:
            self.skipTest("the answer's text has other tokens")
        out = pathlib.Path(FOLDER.name) / "lp2.jsonl"
        good("score", MODEL, "-f", file("text2.txt", json.loads(text)["text"]), "--logprobs", out)
        rows = [json.loads(line)["logprob"] for line in out.read_text().splitlines()]
        for a, b in zip(rows[-6:], y["logprobs"]):
            self.assertAlmostEqual(a, b["logprob"], places=5)

    def test_what_cannot_be_scored(self):
        self.assertRefused(["score", MODEL], "-f FILE")
        self.assertRefused(["score", MODEL, "-f", file("empty.txt", "")], "0 tokens")
        self.assertRefused(["score", MODEL, "-f", "-"], "1 tokens", stdin=b"a")
        self.assertRefused(["score", MODEL, "-f", "-", "--logprobs", "/no/dir/x"], "/no/dir/x", stdin=b"abc")

    def test_text_output(self):
        rc, out, err = heddle("score", MODEL, "-f", "-", stdin=b"the weaver")
        self.assertEqual((rc, err), (0, ""))
        self.assertRegex(out, r"^ppl [\d.]+  nll [\d.]+  scored \d+ of \d+ tokens in 1 windows of 2048\n$")


class Tokenize(Cli):
    def test_there_and_back(self):
        text = "the w\u00e9aver \U0001f9f5 \u7d93\t<|im_start|>x\n"
        ids = as_json("tokenize", MODEL, "-", "--no-special", stdin=text.encode())["ids"]
        plain = good("tokenize", MODEL, "-p", text, "--no-special")
        self.assertEqual([int(x) for x in plain.split()], ids)
        self.assertEqual(as_json("tokenize", MODEL, "--decode", "-p", plain)["text"], text)
        self.assertEqual(as_json("tokenize", MODEL, "--decode", "-", stdin=json.dumps(ids).encode())["text"], text)
        self.assertEqual(as_json("tokenize", MODEL, "--decode", "--no-special", "-p", plain)["text"],
                         text.replace("<|im_start|>", ""))

    def test_empty_text(self):
        self.assertEqual(as_json("tokenize", MODEL, "-p", "", "--no-special"), {"ids": []})

    def test_refusals(self):
        self.assertRefused(["tokenize", MODEL], "missing")
        for ids in ("5 x", "-1", "999999", "1.5", "1]", "1 [2]", "[-1]", "[1.5]", "[999999]", '["1"]', "[1, [2]]"):
            self.assertRefused(["tokenize", MODEL, "--decode", "-p", ids], "not a token id")
        for ids in ("[[1]2]]", "[1,2", "[1 2]", "[1,]", "[1] 2", "["):
            self.assertRefused(["tokenize", MODEL, "--decode", "-p", ids], "not valid JSON")
        self.assertRefused(["tokenize", MODEL, "--chat", file("m.json", "{}")], "m.json", "list")
        self.assertRefused(["tokenize", MODEL, "--chat", file("m.json", '[{"content": "x"}]')], "role")
        self.assertRefused(["tokenize", MODEL, "--chat", file("m.json", "[]"), "-p", "x"], "--chat")


class Inspect(Cli):
    def test_json(self):
        x = as_json("inspect", MODEL, "--ctx", 1000, "--seqs", 3, "--kv-dtype", "f32")
        self.assertEqual(x["family"], "llama")
        self.assertEqual(len(x["layers"]), 2)
        self.assertIn("softmax", x["layers"][0]["mixer"])
        self.assertEqual(x["parameters"], sum(math.prod(t["shape"]) for t in x["tensors"]))
        self.assertEqual(x["kv_bytes_per_token"], 2 * 2 * 2 * 16 * 4)  # layers, K and V, heads, width, f32
        m = x["memory"]
        self.assertEqual(m["kv"], 3008 * x["kv_bytes_per_token"], "whole blocks")
        self.assertEqual(m["total"], m["weights"] + m["kv"] + m["workspace"], "no states, no host cache")
        self.assertLessEqual(sum(x["bytes"].values()), m["weights"])
        self.assertGreater(1.1 * sum(x["bytes"].values()), m["weights"])
        self.assertIn("im_start", x["chat_template"])

    def test_sizes_that_cannot_be(self):
        self.assertRefused(["inspect", MODEL, "--ctx", 8193],
                           "context of 8193 tokens: the checkpoint allows 1 .. 8192")
        self.assertRefused(["inspect", MODEL, "--seqs", 4097], "--seqs", "4096")

    def test_text(self):
        text = good("inspect", MODEL)
        for part in ("llama", "layers 0-1", "softmax", "tokenizer", "KV cache", "memory"):
            self.assertIn(part, text)


class Bench(Cli):
    def test_rows(self):
        rows = as_json("bench", MODEL, "-p", "32,16", "-n", 8, "-d", "0,40", "-b", "1,2", "-r", 2, "-t", 1)
        self.assertEqual({x["test"] for x in rows},
                         {f"{t}{b}{d}" for t in ("pp32", "pp16", "tg8") for b in ("", " b2") for d in ("", " @ d40")})
        self.assertEqual(len(rows), 12)
        for x in rows:
            self.assertEqual(x["threads"], 1)
            self.assertGreater(x["tok_s"], 0)
            self.assertGreaterEqual(x["tok_s_std"], 0)
            self.assertGreater(x["gb_s"], 0)
            self.assertGreater(x["read_share"], 0)

    def test_text_and_what_cannot_run(self):
        rc, out, err = heddle("bench", MODEL, "-p", 8, "-n", 0, "-r", 1)
        self.assertEqual(rc, 0)
        self.assertRegex(out, r"pp8 +\d+ +[\d.]+")
        self.assertIn("memory read", err)
        self.assertRefused(["bench", MODEL, "-p", 0, "-n", 0], "nothing to run")
        self.assertRefused(["bench", MODEL, "-p", 2000000], "1048576")

    def test_goes_past_the_trained_context(self):
        key = b"llama.context_length"
        short = patched("short.gguf", key + struct.pack("<II", 4, 8192), key + struct.pack("<II", 4, 32))
        self.assertEqual(as_json("inspect", short)["context"], 32)
        rows = as_json("bench", short, "-p", "32,40", "-n", 8, "-d", 32, "-r", 1, "-t", 1)
        self.assertEqual([x["test"] for x in rows], ["pp32 @ d32", "pp40 @ d32", "tg8 @ d32"])


    def test_kernels(self):
        rows = as_json("bench", "--kernels", "RMS_norm/", "--kernel-ms", 1, "-t", 1)
        self.assertEqual({(x["op"], x["dtype"], x["threads"]) for x in rows}, {("rms_norm", "F32", 1)})
        self.assertLessEqual({"portable", "ref"}, {x["variant"] for x in rows})
        for x in rows:
            self.assertEqual((x["bound"], x["gflop_s"]), ("memory", None))
            self.assertRegex(x["shape"], r"^n \d+ width 2048$")
            for key in ("us", "gb_s", "share"):
                self.assertGreater(x[key], 0)

    def test_kernels_beside_their_ceilings(self):
        rc, out, err = heddle("bench", "--kernels", "matmul/ref/q4_1", "--kernel-ms", 20, "-t", 1, "--json")
        self.assertEqual(rc, 0, err)
        read = float(re.search(r"memory read ([\d.]+) GB/s", err)[1])
        peaks = {k: float(v) for k, v in re.findall(r", (v?[a-z][\w+ ]*) (\d+) GFLOP/s", err)}
        decode, prefill = json.loads(out)
        for n, x in ((1, decode), (512, prefill)):
            n_rows = int(re.fullmatch(rf"n {n} k 2048 rows (\d+)", x["shape"])[1])
            self.assertAlmostEqual(x["gflop_s"] * x["us"] * 1e3, 2 * n * 2048 * n_rows, delta=1)
            self.assertAlmostEqual(x["gb_s"] * x["us"] * 1e3, n_rows * 2048 * 20 / 32 + n * (2048 + n_rows) * 4, delta=1)
            if x["bound"] == "memory":
                self.assertAlmostEqual(x["share"] / (x["gb_s"] / read), 1, delta=0.02)
            else:
                self.assertAlmostEqual(x["share"] / (x["gflop_s"] / peaks[x["bound"]]), 1, delta=0.02)
                self.assertGreater(x["share"], x["gb_s"] / read)
        self.assertEqual(decode["bound"], "memory")

    def test_kernels_as_text(self):
        rc, out, err = heddle("bench", "--kernels", "rope_angles/ref", "--kernel-ms", 1, "-t", 1)
        self.assertEqual(rc, 0)
        self.assertRegex(out, r"^op/variant/dtype .*share\nrope_angles/ref/F32 +n \d+ d 64 +[\d.]+ +[\d.]+ +- +memory +\d+ %\n$")
        self.assertRegex(err, r"threads 1: memory read [\d.]+ GB/s, .*GFLOP/s")

    def test_kernels_that_cannot_be(self):
        known = ("ops: matmul, ", "rms_norm", "variants: ", "ref", "dtypes: F32, ", "Q4_1")
        self.assertRefused(["bench", "--kernels", "no/such"], "no/such", *known)
        self.assertRefused(["bench", MODEL, "--kernels"], "tiny-llama.gguf", "a model is not taken", *known)
        self.assertRefused(["bench", "--kernels", "matmul", "rope"], "unexpected", "rope")
        self.assertRefused(["bench", "--kernels", "-d", 5], "--kernels and --depth exclude each other")
        self.assertRefused(["bench", "--kernels", "--force-kernel", "all=ref"], "--force-kernel", "FILTER")
        self.assertRefused(["bench", "--kernels", "--device", "cuda"], "cuda", "allowed")
        self.assertRefused(["bench", "--kernels", "--kernel-ms", 0], "--kernel-ms", "from 1 to 10000")
        self.assertRefused(["bench", MODEL, "--kernel-ms", 5], "--kernel-ms needs --kernels")
        self.assertRefused(["bench"], "MODEL is missing")


class Selftest(Cli):
    def test_rows(self):
        x = as_json("selftest", MODEL, "--quick", "-t", 2)
        self.assertTrue(x["ok"])
        listed = re.search(r"rows = \{(.*?)\};", (ROOT / "tests/support/selftest_rows.h").read_text(), re.S)[1]
        rows = re.findall(r'"(.*?)"', listed)
        self.assertEqual(rows.pop(), "kernels portable = default")
        self.assertGreaterEqual(len(rows), 18)
        self.assertEqual([row["name"] for row in x["rows"]],
                         [*rows, *(f"kernels {name} = default" for name in KERNELS), "fast kernels near exact arithmetic"])
        for row in x["rows"]:
            self.assertEqual(set(row), {"name", "ok", "detail", "seconds"})
        for flag in ("--ctx", "--max-step-tokens"):  # it chooses its own
            self.assertRefused(["selftest", MODEL, flag, 64], "unknown flag", flag)


class Deadline(Cli):
    def test_ends_an_answer_and_keeps_what_there_is(self):
        endless = ["-n", 0, "--ignore-eos", *GREEDY]
        rc, out, err = heddle("generate", MODEL, "-p", "the", *endless, "--deadline", 1e-6)
        self.assertEqual((rc, out), (1, "\n"))
        self.assertIn("error: deadline: the request has not ended within 1e-06 s", err)
        rc, out, err = heddle("generate", MODEL, "-p", "the", *endless, "--deadline", 1e-6, "--json")
        self.assertEqual(rc, 1)
        self.assertEqual((json.loads(out)["finish_reason"], json.loads(out)["tokens"]), ("deadline", []))
        self.assertIn("has not ended", json.loads(out)["error"])
        self.assertIsNone(json.loads(out)["not_reused"], "nobody has looked")
        self.assertEqual(good("generate", MODEL, "-p", "the", "-n", 4, *GREEDY, "--deadline", 600),
                         good("generate", MODEL, "-p", "the", "-n", 4, *GREEDY))

    def test_lines_have_their_own(self):
        rows = file("deadline.jsonl", '{"prompt": "the", "max_tokens": 3, "deadline": 600}\n{"prompt": "the"}\n')
        rc, out, err = heddle("generate", MODEL, "--prompts", rows, *GREEDY, "--ignore-eos", "--deadline", 1e-6)
        self.assertEqual(rc, 1)
        self.assertEqual([json.loads(x)["finish_reason"] for x in out.splitlines()], ["length", "deadline"])
        self.assertIn("1 of 2 prompts failed", err)
        rows = file("deadline.jsonl", '{"prompt": "the", "max_tokens": 0, "deadline": 0.2}')
        _, out, err = heddle("generate", MODEL, "--prompts", rows, *GREEDY, "--ignore-eos")
        self.assertIn("has not ended within 0.2 s of", err)
        self.assertIn("has not ended within 0.2 s of", json.loads(out)["error"])
        for bad in ("-1", "1e99", '"x"'):
            rows = file("deadline.jsonl", f'{{"prompt": "the", "deadline": {bad}}}')
            self.assertRefused(["generate", MODEL, "--prompts", rows], "deadline.jsonl:1", "'deadline'", "a number from 0")
        self.assertRefused(["generate", MODEL, "-p", "x", "--deadline", "nan"], "--deadline")
        self.assertRefused(["chat", MODEL, "--deadline", "1"], "unknown flag")


class Chat(Cli):
    def chat(self, lines, *args):
        return heddle("chat", MODEL, *GREEDY, "--ignore-eos", "-n", 8, "-v", *args, stdin="\n".join(lines).encode())

    @staticmethod
    def reused(err):
        """For each answer: prompt tokens whose cache was there, and all."""
        return [[int(n) for n in line.split() if n.isdigit()][:2] for line in err.splitlines() if line.startswith("reused")]

    def test_second_turn_computes_only_what_is_new(self):
        rc, out, err = self.chat(["the weaver counts threads", "and then"])
        self.assertEqual(rc, 0, err)
        reused = self.reused(err)
        self.assertEqual(len(reused), 2)
        self.assertEqual(reused[0][0], 0)
        self.assertGreater(reused[1][0], reused[0][1], "the first prompt and more")
        self.assertLess(reused[1][0], reused[1][1])

    def test_verify_cache_computes_hits_again(self):
        plain = self.chat(["the weaver", "and then", "and on"])
        rc, out, err = self.chat(["the weaver", "and then", "and on"], "--verify-cache", 1)
        self.assertEqual((rc, out), plain[:2], err)
        self.assertIn("verify-cache: 2 hits computed again, 16 rows compared, 0 skipped", err)
        self.assertEqual(self.reused(err), self.reused(plain[2]))
        rows = file("verify.jsonl", "".join(json.dumps({"prompt": "the weaver", "max_tokens": 3}) + "\n" for _ in range(3)))
        rc, out, err = heddle("generate", MODEL, "--prompts", rows, "--parallel", 1, "--verify-cache", 1, "-v", *GREEDY)
        self.assertEqual(rc, 0, err)
        self.assertIn("verify-cache: 2 hits computed again", err)
        for bad in ("nan", "-0.1", "1.1", "x"):
            self.assertRefused(["chat", MODEL, "--verify-cache", bad], "--verify-cache", "a number from 0 to 1")

    def test_what_serves_the_prefix_cache_alone_needs_it(self):
        for flag, value in (("--verify-cache", 0.5), ("--snapshot-memory", 64), ("--host-cache", 64)):
            for command in (["generate", MODEL, "-p", "x"], ["chat", MODEL]):
                self.assertRefused([*command, flag, value, "--no-prefix-cache"], flag + " needs the prefix cache",
                                   "--no-prefix-cache turns off")
            good("generate", MODEL, "-p", "the", "-n", 1, flag, 0, "--no-prefix-cache")

    def test_stats_tell_what_was_reused(self):
        _, out, err = self.chat(["/stats", "the weaver", "and then", "/stats"])
        self.assertEqual(out, self.chat(["the weaver", "and then"])[1])
        stats = [x for x in err.splitlines() if x.startswith("requests ")]
        self.assertEqual(stats, ["requests   0 running, 0 waiting, 0 begun",
                                 *["requests   0 running, 0 waiting, 2 begun: no_prefix 1, diverged_at 1"] * 2])
        cached, prompt = map(sum, zip(*self.reused(err)))
        self.assertIn(f"prompts    {prompt} tokens, {cached} cached, 0 replayed", err)
        quiet = heddle("chat", MODEL, *GREEDY, "-n", 2, stdin=b"one\n")[2]
        self.assertNotIn("requests ", quiet)

    def test_first_answer_is_that_of_generate(self):
        _, out, _ = self.chat(["the weaver", "/exit", "never read"])
        self.assertEqual(out, good("generate", MODEL, "-p", "the weaver", "-n", 8, *GREEDY, "--ignore-eos"))

    def test_regen_and_clear_begin_where_they_should(self):
        once = good("generate", MODEL, "-p", "the weaver", "-n", 8, *GREEDY, "--ignore-eos")
        for command in (["/regen"], ["/clear", "the weaver"]):
            rc, out, _ = self.chat(["the weaver", *command])
            self.assertEqual((rc, out), (0, once * 2), command)
        hot = ("--temp", "1", "--seed", "1")
        a = heddle("chat", MODEL, "--ignore-eos", "-n", 8, *hot, stdin=b"the weaver")[1]
        _, both, _ = heddle("chat", MODEL, "--ignore-eos", "-n", 8, *hot, stdin=b"the weaver\n/regen\n")
        self.assertTrue(both.startswith(a))
        self.assertNotEqual(both, a * 2, "/regen draws anew")

    def test_system_message(self):
        _, out, _ = self.chat(["/system S", "the weaver"])
        self.assertEqual(out, good("generate", MODEL, "-p", "the weaver", "--system", "S", "-n", 8, *GREEDY, "--ignore-eos"))
        self.assertEqual(self.chat(["the weaver"], "--system", "S")[1], out)

    def test_unknown_command_and_escape(self):
        rc, out, err = self.chat(["/nonsense", "/regen", "//clear"])
        self.assertEqual(rc, 0)
        self.assertIn("error: unknown command '/nonsense'; /help lists those there are\n", err)
        self.assertIn("error: /regen: there is no message to answer\n", err)
        self.assertEqual(out, good("generate", MODEL, "-p", "/clear", "-n", 8, *GREEDY, "--ignore-eos"))

    def test_help_has_a_line_for_each_command(self):
        lines = heddle("chat", MODEL, stdin=b"/help\n")[2].splitlines()
        for command in ("/clear", "/regen", "/history", "/edit N TEXT", "/system TEXT", "/stats", "/help", "/exit"):
            self.assertEqual(sum(line.startswith(command + " ") for line in lines), 1, command)
        self.assertLessEqual(max(map(len, lines)), 80)

    def test_full_context_goes_on_after_clear(self):
        rc, out, err = self.chat(["x " * 200, "hi", "/clear", "hi"], "--ctx", 64)
        self.assertEqual(rc, 0, err)
        self.assertIn("64", err)
        self.assertIn("/clear starts afresh", err)
        self.assertEqual(out, 2 * good("generate", MODEL, "-p", "hi", "-n", 8, "--ctx", 64, *GREEDY, "--ignore-eos"))

    def test_what_cannot_be_answered_changes_nothing(self):
        long = "x " * 400
        rc, out, err = self.chat(["hi", long, f"/system {long}", "/regen", "/system", "/regen"], "--ctx", 128)
        self.assertEqual(rc, 0, err)
        self.assertEqual(err.count("; the conversation is as it was, /clear starts afresh\n"), 2, err)
        self.assertEqual(out, 2 * good("generate", MODEL, "-p", "hi", "-n", 8, "--ctx", 128, *GREEDY, "--ignore-eos"))

    def test_raw_turns_are_joined_by_newlines(self):
        _, out, _ = self.chat(["one"], "--raw")
        self.assertEqual(out, good("generate", MODEL, "-p", "one\n", "--raw", "-n", 8, *GREEDY, "--ignore-eos"))

    def test_without_a_template_turns_are_joined_by_newlines(self):
        plain = patched("plain.gguf", b"tokenizer.chat_template", b"tokenizer.chat_templatX")
        self.assertIsNone(as_json("inspect", plain)["chat_template"])
        options = ("-n", 8, *GREEDY, "--ignore-eos")
        rc, out, err = heddle("chat", plain, *options, stdin=b"one\ntwo\n/system S\n")
        self.assertEqual(rc, 0, err)
        self.assertIn("error: /system needs a chat template", err)
        words = "the model has no chat template: turns are joined by newlines\n"
        for model, flags, said in ((plain, ["-v"], True), (plain, ["-v", "--raw"], False), (MODEL, ["-v"], False)):
            self.assertEqual(words in heddle("chat", model, *flags, stdin=b"")[2], said)
        first = good("generate", plain, "-", *options, stdin=b"one\n")[:-1]
        second = good("generate", plain, "-", *options, stdin=f"one\n{first}\ntwo\n".encode())
        self.assertEqual(out, f"{first}\n{second}")
        self.assertRefused(["chat", plain, "--system", "S"], "--system needs a chat template")


class ChatEdit(Cli):
    """/history and /edit: an edited conversation is the same one typed afresh."""

    def chat(self, lines, *args):
        """(stdout, stderr)"""
        rc, out, err = heddle("chat", MODEL, *GREEDY, "--ignore-eos", "-n", 8, "-v", *args, stdin="\n".join(lines).encode())
        self.assertEqual(rc, 0, err)
        return out, err

    def answers(self, before, lines, *args):
        """What `lines` add to the output of `before`."""
        first, both = (self.chat(x, *args)[0] for x in (before, before + lines))
        self.assertTrue(both.startswith(first))
        self.assertGreater(len(both), len(first))
        return both[len(first):]

    def assertEdited(self, typed, edits, afresh, *args):
        """`edits` after `typed`, and two turns more, answer as the last turn of `afresh` and those two."""
        more = ["and then", "at last"]
        self.assertEqual(self.answers(typed + edits[:-1], edits[-1:] + more, *args),
                         self.answers(afresh[:-1], afresh[-1:] + more, *args))

    def test_any_turn(self):
        typed = ["the weaver", "counts threads", "by the river"]
        for n, *args in ((1,), (2,), (3,), (2, "--raw"), (2, "--system", "S"), (2, "--temp", 1, "--seed", 3)):
            with self.subTest(n=n, args=args):
                self.assertEdited(typed, [f"/edit {n} a red loom"], typed[:n - 1] + ["a red loom"], *args)
        self.assertNotEqual(self.answers(typed, ["/edit 2 a red loom"]), self.answers(typed[:1], typed[1:2]))

    def test_twice_in_a_row(self):
        typed = ["the weaver", "counts threads", "by the river"]
        for edits, afresh in ((["/edit 2 a loom", "/edit 2 rain"], ["the weaver", "rain"]),
                              (["/edit 3 a loom", "/edit 1 rain"], ["rain"]),
                              (["/edit 1 a loom", "wool", "/edit 2 rain"], ["a loom", "rain"]),
                              (["/edit 3 a loom", "/edit 2 counts threads"], ["the weaver", "counts threads"])):
            with self.subTest(edits=edits):
                self.assertEdited(typed, edits, afresh)

    def test_regen_and_system_meet_an_edited_turn(self):
        hot = ("--temp", "1", "--seed", "1")
        for lines in (["/regen"], ["/regen", "/regen"], ["/regen", "wool"]):
            self.assertEqual(self.answers(["one", "two", "/edit 1 rain"], lines, *hot), self.answers(["rain"], lines, *hot))
        self.assertEqual(self.answers(["one", "/regen", "/system S"], ["/edit 1 rain"], *hot),
                         self.answers(["/system S"], ["rain"], *hot), "an edit draws as a new message does")

    def test_what_comes_before_is_not_computed_again(self):
        _, err = self.chat(["the weaver", "counts threads", "by the river", "/edit 3 by the sea", "/edit 1 a red loom"])
        (_, _), (_, second), (_, third), (last, n_last), (first, n_first) = Chat.reused(err)
        self.assertGreaterEqual(last, second, "everything up to the turn")
        self.assertLess(last, n_last)
        self.assertTrue(0 < first < n_first < third)

    def test_history_numbers_the_messages(self):
        def history(*lines):
            return [x for x in self.chat([*lines, "/history"])[1].splitlines() if re.match(r"\d+: |error: /history", x)]
        self.assertEqual(history(), ["error: /history: there is no message yet"])
        self.assertEqual(history("one", "/clear"), ["error: /history: there is no message yet"])
        self.assertEqual(history("one", "it's two", "/regen", "//x"), ["1: one", "2: it's two", "3: /x"])
        self.assertEqual(history("one", "two", "three", "/edit 2 zwei"), ["1: one", "2: zwei"])
        self.assertEqual(history("a\x1b[31m" + "\u00e9" * 100), ["1: a\\x1b[31m" + "\u00e9" * 33 + "..."])

    def test_without_a_text_the_message_is_shown(self):
        long = "it's \x1b" + 50 * "pear "
        plain, _ = self.chat(["one", long, "three"])
        for blanks in ("", " ", "   "):
            out, err = self.chat(["one", long, f"/edit 1{blanks}", f"/edit 2{blanks}", "three"])
            self.assertEqual(out, plain, "nothing has changed")
            for n, text in ((1, "one"), (2, long.replace("\x1b", "\\x1b"))):
                self.assertIn(f"\n{n}: {text}\n/edit {n} TEXT replaces it and drops what came after it\n", err)

    def test_numbers_that_no_message_has(self):
        plain, _ = self.chat(["one", "two", "three"])
        wrong = ["0", "3", "-1", "+1", "x", "1x", "1.", "\x1b", "9" * 30]
        lines = ["/edit", "/edit ", *(f"/edit {n}{text}" for n in wrong for text in ("", " TEXT"))]
        out, err = self.chat(["one", "two", *lines, "three"])
        self.assertEqual(out, plain, "nothing has changed")
        for n in ("", *wrong):
            shown = n.replace("\x1b", "\\x1b")
            line = f"error: /edit: message number, got '{shown}', allowed 1 to 2 (/history lists them)"
            self.assertEqual(err.splitlines().count(line), 2, line)
        out, err = self.chat(["/edit 1 x", "/edit"])
        self.assertEqual((out, err.count("error: /edit: there is no message to change\n")), ("", 2))

    def test_the_text_is_taken_as_it_stands(self):
        for text in ("/clear", "//clear", " two  words ", "2 TEXT"):
            typed = "/" + text if text.startswith("/") else text
            self.assertEqual(self.answers(["one", "two"], [f"/edit 1 {text}"]), self.answers([], [typed]), text)
        self.assertEqual(self.answers(["one", "two"], ["/edit   2 rain"]), self.answers(["one"], ["rain"]))

    def test_an_edit_that_cannot_be_answered_changes_nothing(self):
        small = ("--ctx", "128")
        plain, _ = self.chat(["one", "two", "three"], *small)
        out, err = self.chat(["one", "two", "/edit 1 " + "x " * 400, "/history", "three"], *small)
        self.assertEqual(out, plain)
        self.assertIn("; the conversation is as it was, /clear starts afresh\n1: one\n2: two\n", err)

    def test_a_full_context_can_be_left(self):
        small = ("--ctx", "64")
        out, err = self.chat(["one", "two", "x " * 30, "/edit 2 rain"], *small)
        self.assertEqual(err.count("error: "), 1)
        self.assertTrue(out.endswith(self.answers(["one"], ["rain"], *small)))


class Signals(Cli):
    ENDLESS = ("-n", "8000", *GREEDY, "--ignore-eos", "-v", "-t", "1")

    def start(self, *args, **kw):
        return subprocess.Popen([HEDDLE, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                start_new_session=True, env=environment(), **kw)

    def wait_for(self, stream, text):
        seen = b""
        while text not in seen:
            part = os.read(stream.fileno(), 4096)
            self.assertTrue(part, f"ended after {seen!r}")
            seen += part
        return seen

    def test_interrupted_json_is_whole(self):
        p = self.start("generate", MODEL, "-p", "x", "--json", *self.ENDLESS)
        self.wait_for(p.stderr, b"prompt of")
        os.killpg(p.pid, signal.SIGINT)
        out, err = p.communicate(timeout=TIMEOUT)
        self.assertEqual(p.returncode, 130, err)
        x = json.loads(out)
        self.assertEqual(x["finish_reason"], "cancelled")
        self.assertLess(x["completion_tokens"], 8000)

    # R10: partial output is kept
    def test_interrupted_text_stays(self):
        p = self.start("generate", MODEL, "-p", "x", *self.ENDLESS)
        first = os.read(p.stdout.fileno(), 1)
        os.killpg(p.pid, signal.SIGINT)
        out, _ = p.communicate(timeout=TIMEOUT)
        self.assertEqual(p.returncode, 130)
        self.assertTrue(first and out.endswith(b"\n"))

    def test_interrupted_batch_prints_what_it_began(self):
        path = file("many.jsonl", '{"prompt": "x", "max_tokens": 20}\n' + '{"prompt": "x"}\n' * 30)
        p = self.start("generate", MODEL, "--prompts", path, "--parallel", "2", *self.ENDLESS)
        line = self.wait_for(p.stdout, b"\n")  # unbuffered: communicate() reads on from here
        os.killpg(p.pid, signal.SIGINT)
        out, _ = p.communicate(timeout=TIMEOUT)
        rows = [json.loads(x) for x in (line + out).splitlines()]
        self.assertEqual(p.returncode, 130)
        self.assertEqual([x["index"] for x in rows], list(range(len(rows))))
        self.assertEqual(rows[0]["finish_reason"], "length")
        self.assertEqual(rows[-1]["finish_reason"], "cancelled")
        self.assertLess(len(rows), 31)

    # R10: Ctrl-C twice
    def test_chat_stops_the_answer_then_leaves(self):
        p = self.start("chat", MODEL, *self.ENDLESS)
        p.stdin.write(b"x\n")
        p.stdin.flush()
        os.read(p.stdout.fileno(), 1)
        os.killpg(p.pid, signal.SIGINT)
        self.wait_for(p.stderr, b"reused")  # the answer has ended, the process has not
        self.assertIsNone(p.poll())
        os.killpg(p.pid, signal.SIGINT)
        p.communicate(timeout=TIMEOUT)
        self.assertEqual(p.returncode, 130)

    # R7, R10
    def test_output_that_nobody_takes(self):
        args = [HEDDLE, "generate", MODEL, "-p", "x", "-n", "50", *GREEDY, "--ignore-eos"]
        with open("/dev/full", "wb") as full:
            p = subprocess.run(args, stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT, env=environment())
        self.assertEqual(p.returncode, 1)
        self.assertIn(b"error: cannot write to standard output", p.stderr)
        closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *args], stderr=subprocess.PIPE, timeout=TIMEOUT,
                                env=environment())
        self.assertEqual(closed.returncode, 1)
        self.assertIn(b"error: cannot write to standard output", closed.stderr)
        reader, writer = os.pipe()
        os.close(reader)
        p = subprocess.run(args, stdout=writer, stderr=subprocess.PIPE, timeout=TIMEOUT, env=environment())
        os.close(writer)
        self.assertEqual(p.returncode, 1)
        self.assertIn(b"Broken pipe", p.stderr)

    # R10: the terminal is as it was, and its end is the program's
    def test_a_terminal_is_left_as_it_was_and_may_go(self):
        for goes in (False, True):
            with self.subTest(goes=goes):
                master, slave = os.openpty()
                before = termios.tcgetattr(slave)
                p = subprocess.Popen([HEDDLE, "chat", MODEL, *self.ENDLESS], stdin=slave, stdout=slave, stderr=slave, env=environment(),
                                     start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
                os.write(master, b"x\n")
                seen = b""
                while len(seen) < 200:  # the answer is under way
                    seen += os.read(master, 4096)
                if goes:
                    os.close(slave)
                    os.close(master)
                    self.assertIn(p.wait(TIMEOUT), (1, 130, -signal.SIGHUP))
                    continue
                os.write(master, b"\x03")  # Ctrl-C: the answer ends
                while b"reused" not in seen:
                    seen += os.read(master, 4096)
                os.write(master, b"\x03")
                while p.poll() is None:
                    if select.select([master], [], [], 0.01)[0]:
                        os.read(master, 4096)
                self.assertEqual(p.returncode, 130)
                self.assertEqual(termios.tcgetattr(slave), before)
                os.close(slave)
                os.close(master)

    # R10: a prompt of 2 GB
    def test_a_huge_prompt_is_refused_unread(self):
        path = file("huge.txt", "")
        os.truncate(path, 2 << 30)
        self.addCleanup(os.unlink, path)
        for flag in ("-f", "--prompts"):
            self.assertRefused(["generate", MODEL, flag, path], "huge.txt", "more than 1073741824 bytes")


@NEEDS_DEFAULT
class DefaultModel(Cli):
    def test_paris(self):
        text = good("generate", DEFAULT, "-p", "What is the capital of France?", "-n", 32, *GREEDY)
        self.assertIn("Paris", text)

    def test_inspect_reads_metadata_only(self):
        seconds = []
        for _ in range(3):
            start = time.monotonic()
            x = as_json("inspect", DEFAULT)
            seconds.append(time.monotonic() - start)
        self.assertTrue(134e6 < x["parameters"] < 136e6)
        self.assertEqual((len(x["layers"]), x["context"]), (30, 8192))
        self.assertLess(min(seconds), 3 if os.environ.get("TEST_SANITIZE") else 0.3)

    def test_pull_finds_it(self):
        home = pathlib.Path(DEFAULT).parent
        if pathlib.Path(DEFAULT).name != "SmolLM2-135M-Instruct.Q4_1.gguf" or not os.access(home, os.W_OK):
            self.skipTest("the model is not in a models' home")
        x = as_json("pull", "smollm2-135m", env={"HEDDLE_HOME": str(home)})
        self.assertEqual((x["path"], x["fetched"]), (DEFAULT, False))


if __name__ == "__main__":
    run_with_tiny_models()
