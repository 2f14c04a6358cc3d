"""`heddle inspect --plan`: what fits, and that the engine agrees. HEDDLE names the executable; exit status 77: skipped."""
import itertools
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import Cli, as_json, good, heddle, run_with_tiny_models  # noqa: E402
from default_model import default_model  # noqa: E402

MINIMAX = ROOT / "configs/models/minimax-text-01.json"
DEFAULT = pathlib.Path(default_model())
PARTS = ("weights", "kv", "state", "snapshots", "host_cache", "workspace")
MIB = 1 << 20

FOLDER = None  # of this run


def setUpModule():
    global FOLDER
    FOLDER = tempfile.TemporaryDirectory()


def tearDownModule():
    FOLDER.cleanup()


def tiny(family, kind="safetensors"):
    out = pathlib.Path(FOLDER.name) / family / kind
    if not out.exists():
        subprocess.run([sys.executable, "-B", ROOT / "tools/make_tiny_model.py", "--family", family, "--format", kind,
                        "--seed", "17", "--out", out], check=True, capture_output=True)
    return str(next(out.glob("*.gguf")) if kind == "gguf" else out)


def plan(*args):
    return as_json("inspect", "--plan", *args)


class Plan(Cli):
    def test_parts_add_up(self):
        for model in ([tiny("llama")], [tiny("llama", "gguf")], [tiny("minimax_text_01")], ["--config", MINIMAX]):
            with self.subTest(model=model):
                x = plan(*model, "--ctx", 100, "--seqs", 3)
                self.assertEqual((x["ctx"], x["seqs"], x["kv_dtype"], x["block_tokens"]), (100, 3, "F16", 16))
                self.assertEqual(x["total"], sum(x[part] for part in PARTS))
                self.assertEqual(x["kv"], 304 * x["kv_bytes_per_token"])
                self.assertEqual(x["kv"], sum(group["bytes"] for group in x["kv_groups"]))
                self.assertEqual(x["state"], 3 * x["state_bytes_per_sequence"])
                self.assertEqual(x["workspace"], sum(x["workspace_parts"].values()))
                slots = x["snapshots"] // x["state_bytes_per_sequence"] if x["state"] else 0
                self.assertEqual(x["snapshots"], slots * x["state_bytes_per_sequence"])
                self.assertTrue(4 <= slots <= 32 if x["state"] else slots == 0)
                self.assertGreater(x["available"], 64 * MIB)
                self.assertEqual(x["fits"], x["total"] <= x["available"])

    def test_what_plain_inspect_says_is_the_same_and_adds_up(self):
        for family, flags in itertools.product(("llama", "minimax_text_01"),
                                               ([], ["--host-cache", 3], ["--host-cache", 3, "--snapshot-memory", 2])):
            with self.subTest(family=family, flags=flags):
                model = [tiny(family), "--seqs", 2, *flags]
                x, memory = plan(*model), as_json("inspect", *model)["memory"]
                for key in (*PARTS, "total", "ctx", "seqs"):
                    self.assertEqual(x[key], memory[key], key)
                self.assertEqual(set(memory), {*PARTS, "total", "ctx", "seqs", "kv_dtype"})
                self.assertEqual(memory["total"], sum(memory[part] for part in PARTS))
                self.assertEqual(memory["host_cache"], 3 * MIB if flags else 0)
                total, parts = re.search(r"(?m)^memory +([0-9.]+) MiB for 2 sequences of \d+ tokens: (.*)$",
                                         good("inspect", *model)).groups()
                parts = {name: float(mib) for name, mib in re.findall(r"([A-Za-z ]+) ([0-9.]+) MiB(?:, |$)", parts)}
                self.assertEqual(list(parts), ["weights", "KV", "states", "snapshots", "host cache", "workspace"])
                self.assertAlmostEqual(float(total), sum(parts.values()), delta=0.05 * (len(parts) + 1))

    def test_memory_that_has_room_for_nothing_is_refused(self):
        state = plan("--config", MINIMAX)["state_bytes_per_sequence"]
        mib = -(-state // MIB)
        for more in ([], ["--plan"]):
            self.assertRefused(["inspect", "--config", MINIMAX, *more, "--snapshot-memory", mib - 1], "--snapshot-memory",
                               f"got {mib - 1}.0 MiB ({(mib - 1) * MIB} bytes), allowed: 0, or ", f"({state} bytes) and more",
                               "one snapshot")
            self.assertRefused(["inspect", "--config", MINIMAX, *more, "--host-cache", 2 * mib - 2], "--host-cache",
                               f"({(2 * mib - 2) * MIB} bytes)", f"({2 * state} bytes) and more", "one snapshot")
        self.assertEqual(plan("--config", MINIMAX, "--snapshot-memory", mib)["snapshots"], state)
        self.assertEqual(plan("--config", MINIMAX, "--host-cache", 2 * mib)["host_cache"], 2 * mib * MIB)

    def test_groups(self):
        def groups(family, *args):
            return {g["group"]: g for g in plan(tiny(family), *args)["kv_groups"]}
        self.assertEqual(list(groups("llama")), ["full"])
        self.assertEqual(list(groups("minicpm4")), ["full", "compressed keys"])
        x = groups("gemma3", "--ctx", 512)
        self.assertEqual(list(x), ["full", "windowed"])
        self.assertLess(x["windowed"]["window"], 512)
        for group in x.values():
            self.assertEqual(group["bytes"], 512 * group["bytes_per_token"], "a short context is kept whole")
            self.assertEqual(group["bytes_per_sequence"], 0)
        self.assertEqual(list(groups("llama", "--ctx", 512, "--attention", "sliding:64")), ["windowed"])

    def test_windows_keep_a_ring_of_each_sequence(self):
        """However long the context is; also of each snapshot."""
        model = tiny("gemma3")
        long, short = (plan(model, "--ctx", ctx, "--seqs", 2) for ctx in (8192, 4096))
        of = {g["group"]: g for g in long["kv_groups"]}
        window, ring = of["windowed"]["window"], of["windowed"]["bytes_per_sequence"]
        layer_token = of["full"]["bytes_per_token"] / of["full"]["layers"]
        tokens = ring / of["windowed"]["layers"] / layer_token
        self.assertTrue(window + 510 <= tokens <= window + 640, tokens)
        self.assertEqual(of["windowed"]["bytes_per_token"], 0)
        self.assertEqual(of["windowed"]["bytes"], 2 * ring)
        self.assertEqual(long["window_bytes_per_sequence"], ring)
        self.assertEqual(short["window_bytes_per_sequence"], ring)
        self.assertEqual(long["kv"], 2 * 8192 * long["kv_bytes_per_token"] + 2 * ring)
        self.assertEqual(long["kv"], sum(group["bytes"] for group in long["kv_groups"]))
        self.assertEqual((long["state"], long["snapshots"] % ring), (0, 0))
        self.assertTrue(2 * ring <= long["snapshots"] <= 32 * ring)
        self.assertEqual(long["total"], sum(long[part] for part in PARTS))
        self.assertLess(long["kv"] + long["snapshots"], 2 * 8192 * 7 * layer_token / 2, "half of all tokens' bytes")
        text = good("inspect", model, "--plan", "--ctx", 8192, "--seqs", 2)
        self.assertRegex(text, rf"(?m)^  windowed +{2 * ring} .*  6 layers, window {window}, {ring} bytes a sequence$")
        self.assertIn(f"bytes a token, {ring} a sequence in windows\n", text)
        self.assertIn(f"  {ring} bytes each\n", text)
        self.assertIn(f"KV {ring // 6} bytes\n", good("inspect", model))

    def test_text(self):
        text = good("inspect", tiny("gemma3"), "--plan", "--ctx", 512, "--seqs", 2)
        for part in ("weights", "KV", "  full", "  windowed", "states", "snapshots", "workspace", "total", "available",
                     "largest context", "most sequences"):
            self.assertRegex(text, rf"(?m)^{part} +\d+")
        self.assertIn("2 sequences of 512 tokens, KV in F16", text)
        self.assertIn("all tokens are kept", text)
        self.assertNotIn("activations,", text)

    def test_the_largest_is_exact(self):
        for family in ("llama", "minimax_text_01", "gemma3"):
            with self.subTest(family=family):
                model = tiny(family)
                memory = plan(model, "--ctx", 300, "--seqs", 2)["total"] + 70_000
                x = plan(model, "--ctx", 300, "--seqs", 2, "--memory", memory)
                self.assertTrue(x["fits"])
                self.assertEqual(x["available"], memory)
                self.assertGreaterEqual(x["max_ctx"], 300)
                self.assertGreaterEqual(x["max_seqs"], 2)

                def fits(ctx, seqs):
                    return plan(model, "--ctx", ctx, "--seqs", seqs, "--memory", memory)["fits"]
                self.assertTrue(fits(x["max_ctx"], 2))
                self.assertFalse(fits(x["max_ctx"] + 1, 2))
                self.assertTrue(fits(300, x["max_seqs"]))
                self.assertFalse(fits(300, x["max_seqs"] + 1))

    def test_the_largest_is_exact_where_windows_are_kept(self):
        model = tiny("gemma3")
        for ctx in (2500, 6000):
            memory = plan(model, "--ctx", ctx, "--seqs", 2)["total"] + 70_000
            x = plan(model, "--ctx", ctx, "--seqs", 2, "--memory", memory)
            self.assertTrue(ctx <= x["max_ctx"] < 8192 and x["max_seqs"] >= 2, x)
            for more, fits in ((0, True), (1, False)):
                self.assertEqual(plan(model, "--ctx", x["max_ctx"] + more, "--seqs", 2, "--memory", memory)["fits"], fits)
                self.assertEqual(plan(model, "--ctx", ctx, "--seqs", x["max_seqs"] + more, "--memory", memory)["fits"], fits)

    def test_weights_alone_that_do_not_fit(self):
        x = plan("--config", MINIMAX, "--ctx", 4096, "--memory", 80 * 10**9)
        self.assertEqual((x["fits"], x["max_ctx"], x["max_seqs"]), (False, 0, 0))
        self.assertIn("does not fit", good("inspect", "--plan", "--config", MINIMAX, "--memory", 1), "and exit code 0")

    def test_the_engine_admits_what_the_plan_says_fits(self):
        """--memory-limit counts in MiB: the plan's total rounded up is taken, one MiB less is not."""
        for family in ("llama", "gemma3"):
            model = tiny(family)
            run = ["generate", model, "-p", "x", "-n", 1, "--ctx", 8000, "-t", 2]
            x = plan(model, "--ctx", 8000)
            limit = -(-x["total"] // MIB)
            rc, _, err = heddle(*run, "--memory-limit", limit)
            self.assertEqual(rc, 0, err)
            self.assertRefused([*run, "--memory-limit", limit - 1], "the memory limit allows", "--ctx", code=3)

    def test_flags_that_size_a_run_change_its_plan(self):
        model = tiny("llama")
        token = plan(model)["kv_bytes_per_token"]
        for flags, kv_tokens in ((["--kv-tokens", 3000], 3000), (["--verify-cache", 0.5], 16000), (["--no-prefix-cache"], 8000),
                                 (["--threads", 16], 8000), (["--kv-tokens", 100_000, "--verify-cache", 1], 100_000)):
            with self.subTest(flags=flags):
                x = plan(model, "--ctx", 8000, *flags)
                self.assertEqual(x["kv_tokens"], kv_tokens)
                self.assertEqual(x["kv"], -(-kv_tokens // 16) * 16 * token)
                run = ["generate", model, "-p", "x", "-n", 1, "--ctx", 8000, "-t", 2, *flags]
                if "--threads" not in flags:
                    x = plan(model, "--ctx", 8000, "-t", 2, *flags)
                limit = -(-x["total"] // MIB)
                rc, _, err = heddle(*run, "--memory-limit", limit)
                self.assertEqual(rc, 0, err)
                self.assertRefused([*run, "--memory-limit", limit - 1], "the memory limit allows", code=3)
        hybrid = tiny("minimax_text_01")
        self.assertGreater(plan(hybrid)["snapshots"], 0)
        self.assertEqual(plan(hybrid, "--no-prefix-cache")["snapshots"], 0)
        few, many = (plan(model, "-t", n)["workspace_parts"]["kernels"] for n in (1, 16))
        self.assertLess(few, many)
        self.assertIn("KV ", good("inspect", model, "--plan", "--kv-tokens", 3000))
        self.assertIn(" 3000 tokens, ", good("inspect", model, "--plan", "--kv-tokens", 3000))
        memory = as_json("inspect", model, "--kv-tokens", 3008)["memory"]
        self.assertEqual(memory["kv"], 3008 * token, "without --plan, too")

    def test_whole_numbers_have_no_fraction(self):
        for group in plan(tiny("gemma3"), "--ctx", 8192)["kv_groups"] + plan(tiny("llama"))["kv_groups"]:
            self.assertIsInstance(group["bytes_per_token"], int)

    def test_snapshot_memory_of_a_model_without_states_is_said_to_be_unused(self):
        flag, words = ("--snapshot-memory", 5), "--snapshot-memory is not used"
        for family, unused in (("llama", True), ("minimax_text_01", False)):
            self.assertEqual(words in good("inspect", tiny(family), "--plan", *flag), unused)
            self.assertEqual(words in heddle("generate", tiny(family), "-p", "x", "-n", 1, "-v", *flag)[2], unused)

    def test_start_prints_it(self):
        rc, _, err = heddle("generate", tiny("gemma3"), "-p", "x", "-n", 1, "-v")
        self.assertEqual(rc, 0)
        for part in ("weights ", "KV cache ", ": full ", "windowed ", "workspace "):
            self.assertIn(part, err)

    @unittest.skipUnless(DEFAULT.exists(), "the default model is not there")
    def test_default_model(self):
        x = plan(DEFAULT, "--seqs", 4, "--memory", 10**9)
        self.assertEqual(x["kv"], 4 * 8192 * 23040)
        self.assertLess(abs(x["weights"] / DEFAULT.stat().st_size - 1), 0.05)
        self.assertEqual(x["fits"], x["max_seqs"] >= 4)

    def test_refusals(self):
        model = tiny("llama")
        self.assertRefused(["inspect", model, "--memory", 5], "inspect: --memory needs --plan")
        self.assertRefused(["inspect", model, "--plan", "--memory", "4G"], "--memory: '4G' is not valid; allowed: a whole number from 0")
        self.assertRefused(["inspect", model, "--plan", "--memory", -1], "--memory: '-1' is not valid")
        self.assertRefused(["inspect", model, "--plan", "--ctx", 8193], "context of 8193 tokens: the checkpoint allows 1 .. 8192")
        self.assertRefused(["inspect", model, "--plan", "--seqs", 0], "--seqs: '0' is not valid")
        self.assertRefused(["inspect", "--config", MINIMAX, "--plan", "--ctx", 10_000_000, "--seqs", 300],
                           "--ctx 10000000 and --seqs 300: got 3000000000 tokens together, allowed: 1 .. 2147483584")
        self.assertRefused(["inspect", "/no/such/model", "--plan"], "/no/such/model")
        self.assertRefused(["inspect", model, "--plan", "--kv-tokens", 3 * 10**9], "kv_tokens is 3000000000, allowed: 1 .. 2147483584")
        for flag in ("--verify-cache", "--snapshot-memory", "--host-cache"):
            self.assertRefused(["inspect", model, "--plan", "--no-prefix-cache", flag, 1], flag + " needs the prefix cache")
        self.assertRefused(["generate", model, "-p", "x", "--plan"], "--plan")


if __name__ == "__main__":
    run_with_tiny_models()
