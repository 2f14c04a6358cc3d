"""Hybrids on the command line: what `inspect` says of them, shapes without weights, --attention. HEDDLE names the
executable; exit status 77: skipped."""
import json
import math
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
from command_line import Cli, as_json, good, run_with_tiny_models  # noqa: E402

CONFIGS = sorted(p for p in (ROOT / "configs/models").glob("*.json") if p.name != "registry.json")
MINIMAX = ROOT / "configs/models/minimax-text-01.json"
CONTEXT = 288  # of a window that is scored
STATE_TOKENS = 16  # the tail of a state

FOLDER = None  # of this run
LLAMA = TEXT = ""


def setUpModule():
    global FOLDER, LLAMA, TEXT
    FOLDER = tempfile.TemporaryDirectory()
    LLAMA = tiny("llama")
    TEXT = file("text.txt", " ".join(f"word{i} and pear" for i in range(50)))


def tearDownModule():
    FOLDER.cleanup()


def tiny(family):
    out = pathlib.Path(FOLDER.name) / family
    if not out.exists():
        subprocess.run([sys.executable, "-B", ROOT / "tools/make_tiny_model.py", "--family", family, "--format",
                        "safetensors", "--seed", "17", "--out", out], check=True, capture_output=True)
    return str(out)


def file(name, content):
    path = pathlib.Path(FOLDER.name) / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def expand(entries):
    """"layers" of the native format with its repetitions written out."""
    for entry in entries:
        for _ in range(entry.get("repeat", 1)):
            yield from expand(entry["layers"]) if "layers" in entry else [entry]


def small_shape():
    """Three layers of linear attention and experts, one of PowerAttention."""
    linear = {"kind": "linear", "heads": 4, "head_dim": 16, "slope_rule": "alibi_by_layer"}
    power = {"kind": "softmax", "heads": 4, "kv_heads": 2, "head_dim": 16, "sparse": {"kind": "power", "block": 16}}
    experts = {"kind": "moe", "experts": 4, "top_k": 2, "intermediate": 32}
    return {"model_type": "heddle", "format": 1, "name": "small", "vocab_size": 64, "hidden_size": 64, "context": 4096,
            "layers": [{"repeat": 3, "mixers": [linear], "ffn": experts},
                       {"mixers": [power], "ffn": {"kind": "dense", "intermediate": 128}}]}


class Inspect(Cli):
    def test_layers_of_a_hybrid(self):
        x = as_json("inspect", tiny("minimax_text_01"))
        self.assertEqual(x["layer_map"], "LLSL")
        width, kv_width = 4 * 32, 2 * 32
        state = 4 * (width * 32 + STATE_TOKENS * 2 * width)
        costs = [(layer["kv_bytes_per_token"], layer["state_bytes"]) for layer in x["layers"]]
        self.assertEqual(costs, [(0, state), (0, state), (2 * 2 * kv_width, 0), (0, state)])
        self.assertEqual((x["kv_bytes_per_token"], x["state_bytes"]), (2 * 2 * kv_width, 3 * state))
        self.assertEqual(x["memory"]["state"], 3 * state)
        for layer in x["layers"]:
            self.assertIn("of 8 experts", layer["ffn"])
        wide = as_json("inspect", tiny("minimax_text_01"), "--kv-dtype", "f32", "--seqs", 3)
        self.assertEqual((wide["kv_bytes_per_token"], wide["memory"]["state"]), (4 * 2 * kv_width, 9 * state))

    def test_layers_of_a_hybrid_as_text(self):
        text = good("inspect", tiny("minimax_text_01"))
        self.assertIn("layer map       LLSL\n"
                      "              L linear (lightning) attention\n"
                      "              S softmax attention\n", text)
        self.assertRegex(text, r"layer 0 +linear attention.*; state 32768 bytes\n")
        self.assertRegex(text, r"layer 2 +softmax attention.*; KV 256 bytes a token\n")

    def test_every_kind_has_a_letter_and_a_meaning(self):
        x = as_json("inspect", tiny("heddle"))
        self.assertEqual(x["layer_map"].count("("), 1, "one layer of two mixers")
        letters = set(x["layer_map"]) - set("()")
        self.assertLessEqual(set("LSWHTDI"), letters)
        legend = [line.split(maxsplit=1) for line in good("inspect", tiny("heddle")).splitlines() if line.startswith(" " * 14)]
        self.assertEqual({letter for letter, _ in legend}, letters)
        self.assertEqual(len({meaning for _, meaning in legend}), len(letters))
        self.assertEqual(len(x["layers"]), 20)

    def test_the_mode_is_seen(self):
        def seen(mode):
            return as_json("inspect", LLAMA, "--attention", mode)["layer_map"]
        self.assertEqual([seen(m) for m in ("dense", "sliding:16", "streaming:4,16", "strided:16,4", "dilated:16,2",
                                            "power:16", "infllm:16,2", "power:16@0;sliding:8@1", "sliding:8@1")],
                         ["SS", "WW", "AA", "TT", "DD", "PP", "II", "PW", "SW"])
        x = as_json("inspect", tiny("gpt_oss"), "--attention", "power:64")
        self.assertEqual(x["layer_map"], "WPW", "layers with a pattern of their own keep it")
        self.assertRefused(["inspect", tiny("minicpm_sala"), "--attention", "power:64"],
                           "--attention: 'power:64': got a model without softmax attention over all keys, allowed ")


class Shapes(Cli):
    def test_minimax_has_its_published_size(self):
        x = as_json("inspect", "--config", MINIMAX)
        self.assertEqual(x["parameters"], 456_089_655_296)
        self.assertEqual(x["layer_map"], 10 * "LLLLLLLS")
        linear, width = 70, 64 * 128
        self.assertEqual(linear * 4 * width * 128, 293_601_280)
        self.assertEqual(x["state_bytes"], linear * 4 * (width * 128 + STATE_TOKENS * 2 * width))
        self.assertEqual(x["kv_bytes_per_token"], 40_960)
        self.assertEqual((x["model"], x["family"], x["file_bytes"]), (str(MINIMAX), "heddle", 0))

    def test_every_published_shape(self):
        self.assertGreaterEqual(len(CONFIGS), 8)
        for path in CONFIGS:
            with self.subTest(path.name):
                config, x = json.loads(path.read_text()), as_json("inspect", "--config", path)
                layers = list(expand(config["layers"]))
                self.assertEqual((x["name"], len(x["layers"]), x["context"]), (config["name"], len(layers), config["context"]))
                self.assertEqual(x["parameters"], sum(math.prod(t["shape"]) for t in x["tensors"]))
                for layer, cost in zip(layers, x["layers"]):
                    (mixer,) = layer["mixers"]
                    kv = 2 * 2 * mixer.get("kv_heads", mixer["heads"]) * mixer["head_dim"]
                    if mixer["kind"] == "linear":
                        kv = 0
                        key_dim = mixer["head_dim"] * (2 if mixer.get("lrpe") else 1)
                        floats = mixer["heads"] * (mixer["head_dim"] * key_dim + STATE_TOKENS * (key_dim + mixer["head_dim"]))
                        self.assertEqual(cost["state_bytes"], 4 * floats)
                    elif mixer.get("sparse", {}).get("kind") == "infllm":
                        self.assertTrue(kv < cost["kv_bytes_per_token"] < 1.25 * kv, "compressed keys too")
                        continue
                    elif mixer.get("window"):
                        window = mixer["window"] + 640
                        self.assertGreaterEqual(x["context"], 3 * window)
                        self.assertTrue((window - 130) * kv < cost["window_bytes"] <= window * kv)
                        kv = 0
                    self.assertEqual(cost["kv_bytes_per_token"], kv)
                self.assertEqual(x["kv_bytes_per_token"], sum(c["kv_bytes_per_token"] for c in x["layers"]))
                self.assertEqual(x["window_bytes"], sum(c["window_bytes"] for c in x["layers"]))
                self.assertEqual(x["state_bytes"], sum(c["state_bytes"] for c in x["layers"]))

    def test_a_shape_runs_with_random_weights(self):
        shape = file("small.json", small_shape())
        self.assertEqual(as_json("inspect", "--config", shape)["layer_map"], "LLLP")
        for layers in ((), ("--layers", 1)):
            rows = as_json("bench", "--config", shape, "--random-weights", *layers, "-p", 8, "-n", 4, "-r", 1, "-t", 1)
            self.assertEqual([row["test"] for row in rows], ["pp8", "tg4"])
            for row in rows:
                self.assertGreater(row["tok_s"], 0)

    def test_shapes_where_they_cannot_be(self):
        shape = file("small.json", small_shape())
        self.assertRefused(["bench", "--config", shape], "bench: a model's --config needs --random-weights")
        self.assertRefused(["bench", LLAMA, "--random-weights"],
                           "bench: --random-weights needs a model's --config, in place of MODEL")
        self.assertRefused(["bench", LLAMA, "--layers", 1], "bench: --layers needs a model's --config")
        self.assertRefused(["bench", "--config", shape, "--random-weights", "--layers", 0], "--layers: '0' is not valid; allowed")
        for command in (["generate", LLAMA, "-p", "x"], ["score", LLAMA, "-f", TEXT], ["selftest", LLAMA], ["chat", LLAMA]):
            self.assertRefused([*command, "--config", shape],
                               f"{shape}: model_type: {command[0]} has no use for a model's config; inspect and bench have")
        for command in (["inspect", LLAMA], ["bench", LLAMA, "--random-weights"]):
            self.assertRefused([*command, "--config", shape], f"MODEL '{LLAMA}' and the model of --config exclude each other")
        self.assertRefused(["bench", "--kernels", "--config", shape], "bench: --kernels and the model of --config exclude each other")
        self.assertRefused(["inspect", "--config", file("llama.json", {"model_type": "llama"})],
                           "llama.json: config: model_type, got 'llama', allowed 'heddle'")
        bad = small_shape()
        bad["layers"][1]["mixers"][0]["window"] = 0
        self.assertRefused(["inspect", "--config", file("bad.json", bad)],
                           "bad.json: config: layers[1].mixers[0].window, got 0, allowed 1 to ")

    def test_score_tells_the_load_of_heads(self):
        load = as_json("score", tiny("moh_llama3"), "-f", TEXT, "--ctx", CONTEXT)["head_load"]
        self.assertEqual(sorted(load), ["0", "1"])
        for shares in load.values():
            half = len(shares) // 2
            self.assertEqual(shares[:half], [1.0] * half)  # the shared ones
            self.assertAlmostEqual(sum(shares[half:]), half / 2)
            self.assertTrue(all(0 <= s <= 1 for s in shares))
        self.assertNotIn("head_load", as_json("score", LLAMA, "-f", TEXT, "--ctx", CONTEXT))

    def test_an_edited_chat_is_the_same_typed_afresh(self):
        def chat(model, *lines):
            return good("chat", tiny(model), "--temp", 0, "--ignore-eos", "-n", 24, stdin="\n".join(lines).encode())
        one, two = "the weaver counts threads by the river", "and then the loom was quiet again"
        for model in ("minimax_text_01", "minicpm_sala", "gemma3", "heddle"):
            before, afresh = chat(model, one, two), chat(model, one, "rain", "at last")
            self.assertEqual(chat(model, one, two, "/edit 2 rain", "at last"), before + afresh[len(chat(model, one)):], model)
            self.assertEqual(chat(model, one, two, "/edit 1 rain", "at last"), before + chat(model, "rain", "at last"), model)

    def test_a_hybrid_passes_its_selftest(self):
        for model in (tiny("minimax_text_01"), tiny("minicpm_sala")):
            x = as_json("selftest", model, "--quick")
            self.assertTrue(x["ok"])
            self.assertGreaterEqual(len(x["rows"]), 12)
            self.assertEqual([row["name"] for row in x["rows"] if not row["ok"]], [])


class Attention(Cli):
    """Modes on a tiny llama, over windows of CONTEXT tokens: 18 blocks of 16."""

    seen = {}

    def scores(self, *args, **kw):
        """(nll, the log probability of every token as it is printed)"""
        log = pathlib.Path(FOLDER.name) / "logprobs.jsonl"
        x = as_json("score", LLAMA, "-f", TEXT, "--ctx", CONTEXT, "--logprobs", log, *args, **kw)
        self.assertGreater(x["tokens"], CONTEXT)
        return x["nll"], log.read_text()

    def mode(self, mode):
        if mode not in self.seen:
            self.seen[mode] = self.scores("--attention", mode)
        return self.seen[mode]

    def test_what_leaves_no_key_out_is_dense_bit_for_bit(self):
        plain = self.scores()
        for mode in ("dense", "dense@0-1", f"sliding:{CONTEXT}", "sliding:1073741824", f"streaming:0,{CONTEXT}",
                     f"streaming:{CONTEXT},1", "power:512", "power:16,18", "strided:512,7", "strided:16,1", "dilated:512,3",
                     "dilated:32,1", "infllm:512,1", "infllm:16,13", f"sliding:{CONTEXT}@0;power:16,18@1"):
            self.assertEqual(self.mode(mode), plain, mode)

    def test_what_leaves_keys_out_is_not(self):
        modes = ("dense", f"sliding:{CONTEXT - 8}", "sliding:16", "streaming:4,16", "strided:16,4", "dilated:16,2", "power:16",
                 "power:16,2", "infllm:16,1", "sliding:16@0", "sliding:16@1", "sliding:16@0;power:16@1")
        self.assertEqual(len({self.mode(mode) for mode in modes}), len(modes), "each gives scores of its own")

    def test_layers(self):
        every = self.mode("sliding:16")
        for same in ("sliding:16@0,1", "sliding:16@0-1", "sliding:16@0;sliding:16@1", "sliding:16@1;sliding:16@0"):
            self.assertEqual(self.mode(same), every, same)
        self.assertEqual(self.mode("sliding:16@0"), self.mode("sliding:16@0;dense@1"))

    def test_it_does_not_depend_on_chunks_and_blocks(self):
        for mode in ("power:16", "infllm:16,1", "streaming:4,16"):
            for more in (("--max-step-tokens", 7), ("--block-tokens", 64), ("-t", 1)):
                self.assertEqual(self.scores("--attention", mode, *more), self.mode(mode), (mode, more))

    def test_environment_and_settings_file(self):
        want, other = self.mode("sliding:16"), self.mode("power:16")
        settings = file("settings.json", {"attention": "sliding:16"})
        self.assertEqual(self.scores(env={"HEDDLE_ATTENTION": "sliding:16"}), want)
        self.assertEqual(self.scores("--config", settings), want)
        self.assertEqual(self.scores("--config", settings, env={"HEDDLE_ATTENTION": "power:16"}), other)
        self.assertEqual(self.scores("--attention", "power:16", env={"HEDDLE_ATTENTION": "sliding:16"}), other)
        self.assertRefused(["score", LLAMA, "-f", TEXT], "--attention: 'sliding:0': got W '0'",
                           env={"HEDDLE_ATTENTION": "sliding:0"})
        self.assertRefused(["score", LLAMA, "-f", TEXT, "--config", file("wrong.json", {"attention": "cubist:3"})],
                           "--attention: 'cubist:3': got 'cubist', allowed dense, sliding:W, ")

    def test_refusals(self):
        for mode, *parts in (
                ("cubist:3", "got 'cubist', allowed dense, sliding:W, streaming:SINK,W, "),
                ("sliding:0", "got W '0', allowed 1 to 1073741824"),
                ("sliding", "got 0 numbers, allowed dense, "),
                ("sliding:4,4", "got 2 numbers, allowed dense, "),
                ("streaming:-1,4", "got SINK '-1', allowed 0 to "),
                ("strided:16,0", "got STRIDE '0', allowed 1 to "),
                ("dilated:16,x", "got RATE 'x', allowed 1 to "),
                ("power:40", "got BLOCK '40', allowed multiples of 16 from 16 to 65536"),
                ("power:16,0", "got LOCAL '0', allowed 1 to "),
                ("infllm:48,4", "got BLOCK '48', allowed powers of two from 16"),
                ("infllm:64,0", "got TOPK '0', allowed 1 to "),
                ("sliding:8@2", "got layer 2, allowed 0 to 1"),
                ("sliding:8@1-0", "got layers '1-0', allowed numbers and A-B from 0 on"),
                ("sliding:8@", "got layers '', allowed numbers and A-B from 0 on")):
            with self.subTest(mode):
                self.assertRefused(["generate", LLAMA, "-p", "x", "--attention", mode], f"--attention: '{mode}': ", *parts)

    def test_a_wrong_mode_is_told_before_the_model_is_opened(self):
        self.assertRefused(["generate", file("no.gguf", "no model"), "-p", "x", "--attention", "sliding:0"], "--attention: ")

    def test_generated_text_follows_the_mode(self):
        prompt = ("generate", LLAMA, "-p", "the pattern grows " * 30, "--raw", "-n", 16, "--temp", 0, "--ignore-eos")
        dense = as_json(*prompt)["tokens"]
        self.assertEqual(as_json(*prompt, "--attention", "strided:16,1")["tokens"], dense)
        self.assertNotEqual(as_json(*prompt, "--attention", "sliding:1")["tokens"], dense)


if __name__ == "__main__":
    run_with_tiny_models()
