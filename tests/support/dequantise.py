"""Values of GGUF tensors by the formats' formulas, in f64. Shares no code with the engine or the encoders."""
import numpy as np

IQ4_NL = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float64)
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def half(b):
    """[blocks, 2 n] bytes -> [blocks, n]"""
    return np.ascontiguousarray(b).view("<f2").astype(np.float64)


def nibbles(b):
    return np.concatenate([b & 15, b >> 4], axis=1)


def bit(b, i):
    return b >> i & 1


def legacy(b, has_min, has_fifth):
    at = 4 if has_min else 2
    q = nibbles(b[:, -16:]).astype(np.float64)
    if has_fifth:
        word = np.ascontiguousarray(b[:, at:at + 4]).view("<u4")
        q += 16.0 * (word >> np.arange(32, dtype=np.uint32) & 1)
    if has_min:
        return half(b[:, :2]) * q + half(b[:, 2:4])
    return half(b[:, :2]) * (q - (16 if has_fifth else 8))


def q2_k(b):
    q = crumbs(b[:, 16:80])
    spread = lambda s: np.repeat(s.astype(np.float64), 16, axis=1)
    return half(b[:, 80:82]) * spread(b[:, :16] & 15) * q - half(b[:, 82:84]) * spread(b[:, :16] >> 4)


def crumbs(b):
    """Element 128 h + 32 i + l is bits 2 i of byte 32 h + l."""
    parts = [b[:, h:h + 32] >> (2 * i) & 3 for h in range(0, b.shape[1], 32) for i in range(4)]
    return np.concatenate(parts, axis=1)


def eighths(b):
    """Element 32 i + l is bit i of byte l."""
    return np.concatenate([bit(b, i) for i in range(8)], axis=1)


def q3_k(b):
    q = crumbs(b[:, 32:96]).astype(np.float64) + 4.0 * eighths(b[:, :32]) - 4
    packed = b[:, 96:108].astype(np.int64)
    sc = [(packed[:, i % 8] >> (4 * (i // 8)) & 15) | (packed[:, 8 + i % 4] >> (2 * (i // 4)) & 3) << 4
          for i in range(16)]
    sc = np.stack(sc, axis=1).astype(np.float64) - 32
    return half(b[:, 108:110]) * np.repeat(sc, 16, axis=1) * q


def sub_scales(b):
    """(scales, minima) of the eight parts of 32."""
    s = b.astype(np.int64)
    sc = [s[:, j] & 63 for j in range(4)] + [s[:, j + 8] & 15 | (s[:, j] >> 6) << 4 for j in range(4)]
    m = [s[:, j + 4] & 63 for j in range(4)] + [s[:, j + 8] >> 4 | (s[:, j + 4] >> 6) << 4 for j in range(4)]
    spread = lambda x: np.repeat(np.stack(x, axis=1).astype(np.float64), 32, axis=1)
    return spread(sc), spread(m)


def q45_k(b, fifth):
    sc, m = sub_scales(b[:, 4:16])
    low = np.concatenate([nibbles(b[:, at:at + 32]) for at in range(len(b[0]) - 128, len(b[0]), 32)], axis=1)
    q = low.astype(np.float64) + (16.0 * eighths(b[:, 16:48]) if fifth else 0)
    return half(b[:, :2]) * sc * q - half(b[:, 2:4]) * m


def q6_k(b):
    low = np.concatenate([nibbles(b[:, at:at + 64]) for at in (0, 64)], axis=1)
    q = low.astype(np.float64) + 16.0 * crumbs(b[:, 128:192]) - 32
    sc = np.repeat(np.ascontiguousarray(b[:, 192:208]).view(np.int8).astype(np.float64), 16, axis=1)
    return half(b[:, 208:210]) * sc * q


# GGUF's number -> (name, elements of a block, bytes of a block, values of [blocks, bytes])
TYPES = {
    0: ("F32", 1, 4, lambda b: np.ascontiguousarray(b).view("<f4").astype(np.float64)),
    1: ("F16", 1, 2, half),
    30: ("BF16", 1, 2, lambda b: (np.ascontiguousarray(b).view("<u2").astype(np.uint32) << 16)
         .view(np.float32).astype(np.float64)),
    2: ("Q4_0", 32, 18, lambda b: legacy(b, False, False)),
    3: ("Q4_1", 32, 20, lambda b: legacy(b, True, False)),
    6: ("Q5_0", 32, 22, lambda b: legacy(b, False, True)),
    7: ("Q5_1", 32, 24, lambda b: legacy(b, True, True)),
    8: ("Q8_0", 32, 34, lambda b: half(b[:, :2]) * np.ascontiguousarray(b[:, 2:]).view(np.int8)),
    10: ("Q2_K", 256, 84, q2_k),
    11: ("Q3_K", 256, 110, q3_k),
    12: ("Q4_K", 256, 144, lambda b: q45_k(b, False)),
    13: ("Q5_K", 256, 176, lambda b: q45_k(b, True)),
    14: ("Q6_K", 256, 210, q6_k),
    20: ("IQ4_NL", 32, 18, lambda b: half(b[:, :2]) * IQ4_NL[nibbles(b[:, 2:])]),
    39: ("MXFP4", 32, 17, lambda b: np.ldexp(E2M1[nibbles(b[:, 1:])], b[:, :1].astype(np.int64) - 127)),
}


def dequantise(kind, data, shape):
    """`data` are the bytes of a tensor of GGUF's type `kind`."""
    _, elements, size, values = TYPES[kind]
    n = int(np.prod(shape))
    return values(np.frombuffer(data, np.uint8, n // elements * size).reshape(-1, size)).reshape(shape)
