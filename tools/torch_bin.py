"""Writes PyTorch's .bin files without PyTorch: a zip archive of stored entries with a pickled OrderedDict of tensors and
their storages, as torch.save writes them. The same tensors give the same bytes."""
import struct
import zipfile

STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage"}
ALIGNMENT = 64


class Pickle:
    """Opcodes of protocol 2; what is named twice is remembered, as every pickler does."""

    def __init__(self):
        self.raw, self.memo, self.count = bytearray(b"\x80\x02"), {}, 0

    def op(self, raw):
        self.raw += raw
        return self

    def put(self):
        self.raw += b"q" + bytes([self.count]) if self.count < 256 else b"r" + struct.pack("<I", self.count)
        self.count += 1
        return self

    def once(self, raw):
        """A string or global: written the first time, fetched from then on."""
        if raw in self.memo:
            at = self.memo[raw]
            return self.op(b"h" + bytes([at]) if at < 256 else b"j" + struct.pack("<I", at))
        self.memo[raw] = self.count
        return self.op(raw).put()

    def text(self, value):
        raw = value.encode()
        return self.once(b"X" + struct.pack("<I", len(raw)) + raw)

    def name(self, module, name):
        return self.once(f"c{module}\n{name}\n".encode())

    def integer(self, value):
        if value < 1 << 8:
            return self.op(b"K" + bytes([value]))
        return self.op(b"M" + struct.pack("<H", value) if value < 1 << 16 else b"J" + struct.pack("<i", value))

    def integers(self, values):
        if not values:
            return self.op(b")")
        if len(values) > 3:
            self.op(b"(")
        for value in values:
            self.integer(value)
        return self.op((b"\x85", b"\x86", b"\x87")[len(values) - 1] if len(values) <= 3 else b"t").put()

    def ordered_dict(self):
        return self.name("collections", "OrderedDict").op(b")R").put()

    def tensor(self, key, storage, shape):
        elements, strides = 1, []
        for n in reversed(shape):
            strides.insert(0, elements)
            elements *= n
        self.name("torch._utils", "_rebuild_tensor_v2").op(b"((").text("storage").name("torch", storage)
        self.text(key).text("cpu").integer(elements).op(b"t").put().op(b"Q")
        self.integer(0).integers(shape).integers(strides).op(b"\x89").ordered_dict()
        return self.op(b"t").put().op(b"R").put()


def add_entry(archive, name, raw):
    """Stored, its bytes at a multiple of ALIGNMENT from the start of the file."""
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    at = archive.fp.tell() + 30 + len(name) + 4
    fill = -at % ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", fill) + b"Z" * fill
    archive.writestr(info, raw)


def write_bin(path, tensors, dtype, encode):
    """tensors: name -> array; encode(array, dtype) -> (number, bytes). Returns the bytes of all tensors."""
    pickle, storages = Pickle(), []
    pickle.ordered_dict().op(b"(")
    for name, array in tensors.items():
        key = str(len(storages))
        storages.append(encode(array, dtype)[1])
        pickle.text(name).tensor(key, STORAGES[dtype], list(array.shape))
    pickle.op(b"u.")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        add_entry(archive, "archive/data.pkl", bytes(pickle.raw))
        add_entry(archive, "archive/byteorder", b"little")
        for key, raw in enumerate(storages):
            add_entry(archive, f"archive/data/{key}", bytes(raw))
        add_entry(archive, "archive/version", b"3\n")
    return sum(map(len, storages))
