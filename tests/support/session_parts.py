"""The checksums of session files (engine/session_file.h), so that a test can make one that lies."""
import struct

MASK = (1 << 64) - 1
KEY = (0x656c64646568, 0x6e6f6973736573)
PIECE = 64 << 10
SECTIONS, CHECKSUM, HEADER = 88, 208, 224  # where they begin; the header's size


def rotl(x, n):
    return (x << n | x >> (64 - n)) & MASK


def sip_hash(words):
    """SipHash-2-4 with 128 bits, as base/sip_hash.h has it: 16 bytes."""
    v = [KEY[0] ^ 0x736f6d6570736575, KEY[1] ^ 0x646f72616e646f6d ^ 0xee, KEY[0] ^ 0x6c7967656e657261,
         KEY[1] ^ 0x7465646279746573]

    def rounds(n):
        a, b, c, d = v
        for _ in range(n):
            a = (a + b) & MASK
            b = rotl(b, 13) ^ a
            a = rotl(a, 32)
            c = (c + d) & MASK
            d = rotl(d, 16) ^ c
            a = (a + d) & MASK
            d = rotl(d, 21) ^ a
            c = (c + b) & MASK
            b = rotl(b, 17) ^ c
            c = rotl(c, 32)
        v[:] = a, b, c, d

    for word in [*words, len(words) * 8 % 256 << 56]:
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xee
    rounds(4)
    low = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xdd
    rounds(4)
    return struct.pack("<QQ", low, v[0] ^ v[1] ^ v[2] ^ v[3])


def words_of(data):
    return [x for x, in struct.iter_unpack("<Q", data + bytes(-len(data) % 8))]


def checksum(data):
    pieces = b"".join(sip_hash(words_of(data[i:i + PIECE])) for i in range(0, len(data), PIECE))
    return sip_hash(words_of(pieces + struct.pack("<Q", len(data))))


def with_other_keys(data):
    """A whole session, its keys and values changed in their lowest bits."""
    data = bytearray(data)
    sizes = [struct.unpack_from("<Q", data, SECTIONS + 24 * i)[0] for i in range(5)]
    begin = HEADER + sizes[0]
    for i in range(begin, begin + sizes[1], 2):
        data[i] ^= 0x3f
    data[SECTIONS + 32:SECTIONS + 48] = checksum(bytes(data[begin:begin + sizes[1]]))
    data[CHECKSUM:HEADER] = checksum(bytes(data[:CHECKSUM]))
    return bytes(data)
