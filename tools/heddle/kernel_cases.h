#pragma once
// What `heddle bench --kernels` runs: every variant of every CPU op that this machine runs, on
// shapes of a model of about a billion weights, from arrays larger than the last cache.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "kernels/cpu/cpu_context.h"
#include "tools/heddle/peak_speed.h"

namespace heddle::cli {

/// The memory that all cases share, made once.
class Workbench {
 public:
  /// Takes 1.5 times arena_bytes.
  Workbench(int n_threads, std::size_t arena_bytes);

  CpuContext context;

  /// Bytes that are sane whatever they are read as: every f32, f16, bf16 and scale is a normal
  /// number. Read only.
  std::byte* source() const { return source_.data(); }
  std::int64_t source_bytes() const { return static_cast<std::int64_t>(source_.bytes()); }
  /// Half as much, to write to.
  std::byte* sink() const { return sink_.data(); }
  std::int64_t sink_bytes() const { return static_cast<std::int64_t>(sink_.bytes()); }

 private:
  Buffer source_;
  Buffer sink_;
};

/// More than the last cache, if memory allows.
std::size_t bench_arena_bytes();

/// A case at one size, ready to be timed.
struct PreparedKernel {
  std::string shape;
  double bytes = 0.0;       // read or written at least once
  double operations = 0.0;  // a multiply-add is two; 0: not counted
  std::function<void(std::int64_t repetition)> run;
};

struct KernelCase {
  std::string op;
  std::string variant;
  std::string dtype;  // of the weights or the cache; f32 where there is neither
  Arithmetic arithmetic = Arithmetic::kF32;
  std::int64_t max_size = 1;  // rows, tokens, sequences: what the op has; from 1 on
  std::function<PreparedKernel(Workbench& bench, std::int64_t size)> prepare;

  std::string name() const { return op + "/" + variant + "/" + dtype; }
};

/// All of them, in the order of the ops' tables; a new variant or weight type is in it by itself.
/// Sizes are for a Workbench of that arena.
std::vector<KernelCase> kernel_cases(const DeviceCaps& caps, std::size_t arena_bytes);

}  // namespace heddle::cli
