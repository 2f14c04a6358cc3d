""
    "PyTorch on the shapes of cuda_bench.cpp, timed the same way: graph replays over rotating arrays.

    Prints Markdown rows.Needs PyTorch with CUDA;
says so and exits with 77 where there is none.
"""

import statistics
import sys

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print("cuda_bench_peers: no PyTorch here")
    sys.exit(77)

BEYOND_L2 = 200 << 20
MIN_LAUNCHES, MAX_LAUNCHES, REPLAYS = 10, 1000, 25
NAMES = {torch.bfloat16: "BF16", torch.float32: "F32"}


def time_graph(call, n_launches):
    """Median microseconds of one call(i), from replays of a graph of n_launches of them."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for i in range(3):
            call(i)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for i in range(n_launches):
                call(i)
        times = []
        for i in range(3 + REPLAYS):
            begin = torch.cuda.Event(enable_timing=True)
            end = torch.cuda.Event(enable_timing=True)
            begin.record(stream)
            graph.replay()
            end.record(stream)
            end.synchronize()
            if i >= 3:
                times.append(1e3 * begin.elapsed_time(end) / n_launches)
    return statistics.median(times), min(times), max(times)


def rotation(set_bytes):
    sets = max(2, -(-BEYOND_L2 // set_bytes))
    sets = min(sets, MAX_LAUNCHES)
    return sets, max(MIN_LAUNCHES, sets), sets * set_bytes < BEYOND_L2 / 2


def row(op, peer, rows, width, dtype, timing, n_bytes, in_l2, copy_gbs):
    median, low, high = timing
    gbs = n_bytes / median / 1e3
    share = "L2" if in_l2 else f"{100 * gbs / copy_gbs:.0f} %"
    print(
        f"| {op} | {peer} | {rows}x{width} | {NAMES[dtype]} | {median:.2f} ({low:.2f} to {high:.2f}) "
        f"| {n_bytes / 1e6:.3f} | {gbs:.0f} | {share} |",
        flush=True,
    )


def measure_copy():
    a = torch.randn(1 << 27, device="cuda")
    b = torch.empty_like(a)
    median, low, high = time_graph(lambda i: b.copy_(a) if i % 2 == 0 else a.copy_(b), MIN_LAUNCHES)
    gbs = 2 * a.numel() * 4 / median / 1e3
    print(f"copy of 512 MiB: {median:.1f} us ({low:.1f} to {high:.1f}), {gbs:.0f} GB/s\n")
    print("| op | peer | shape | dtype | us (min to max) | MB moved | GB/s | of cudaMemcpyAsync |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    return gbs


def norms(copy_gbs):
    def norm(x, w):
        return F.rms_norm(x, (x.shape[-1],), w, 1e-5)

    for dtype in NAMES:
        for rows, width in [(4096, 4096), (8192, 8192), (16384, 1024), (512, 65536), (64, 4096), (1, 4096)]:
            size = rows * width * dtype.itemsize
            sets, launches, in_l2 = rotation(2 * size)
            xs = [torch.randn(rows, width, device="cuda", dtype=dtype) for _ in range(sets)]
            weight = torch.randn(width, device="cuda", dtype=dtype)
            torch.compiler.reset()  # one specialisation per shape, whatever the recompilation limit
            for peer, call in {"F.rms_norm": norm, "compiled": torch.compile(norm, dynamic=False)}.items():
                timing = time_graph(lambda i: call(xs[i % sets], weight), launches)
                row("rms_norm", peer, rows, width, dtype, timing, 2 * size + width * dtype.itemsize, in_l2, copy_gbs)


def glus(copy_gbs):
    acts = {
        "silu": F.silu,
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    }
    shapes = {
    "silu" : [ (4096, 14336), (64, 14336), (1, 14336) ]}
    for dtype in NAMES:
        for act, function in acts.items():
            for rows, width in shapes.get(act, [(4096, 14336)]):
                size = rows * width * dtype.itemsize
                sets, launches, in_l2 = rotation(3 * size)
                gates = [torch.randn(rows, width, device="cuda", dtype=dtype) for _ in range(sets)]
                ups = [torch.randn(rows, width, device="cuda", dtype=dtype) for _ in range(sets)]
                torch.compiler.reset()
                compiled = torch.compile(lambda g, u, f=function: f(g) * u, dynamic=False)
                timing = time_graph(lambda i: compiled(gates[i % sets], ups[i % sets]), launches)
                row(f"glu {act}", "compiled", rows, width, dtype, timing, 3 * size, in_l2, copy_gbs)


def main():
    if not torch.cuda.is_available():
        print("cuda_bench_peers: no CUDA device here")
        return 77
    torch.manual_seed(1)
    print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name(0)}")
    copy_gbs = measure_copy()
    norms(copy_gbs)
    glus(copy_gbs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
