"""tests/support/hybrid_oracle.py against cases computed by hand and against the stored goldens; the tiny checkpoints of
tools/make_tiny_model.py that it reads are the same each time and hold the same weights in both formats."""
import base64
import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "tools")]
import hybrid_oracle  # noqa: E402
import llama_oracle  # noqa: E402
import make_tiny_model  # noqa: E402
import native_forms  # noqa: E402
import native_oracle  # noqa: E402
import oracle_formulas  # noqa: E402
import tiny_hybrids  # noqa: E402
import tiny_moe  # noqa: E402
import tiny_native  # noqa: E402

FAMILIES = {**tiny_moe.FAMILIES, **tiny_hybrids.FAMILIES, **tiny_native.FAMILIES}
GOLDENS = sorted((ROOT / "tests/models/golden/logits").glob("*.json"))


def make(folder, form, arguments):
    argv = ["make_tiny_model.py", "--format", form, "--out", str(folder), *arguments]
    with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(io.StringIO()):
        make_tiny_model.main()


def stored(folder):
    """(config, tensors) of a folder, tensors as they are stored."""
    folder = pathlib.Path(folder)
    raw = (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    infos = json.loads(raw[8:start])
    del infos["__metadata__"]
    tensors = {name: np.frombuffer(raw[start:], {"F32": "<f4", "U8": "u1"}[info["dtype"]], int(np.prod(info["shape"])),
                                   info["data_offsets"][0]).reshape(info["shape"]) for name, info in infos.items()}
    return json.loads((folder / "config.json").read_text()), tensors


class Watched:
    """Tensors that remember which were read."""

    def __init__(self, tensors):
        self.tensors, self.read = tensors, set()

    def __getitem__(self, name):
        self.read.add(name)
        return self.tensors[name]


def contents(folder):
    return {p.name: p.read_bytes() for p in pathlib.Path(folder).iterdir()}


class Formulas(unittest.TestCase):
    def test_the_recurrence_decays_before_it_adds_and_reads_after(self):
        ones = np.ones((4, 1, 1))
        got = oracle_formulas.recurrence(ones, ones, ones, [np.log(2)], 1.0)
        np.testing.assert_allclose(got.ravel(), [1, 1.5, 1.75, 1.875], rtol=1e-15)

    def test_the_recurrence_is_the_decayed_sum_over_all_pairs(self):
        r = np.random.default_rng(1)
        q, k, v = (r.normal(size=(30, 2, d)) for d in (4, 4, 3))
        slope = np.array([0.9, 1e-3])
        t = np.arange(30)
        decay = np.where(t[:, None] >= t, np.exp(-slope[:, None, None] * (t[:, None] - t)), 0)
        want = 0.5 * np.einsum("htj,thd,jhd,jhe->the", decay, q, k, v)
        np.testing.assert_allclose(oracle_formulas.recurrence(q, k, v, slope, 0.5), want, rtol=1e-12, atol=1e-12)

    def test_slopes_of_64_and_40_heads(self):
        np.testing.assert_allclose(oracle_formulas.slopes(64)[[0, 1, 63]], [0.917, 0.841, 0.00390625], atol=5e-4)
        s = oracle_formulas.slopes(40)
        np.testing.assert_allclose(s[31], 0.00390625)
        np.testing.assert_allclose(s[32:], [0.917, 0.771, 0.648, 0.545, 0.4585, 0.3856, 0.3242, 0.2726], atol=5e-4)
        self.assertAlmostEqual(oracle_formulas.layer_slopes(4, 3, 4)[0], 0.25 * 1e-5)

    def test_groups_of_a_norm_are_normalised_apart(self):
        got = oracle_formulas.rms(np.array([[3.0, 3.0, 0.5, 0.5]]), np.array([1.0, 2.0, 1.0, 2.0]), 0.0, groups=2)
        np.testing.assert_allclose(got, [[1, 2, 1, 2]])

    def test_a_sink_takes_its_share_and_gives_nothing(self):
        q, v = np.zeros((2, 1, 1)), np.array([[[4.0]], [[8.0]]])
        got = oracle_formulas.attention(q, q, v, oracle_formulas.causal(2), sinks=[0.0])
        np.testing.assert_allclose(got.ravel(), [2, 4])

    def test_blocks_are_chosen_beside_the_first_and_the_local_ones(self):
        c = {"kernel_size": 2, "kernel_stride": 1, "init_blocks": 1, "block_size": 4, "window_size": 4, "topk": 2,
             "dense_len": 0}
        k = np.zeros((28, 1, 1))
        k[9] = 3.0  # the only key that the query likes: in block 2, in windows 8 and 9
        chosen = lambda t, **more: hybrid_oracle.infllm_blocks(np.ones((28, 1, 1)), k, t, 0, {**c, **more}, {})
        # Three beside the window's one block: the first, the own and its neighbour are forced, block 2 is best.
        self.assertEqual(chosen(27, topk=3), [0, 2, 5, 6])
        self.assertEqual(chosen(27), [0, 5, 6])
        # Block 1 sees window 7 at most, and ties with all others: the lowest index wins.
        self.assertEqual(chosen(27, topk=4), [0, 1, 2, 5, 6])
        self.assertEqual(chosen(6, topk=4), [0, 1])
        # A key at a border is in a window of both blocks.
        k[:] = 0
        k[8] = 3.0
        self.assertEqual(chosen(27, topk=4), [0, 1, 2, 5, 6])

    def test_queries_below_the_threshold_are_dense(self):
        c = {"kernel_size": 2, "kernel_stride": 1, "init_blocks": 1, "block_size": 2, "window_size": 2, "topk": 2,
             "dense_len": 9}
        x = np.ones((12, 1, 1))
        seen = hybrid_oracle.infllm_visible(x, x, c, {})[0].sum(-1)
        self.assertEqual(seen.tolist(), [1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 5, 6])

    def test_margins_and_ties_of_choices_are_recorded(self):
        margins = {}
        self.assertEqual(oracle_formulas.best(np.array([1.0, 3.0, 2.0]), 1, margins, "x").tolist(), [1])
        self.assertEqual(oracle_formulas.best(np.array([1.0, 1.0, 0.5]), 1, margins, "x").tolist(), [0])
        self.assertEqual(margins, {"x": 1.0, "tied x": 1})


class Goldens(unittest.TestCase):
    def test_the_oracle_gives_the_stored_logits(self):
        seen = set()
        for path in GOLDENS:
            golden = json.loads(path.read_text())
            family = golden["make"][golden["make"].index("--family") + 1]
            if family not in FAMILIES:
                continue
            seen.add(family)
            want = np.frombuffer(base64.b64decode(golden["logits_f32_base64"]), "<f4")
            want = want.reshape(-1, golden["vocab"])
            # Every row depends on earlier tokens only: fewer are enough, but for blocks to choose.
            n = 150 if family.startswith(("minicpm", "heddle")) else 66
            rows = [i for i, p in enumerate(golden["positions"]) if p < n]
            with self.subTest(case=golden["case"]), tempfile.TemporaryDirectory() as folder:
                make(folder, "safetensors", golden["make"])
                got = hybrid_oracle.load(folder).logits(golden["ids"][:n])[[golden["positions"][i] for i in rows]]
                bound = 1e-6 if "oracle" in golden["reference"] else 5e-6
                self.assertLess(np.abs(got - want[rows]).max() / np.abs(want).max(), bound)
        self.assertEqual(seen, set(FAMILIES))


class NativeFormat(unittest.TestCase):
    def test_other_families_described_in_it_give_their_own_logits(self):
        for family in native_forms.FORMS:
            with self.subTest(family=family), tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
                make(a, "safetensors", ["--family", family, "--seed", "5"])
                config, tensors = native_forms.native_form(family, *stored(a))
                make_tiny_model.write_safetensors(pathlib.Path(b) / "model.safetensors", tensors, "F32")
                make_tiny_model.write_json(pathlib.Path(b) / "config.json", config)
                ids = [3 + 7 * t * t % 300 for t in range(150 if family == "minicpm_sala" else 70)]
                own, native = hybrid_oracle.load(a), hybrid_oracle.load(b)
                native.t = Watched(native.t)
                want = own.logits(ids)
                np.testing.assert_allclose(native.logits(ids), want, rtol=0, atol=1e-9 * np.abs(want).max())
                self.assertEqual(native.t.read, set(tensors))

    def test_the_tiny_model_has_a_place_for_each_of_its_tensors(self):
        with tempfile.TemporaryDirectory() as folder:
            make(folder, "safetensors", ["--family", "heddle"])
            oracle = hybrid_oracle.load(folder)
            oracle.t = Watched(oracle.t)
            oracle.logits(range(3, 103))
            self.assertEqual(oracle.t.read, set(stored(folder)[1]))

    def test_a_window_may_keep_the_first_keys(self):
        seen = native_oracle.visible_keys(np.zeros((7, 1, 2)), None, {"window": 2, "first_keys": 1}, 1.0, {})
        self.assertEqual([np.flatnonzero(row).tolist() for row in seen], [
            [0], [0, 1], [0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 5], [0, 5, 6]])

    def test_patterns_of_blocks(self):
        blocks = lambda own, **c: native_oracle.pattern_blocks(c, own)
        self.assertEqual(blocks(20, kind="power", local=3), [0, 4, 12, 16, 18, 19, 20])
        self.assertEqual(blocks(13, kind="strided", step=5), [0, 3, 8, 10, 11, 12, 13])
        self.assertEqual(blocks(40, kind="dilated", step=2), [0, *range(10, 41, 2)])

    def test_shared_heads_count_by_their_number_and_routed_ones_by_theirs(self):
        oracle = native_oracle.Native.__new__(native_oracle.Native)
        oracle.margins = {}
        oracle.t = {"head_stages.weight": np.array([[np.log(3)], [0]]),
                    "shared_heads.weight": np.array([[np.log(4)], [0]]),
                    "routed_heads.weight": np.log([[5.0], [2.0], [3.0]])}
        gates = oracle.head_gates("", {"heads": 5, "head_router": {"shared": 2, "top_k": 2}}, np.ones((1, 1)), None)
        # Stages 1.5 and 0.5; shares of the shared ones 0.8 and 0.2, of the chosen ones 5/8 and 3/8.
        np.testing.assert_allclose(gates, [[2.4, 0.6, 0.625, 0, 0.375]])


class Checkpoints(unittest.TestCase):
    def test_the_same_arguments_give_the_same_bytes(self):
        for family, kind in FAMILIES.items():
            for form in ("safetensors", "gguf") if kind.gguf else ("safetensors",):
                with self.subTest(family=family, form=form), tempfile.TemporaryDirectory() as a, \
                        tempfile.TemporaryDirectory() as b, tempfile.TemporaryDirectory() as c:
                    make(a, form, ["--family", family, "--seed", "5"])
                    make(b, form, ["--family", family, "--seed", "5"])
                    make(c, form, ["--family", family, "--seed", "6"])
                    self.assertEqual(contents(a), contents(b))
                    self.assertNotEqual(contents(a), contents(c))

    def test_both_formats_hold_the_same_experts(self):
        for family, block, down in (("mixtral", "block_sparse_moe", "w2"), ("qwen3_moe", "mlp", "down_proj")):
            with self.subTest(family=family), tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
                make(a, "safetensors", ["--family", family])
                make(b, "gguf", ["--family", family])
                tensors = hybrid_oracle.Tensors(a)
                stacked = llama_oracle.Gguf(next(pathlib.Path(b).glob("*.gguf"))).tensor("blk.1.ffn_down_exps.weight")
                for e, expert in enumerate(stacked):
                    np.testing.assert_array_equal(expert, tensors[f"model.layers.1.{block}.experts.{e}.{down}.weight"])

    def test_both_formats_hold_the_same_mxfp4_values(self):
        with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
            make(a, "safetensors", ["--family", "gpt_oss"])
            make(b, "gguf", ["--family", "gpt_oss"])
            values = hybrid_oracle.load(a).mxfp4("model.layers.2.mlp.experts.gate_up_proj")
            file = llama_oracle.Gguf(next(pathlib.Path(b).glob("*.gguf")))
            np.testing.assert_array_equal(file.tensor("blk.2.ffn_gate_exps.weight"), values[:, 0::2])
            np.testing.assert_array_equal(file.tensor("blk.2.ffn_up_exps.weight"), values[:, 1::2])
            np.testing.assert_array_equal(file.tensor("blk.2.ffn_gate_exps.bias"), hybrid_oracle.Tensors(a)[
                "model.layers.2.mlp.experts.gate_up_proj_bias"][:, 0::2])

    def test_what_has_no_gguf_form_is_refused(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()) as err:
            with self.assertRaises(SystemExit):
                make(folder, "gguf", ["--family", "transnormer"])
        self.assertIn("no GGUF form of transnormer", err.getvalue())


if __name__ == "__main__":
    unittest.main()
