"""tools/gguf_types.py and tests/support/dequantise.py against each other and against the `gguf` package."""
import pathlib
import sys
import unittest

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "tools")]
from dequantise import TYPES, dequantise  # noqa: E402
from gguf_types import ENCODERS, block_elements, encode  # noqa: E402

try:
    import gguf
except ImportError:
    gguf = None

# Largest error in parts of the largest magnitude of a block, for the simple encoders of normal numbers.
LARGEST_ERROR = {"F32": 0, "F16": 5e-4, "BF16": 4e-3, "Q8_0": 5e-3, "Q6_K": 0.07, "Q5_0": 0.07, "Q5_1": 0.04,
                 "Q5_K": 0.06, "Q4_0": 0.13, "Q4_1": 0.08, "Q4_K": 0.1, "IQ4_NL": 0.12, "MXFP4": 0.34,
                 "Q3_K": 0.3, "Q2_K": 0.4}


class Types(unittest.TestCase):
    def test_both_sides_know_the_same_types(self):
        self.assertEqual({n: number for n, (number, _) in ENCODERS.items()}, {v[0]: k for k, v in TYPES.items()})
        for name, elements, *_ in TYPES.values():
            self.assertEqual(block_elements(name), elements)

    def test_what_is_encoded_reads_back_nearly(self):
        a = np.random.default_rng(5).standard_normal((24, 512)).astype(np.float32)
        a[3, :256] = 0
        a[4] = np.abs(a[4])
        a[5] = -np.abs(a[5])
        for name in ENCODERS:
            with self.subTest(name):
                number, raw = encode(a, name)
                self.assertEqual(len(raw), a.size // TYPES[number][1] * TYPES[number][2])
                got = dequantise(number, raw, a.shape)
                error = np.abs(got - a).reshape(-1, 32).max(-1) / np.maximum(np.abs(a).reshape(-1, 32).max(-1), 1e-9)
                self.assertLessEqual(error.max(), LARGEST_ERROR[name])
                self.assertTrue((got[3, :256] == 0).all())

    def test_rows_that_are_not_whole_blocks_are_refused(self):
        for name in ENCODERS:
            if block_elements(name) > 1:
                with self.assertRaisesRegex(ValueError, f"{name} needs rows of a multiple of"):
                    encode(np.zeros((2, block_elements(name) + 16), np.float32), name)

    @unittest.skipUnless(gguf, "needs the package gguf")
    def test_dequantise_agrees_with_the_gguf_package_on_random_bytes(self):
        """Which rounds to f32 once or twice: half an ulp for each, of the largest term."""
        rng = np.random.default_rng(6)
        for number, (name, elements, size, _) in TYPES.items():
            with self.subTest(name), np.errstate(all="ignore"):
                raw = rng.integers(0, 256, (400, size), dtype=np.uint8)
                want = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(number)) if elements > 1 else None
                if want is None:  # the package reads these with numpy itself
                    continue
                got = dequantise(number, raw.tobytes(), want.shape)
                finite = np.isfinite(want)
                np.testing.assert_array_equal(np.isfinite(got.astype(np.float32)), finite)
                self.assertGreater(finite.mean(), 0.8)
                largest = np.abs(np.where(finite, got, 0)).reshape(len(raw), -1).max(-1, keepdims=True)
                error = np.abs(np.where(finite, got - want, 0)).reshape(len(raw), -1)
                self.assertTrue((error <= 2.0**-22 * largest).all(), error.max())

    @unittest.skipUnless(gguf, "needs the package gguf")
    def test_bfloat16_is_that_of_the_gguf_package(self):
        a = np.random.default_rng(7).standard_normal((4, 64)).astype(np.float32)
        want = gguf.quants.quantize(a, gguf.GGMLQuantizationType.BF16)
        self.assertEqual(encode(a, "BF16")[1], want.tobytes())
        np.testing.assert_array_equal(dequantise(30, want.tobytes(), a.shape),
                                      gguf.quants.dequantize(want, gguf.GGMLQuantizationType.BF16))


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    sys.exit(1 if not result.wasSuccessful() else 77 if result.skipped else 0)
