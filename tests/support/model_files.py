"""Model files as their parts, for tests that break one of them: change anything, then serialise. Nothing is checked."""
import json
import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
SIZES = {U8: 1, I8: 1, U16: 2, I16: 2, U32: 4, I32: 4, F32: 4, BOOL: 1, U64: 8, I64: 8, F64: 8}


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def texts(values):
    return struct.pack("<IQ", STRING, len(values)) + b"".join(map(text, values))


def array(kind, form, values):
    return struct.pack("<IQ", kind, len(values)) + b"".join(struct.pack("<" + form, v) for v in values)


class Gguf:
    """keys: {name: [kind, bytes]}; tensors: {name: [dims innermost first, type, offset]}."""

    def __init__(self, raw=None):
        self.magic, self.version, self.n_tensors, self.n_keys = b"GGUF", 3, None, None
        self.keys, self.tensors, self.data, self.alignment = {}, {}, b"", 32
        self.more_keys, self.more_tensors = b"", b""  # raw, behind the others; counted by the caller
        if raw:
            self._parse(raw)

    def _parse(self, raw):
        at = 24
        n_tensors, n_keys = struct.unpack_from("<QQ", raw, 8)

        def take(form):
            nonlocal at
            (value,) = struct.unpack_from("<" + form, raw, at)
            at += struct.calcsize(form)
            return value

        def name():
            nonlocal at
            n = take("Q")
            at += n
            return raw[at - n:at].decode()

        def skip(kind):
            nonlocal at
            if kind == STRING:
                name()
            elif kind == ARRAY:
                element, n = take("I"), take("Q")
                for _ in range(n):
                    skip(element)
            else:
                at += SIZES[kind]

        for _ in range(n_keys):
            key, kind = name(), take("I")
            begin = at
            skip(kind)
            self.keys[key] = [kind, raw[begin:at]]
        for _ in range(n_tensors):
            tensor, rank = name(), take("I")
            self.tensors[tensor] = [[take("Q") for _ in range(rank)], take("I"), take("Q")]
        self.data = raw[(at + 31) // 32 * 32:]

    def set(self, key, kind, form, value):
        self.keys[key] = [kind, struct.pack("<" + form, value)]

    def set_text(self, key, value):
        self.keys[key] = [STRING, text(value)]

    def values(self, key):
        """The texts of an array of strings."""
        raw = self.keys[key][1]
        found, at = [], 12
        for _ in range(struct.unpack_from("<Q", raw, 4)[0]):
            (n,) = struct.unpack_from("<Q", raw, at)
            found.append(raw[at + 8:at + 8 + n])
            at += 8 + n
        return found

    def serialise(self):
        raw = self.magic + struct.pack("<I", self.version)
        raw += struct.pack("<Q", len(self.tensors) if self.n_tensors is None else self.n_tensors)
        raw += struct.pack("<Q", len(self.keys) if self.n_keys is None else self.n_keys)
        for key, (kind, value) in self.keys.items():
            raw += text(key) + struct.pack("<I", kind) + value
        raw += self.more_keys
        for tensor, (dims, kind, offset) in self.tensors.items():
            raw += text(tensor) + struct.pack("<I", len(dims))
            raw += b"".join(struct.pack("<Q", dim) for dim in dims) + struct.pack("<IQ", kind, offset)
        raw += self.more_tensors
        return raw + bytes(-len(raw) % self.alignment) + self.data


def split(model, n_parts):
    """A whole Gguf of F32 tensors as the parts of a split model."""
    parts = [Gguf() for _ in range(n_parts)]
    parts[0].keys = dict(model.keys)
    names = list(model.tensors)
    run = -(-len(names) // n_parts)
    for i, part in enumerate(parts):
        part.set("split.no", U16, "H", i)
        part.set("split.count", U16, "H", n_parts)
        part.set("split.tensors.count", I32, "i", len(names))
        for name in names[i * run:(i + 1) * run]:
            dims, kind, offset = model.tensors[name]
            size = 4
            for dim in dims:
                size *= dim
            part.data += bytes(-len(part.data) % 32)
            part.tensors[name] = [dims, kind, len(part.data)]
            part.data += model.data[offset:offset + size]
    return parts


class Safetensors:
    """entries: {name: {"dtype", "shape", "data_offsets"}}."""

    def __init__(self, raw):
        (n,) = struct.unpack_from("<Q", raw)
        self.entries = json.loads(raw[8:8 + n])
        self.metadata = self.entries.pop("__metadata__", None)
        self.data, self.header, self.length, self.before = raw[8 + n:], None, None, b""

    def header_text(self):
        if self.header is not None:
            return self.header if isinstance(self.header, bytes) else self.header.encode()
        whole = dict(self.entries)
        if self.metadata is not None:
            whole["__metadata__"] = self.metadata
        return json.dumps(whole).encode()

    def drop(self, *names):
        """Takes tensors out, with their bytes."""
        data = b""
        for name in names:
            del self.entries[name]
        for entry in self.entries.values():
            begin, end = entry["data_offsets"]
            entry["data_offsets"] = [len(data), len(data) + end - begin]
            data += self.data[begin:end]
        self.data = data

    def add(self, name, dtype, shape, size):
        """Puts a tensor of zeros, `size` bytes, behind the others."""
        end = len(self.data) + size
        self.entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(self.data), end]}
        self.data += bytes(size)

    def serialise(self):
        header = self.header_text()
        return struct.pack("<Q", len(header) if self.length is None else self.length) + header + self.data
