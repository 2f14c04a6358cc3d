#pragma once
// What the files that make cases for `heddle bench --kernels` share: kernel_cases*.cpp only.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/tensor_view.h"
#include "kernels/cpu/cpu_tables.h"
#include "tools/heddle/kernel_cases.h"

namespace heddle::cli {

// A model of about a billion weights.
inline constexpr std::int64_t kHidden = 2048;
inline constexpr std::int64_t kFfn = 8192;
inline constexpr std::int64_t kQHeads = 32;
inline constexpr std::int64_t kKvHeads = 8;
inline constexpr std::int64_t kHeadDim = 64;
inline constexpr std::int64_t kVocab = 128256;
inline constexpr std::int64_t kBlockTokens = 16;
inline constexpr std::int64_t kDepth = 4096;        // of a decode
inline constexpr std::int64_t kPrompt = 512;        // of a prefill
inline constexpr std::int64_t kPrefillRows = 1024;  // of weights: enough for every core

inline constexpr DType kKvTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

/// Args at one size with what they point to; `next` moves them to memory that no cache holds.
template <typename Args>
struct Job {
  Args args;
  std::string shape;
  double bytes = 0.0;
  double operations = 0.0;
  std::shared_ptr<void> owned;
  std::function<void(Args& args, std::int64_t repetition)> next;
};

/// The list that the add_..._ops functions fill.
class Cases {
 public:
  Cases(const DeviceCaps& caps, std::size_t arena)
      : caps_(caps), arena_(static_cast<std::int64_t>(arena)) {}

  std::int64_t arena() const { return arena_; }
  std::vector<KernelCase> take() { return std::move(cases_); }

  /// make(bench, size) -> Job<Args>, for each variant that this processor runs.
  template <typename Args, typename Make>
  void add(const cpu::Table<Args>& table,
           DType dtype,
           Arithmetic arithmetic,
           std::int64_t max_size,
           const Make& make) {
    for (const auto& variant : table.variants) {
      if (!runs_on(variant.name, caps_)) continue;
      KernelCase c;
      c.op = table.op;
      c.variant = variant.name;
      c.dtype = name(dtype);
      c.arithmetic = arithmetic;
      c.max_size = std::max<std::int64_t>(max_size, 1);
      c.prepare = [&variant, make](Workbench& bench, std::int64_t size) {
        const auto job = std::make_shared<Job<Args>>(make(bench, size));
        PreparedKernel p;
        p.shape = job->shape;
        p.bytes = job->bytes;
        p.operations = job->operations;
        p.run = [&variant, &bench, job](std::int64_t repetition) {
          if (job->next) job->next(job->args, repetition);
          if (!variant.accepts(job->args, bench.context.caps)) {
            throw runtime_failure("bench: variant " + std::string(variant.name) +
                                  " does not take " + job->shape);
          }
          variant.run(job->args, bench.context);
        };
        return p;
      };
      cases_.push_back(std::move(c));
    }
  }

 private:
  const DeviceCaps caps_;
  const std::int64_t arena_;
  std::vector<KernelCase> cases_;
};

inline TensorView f32(const void* data, std::initializer_list<std::int64_t> shape) {
  return {data, DType::kF32, shape};
}

inline double number(std::int64_t n) {
  return static_cast<double>(n);
}

/// `n` floats in [-1, 1).
inline std::vector<float> random_floats(std::int64_t n) {
  std::mt19937_64 random(7);
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& f : x)
    f = static_cast<float>(static_cast<std::int64_t>(random() >> 40)) * 0x1p-23F - 1.0F;
  return x;
}

inline void fill_sink(Workbench& bench, std::int64_t n, float value) {
  std::fill_n(reinterpret_cast<float*>(bench.sink()), n, value);
}

void add_attention_cases(Cases& cases);
void add_linear_attention_cases(Cases& cases);
void add_moe_cases(Cases& cases);
void add_elementwise_cases(Cases& cases);

}  // namespace heddle::cli
