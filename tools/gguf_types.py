"""Tensor types of GGUF: numbers, block sizes, and an encoder for each (simple and valid, not the best).

The block layouts are those of the format: f16 scales are little endian; where a byte holds several quants the
lower bits belong to the earlier element. Same input, same bytes everywhere. Needs numpy only.
"""
import numpy as np

F32, U8 = np.float32, np.uint8
IQ4_NL_VALUES = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113])
MXFP4_VALUES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12])  # halves of E2M1


def blocks_of(a, n=32):
    return np.ascontiguousarray(a, F32).reshape(-1, n)


def half(x):
    """[blocks] -> [blocks, 2] bytes of f16."""
    return x.astype("<f2")[..., None].view(U8)


def rounded(x):
    """As an f16 will give it back."""
    return x.astype("<f2").astype(F32)


def ratio(a, b):
    """a / b, and 0 where b is 0."""
    a, b = np.broadcast_arrays(a, b)
    return np.divide(a, b, out=np.zeros(a.shape, F32), where=b != 0)


def farthest(b):
    """The element of largest magnitude of each block, with its sign."""
    return np.take_along_axis(b, np.abs(b).argmax(-1)[..., None], -1)[..., 0]


def joined(*parts):
    return np.concatenate([p.astype(U8).reshape(len(p), -1) for p in parts], axis=1).tobytes()


def pack_nibbles(q):
    return q[:, :16] | (q[:, 16:] << 4)


def fifth_bits(q):
    """Bit 4 of quant j is bit j of four bytes."""
    return np.packbits((q >> 4).astype(U8), axis=1, bitorder="little")


def zero_centred(b, zero):
    """(d, q): the farthest element becomes -zero, q is counted from there."""
    d = farthest(b) / F32(-zero)
    inverse = ratio(F32(1), d)
    return d, np.clip(np.floor(b * inverse[:, None] + F32(zero + 0.5)), 0, 2 * zero - 1).astype(U8)


def from_minimum(b, top):
    low = b.min(axis=1)
    d = (b.max(axis=1) - low) / F32(top)
    inverse = ratio(F32(1), d)
    return d, low, np.clip(np.floor((b - low[:, None]) * inverse[:, None] + F32(0.5)), 0, top).astype(U8)


def q4_0(a):
    d, q = zero_centred(blocks_of(a), 8)
    return joined(half(d), pack_nibbles(q))


def q4_1(a):
    d, m, q = from_minimum(blocks_of(a), 15)
    return joined(half(d), half(m), pack_nibbles(q))


def q5_0(a):
    d, q = zero_centred(blocks_of(a), 16)
    return joined(half(d), fifth_bits(q), pack_nibbles(q & 15))


def q5_1(a):
    d, m, q = from_minimum(blocks_of(a), 31)
    return joined(half(d), half(m), fifth_bits(q), pack_nibbles(q & 15))


def q8_0(a):
    b = blocks_of(a)
    d = np.abs(b).max(axis=1) / F32(127)
    x = b * ratio(F32(1), d)[:, None]
    q = (np.sign(x) * np.floor(np.abs(x) + F32(0.5))).astype(np.int8)
    return joined(half(d), q.view(U8))


def nearest(values, x):
    """Index into ascending `values` of the one nearest to x."""
    return np.searchsorted((values[1:] + values[:-1]) / 2, x).astype(U8)


def iq4_nl(a):
    b = blocks_of(a)
    d = farthest(b) / F32(-127)
    return joined(half(d), pack_nibbles(nearest(IQ4_NL_VALUES, ratio(b, d[:, None]))))


def mxfp4(a):
    b = blocks_of(a)
    _, exponent = np.frexp(np.abs(b).max(axis=1))  # the largest becomes 8 .. 16 halves, of which 12 exist
    e = np.clip(exponent + 124, 0, 254)
    x = np.ldexp(b.astype(np.float64), 128 - e[:, None])
    q = nearest(MXFP4_VALUES[:8], np.abs(x)) | np.where(x < 0, 8, 0).astype(U8)
    return joined(e[:, None], pack_nibbles(q))


# --- blocks of 256 with scales of their own for every 16 or 32


def with_sub_minimum(a, sub, scale_top, top):
    """w = d sc q - dmin m, all of sc, m, q from 0: (d, dmin, sc, m, q)."""
    b = blocks_of(a, 256).reshape(-1, 256 // sub, sub)
    depth = np.maximum(-b.min(axis=2), 0)
    scale = (np.maximum(b.max(axis=2), 0) + depth) / F32(top)
    d = rounded(scale.max(axis=1) / F32(scale_top))[:, None]
    dmin = rounded(depth.max(axis=1) / F32(scale_top))[:, None]
    sc = np.clip(np.rint(ratio(scale, d)), 0, scale_top)
    m = np.clip(np.rint(ratio(depth, dmin)), 0, scale_top)
    q = np.clip(np.rint(ratio(b + (dmin * m)[..., None], (d * sc)[..., None])), 0, top)
    return half(d[:, 0]), half(dmin[:, 0]), sc.astype(U8), m.astype(U8), q.astype(U8).reshape(-1, 256)


def with_sub_scale(a, scale_zero, zero):
    """w = d (sc - scale_zero) (q - zero) per 16: (d, sc, q)."""
    b = blocks_of(a, 256).reshape(-1, 16, 16)
    scale = farthest(b) / F32(-zero)
    d = rounded(farthest(scale) / F32(-scale_zero))[:, None]
    sc = np.clip(np.rint(ratio(scale, d)), -scale_zero, scale_zero - 1)
    q = np.clip(np.rint(ratio(b, (d * sc)[..., None])), -zero, zero - 1) + zero
    return half(d[:, 0]), sc.astype(np.int8), q.astype(U8).reshape(-1, 256)


def crumbs(q):
    """2-bit quants: byte l of each half of 128 holds l, l + 32, l + 64, l + 96."""
    q = q.reshape(-1, 2, 4, 32)
    return q[:, :, 0] | q[:, :, 1] << 2 | q[:, :, 2] << 4 | q[:, :, 3] << 6


def nibbles_of_64(q):
    q = q.reshape(-1, 4, 2, 32)
    return q[:, :, 0] | q[:, :, 1] << 4


def bits_of_32(bit):
    """Byte l holds the bits of l, l + 32, ..., l + 224."""
    return np.packbits(bit.reshape(-1, 8, 32), axis=1, bitorder="little")


def six_bit_pairs(sc, m):
    """Eight scales and eight minima of 6 bits in 12 bytes."""
    low = np.concatenate([sc[:, :4] | sc[:, 4:] >> 4 << 6, m[:, :4] | m[:, 4:] >> 4 << 6], axis=1)
    return np.concatenate([low, (sc[:, 4:] & 15) | m[:, 4:] << 4], axis=1)


def six_bits(sc):
    """Sixteen 6-bit scales in 12 bytes: four lower bits of i and i + 8, then the upper ones of i, i + 4, ..."""
    high = (sc >> 4).reshape(-1, 4, 4)
    return np.concatenate([(sc[:, :8] & 15) | (sc[:, 8:] & 15) << 4,
                           high[:, 0] | high[:, 1] << 2 | high[:, 2] << 4 | high[:, 3] << 6], axis=1)


def q2_k(a):
    d, dmin, sc, m, q = with_sub_minimum(a, 16, 15, 3)
    return joined(sc | m << 4, crumbs(q), d, dmin)


def q3_k(a):
    d, sc, q = with_sub_scale(a, 32, 4)
    return joined(bits_of_32(q >> 2), crumbs(q & 3), six_bits((sc + 32).astype(U8)), d)


def q4_k(a):
    d, dmin, sc, m, q = with_sub_minimum(a, 32, 63, 15)
    return joined(d, dmin, six_bit_pairs(sc, m), nibbles_of_64(q))


def q5_k(a):
    d, dmin, sc, m, q = with_sub_minimum(a, 32, 63, 31)
    return joined(d, dmin, six_bit_pairs(sc, m), bits_of_32(q >> 4), nibbles_of_64(q & 15))


def q6_k(a):
    d, sc, q = with_sub_scale(a, 128, 32)
    low = (q & 15).reshape(-1, 2, 2, 64)  # of each 128: element l and l + 64 share a byte
    return joined(low[:, :, 0] | low[:, :, 1] << 4, crumbs(q >> 4), sc.view(U8), d)


def bf16(a):
    """To nearest, ties to even; finite values only."""
    bits = np.ascontiguousarray(a, "<f4").view("<u4")
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()


# name -> (GGUF's number, bytes of a matrix)
ENCODERS = {
    "F32": (0, lambda a: a.astype("<f4").tobytes()),
    "F16": (1, lambda a: a.astype("<f2").tobytes()),
    "BF16": (30, bf16),
    "Q4_0": (2, q4_0),
    "Q4_1": (3, q4_1),
    "Q5_0": (6, q5_0),
    "Q5_1": (7, q5_1),
    "Q8_0": (8, q8_0),
    "Q2_K": (10, q2_k),
    "Q3_K": (11, q3_k),
    "Q4_K": (12, q4_k),
    "Q5_K": (13, q5_k),
    "Q6_K": (14, q6_k),
    "IQ4_NL": (20, iq4_nl),
    "MXFP4": (39, mxfp4),
}


def block_elements(dtype):
    """What the row length must be a multiple of."""
    return 1 if dtype in ("F32", "F16", "BF16") else 256 if dtype.endswith("_K") else 32


def encode(array, dtype):
    """(GGUF's number, bytes); rows must be whole blocks."""
    if array.shape[-1] % block_elements(dtype):
        raise ValueError(f"{dtype} needs rows of a multiple of {block_elements(dtype)}, got {array.shape[-1]}")
    number, encoder = ENCODERS[dtype]
    return number, encoder(array)
