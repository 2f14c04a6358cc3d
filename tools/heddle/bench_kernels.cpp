// heddle bench --kernels: each CPU kernel alone, beside what bounds it on this machine.

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "models/quote_text.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/io.h"
#include "tools/heddle/kernel_cases.h"
#include "tools/heddle/read_speed.h"

namespace heddle::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct KernelTiming {
  PreparedKernel kernel;
  double seconds = 0.0;  // the best run
};

double time_of(const PreparedKernel& kernel, std::int64_t repetition) {
  const auto start = Clock::now();
  kernel.run(repetition);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The case's largest size, or for slow kernels the power of two whose run takes about `budget`
/// seconds, found from small ones; then the best of the runs of that size in two budgets.
KernelTiming measure(const KernelCase& c, Workbench& bench, double budget) {
  std::int64_t size = 1;
  std::int64_t repetition = 0;
  KernelTiming timing;
  for (;;) {
    timing.kernel = c.prepare(bench, size);
    double spent = time_of(timing.kernel, repetition++);  // scratch memory grows, code is read
    timing.seconds = spent;
    for (int i = 0; i < 3 && spent < 3 * budget; ++i) {  // one may have been interrupted
      const double seconds = time_of(timing.kernel, repetition++);
      timing.seconds = std::min(timing.seconds, seconds);
      spent += seconds;
    }
    // A small run costs more per unit than a large one: not too far at once.
    const double more = std::min(budget / std::max(timing.seconds, 1e-7), 64.0);
    const double fits = static_cast<double>(size) * more;
    const auto next =
        2.0 * fits >= static_cast<double>(c.max_size)
            ? c.max_size
            : static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(fits)));
    if (next <= size) break;
    size = next;
  }
  double spent = timing.seconds;
  while (spent < 2 * budget) {
    const double seconds = time_of(timing.kernel, repetition++);
    timing.seconds = std::min(timing.seconds, seconds);
    spent += std::max(seconds, 1e-6);
  }
  return timing;
}

/// What the time would be if one ceiling were all that counts; the longer of the two decides.
struct Bound {
  std::string name;
  double seconds = 0.0;
};

Bound bound_of(const PreparedKernel& kernel, const Peak& peak, double read_speed) {
  Bound bound = {"memory", kernel.bytes / read_speed};
  const double arithmetic = kernel.operations / peak.operations_s;
  if (arithmetic > bound.seconds) bound = {std::string(peak.instruction), arithmetic};
  return bound;
}

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return text;
}

/// "a, b" of what the cases have, each once, in their order.
std::string known(const std::vector<KernelCase>& cases, std::string KernelCase::*part) {
  std::vector<std::string> words;
  for (const KernelCase& c : cases) {
    if (std::find(words.begin(), words.end(), c.*part) == words.end()) words.push_back(c.*part);
  }
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::vector<KernelCase> chosen_cases(const Arguments& args,
                                     const DeviceCaps& caps,
                                     std::size_t arena_bytes) {
  std::vector<KernelCase> cases = kernel_cases(caps, arena_bytes);
  if (args.operands().empty()) return cases;
  const std::string& filter = args.operands()[0];
  std::vector<KernelCase> chosen;
  for (const KernelCase& c : cases) {
    if (lower(c.name()).find(lower(filter)) != std::string::npos) chosen.push_back(c);
  }
  if (chosen.empty()) {
    throw bad_input(
        fmt::format("bench --kernels: FILTER {} is part of no OP/VARIANT/DTYPE (a model is not "
                    "taken); ops: {}; "
                    "variants: {}; dtypes: {}",
                    quote_text(filter), known(cases, &KernelCase::op),
                    known(cases, &KernelCase::variant), known(cases, &KernelCase::dtype)));
  }
  return chosen;
}

void check_flags(const Arguments& args) {
  for (const char* const name :
       {"n-prompt", "n-gen", "depth", "batch", "repetitions", "force-kernel"}) {
    if (args.has(name)) {
      throw bad_input(
          fmt::format("bench: --kernels and --{} exclude each other{}", name,
                      std::string_view(name) == "force-kernel" ? ": FILTER chooses variants" : ""));
    }
  }
  if (args.text("device").value_or("cpu") == "cuda") {
    throw bad_input("bench: --kernels runs CPU kernels, got --device cuda, allowed: cpu, auto");
  }
}

std::string gigas(double amount, double seconds) {
  return amount == 0.0 ? "-" : fmt::format("{:.1f}", amount / seconds / 1e9);
}

}  // namespace

int run_bench_kernels(const Arguments& args) {
  check_flags(args);
  const std::size_t arena_bytes = bench_arena_bytes();
  const std::vector<KernelCase> cases = chosen_cases(args, detect_cpu(), arena_bytes);
  const auto n_threads = static_cast<int>(args.integer("threads").value_or(0));
  const double budget = static_cast<double>(args.integer("kernel-ms").value_or(20)) * 1e-3;
  const bool json = args.on("json");
  Workbench bench(n_threads == 0 ? available_cores() : n_threads, arena_bytes);
  const int threads = bench.context.pool.size();
  const double read = measure_read_speed(threads);
  if (read <= 0.0) throw Error(ErrorKind::kMemory, "bench: too little memory to measure its speed");
  const std::vector<Peak> peaks = measure_peaks(bench.context.pool, bench.context.caps);
  std::string ceilings = fmt::format("memory read {:.1f} GB/s", read / 1e9);
  for (const Peak& peak : peaks) {
    ceilings += fmt::format(", {} {:.0f} GFLOP/s", peak.instruction, peak.operations_s / 1e9);
  }
  write_stderr(
      fmt::format("{}, threads {}: {}\n", bench.context.caps.describe(), threads, ceilings));
  constexpr std::string_view kRow = "{:<26} {:<42} {:>10} {:>7} {:>8}  {:<21} {:>5}\n";
  if (!json) {
    write_stdout(
        fmt::format(kRow, "op/variant/dtype", "shape", "us", "GB/s", "GFLOP/s", "bound", "share"));
  }
  Json rows = Json::array();
  ProgressLine progress;
  for (const KernelCase& c : cases) {
    progress.show(c.name());
    const KernelTiming timing = measure(c, bench, budget);
    progress.clear();
    const PreparedKernel& kernel = timing.kernel;
    const Bound bound = bound_of(kernel, peak_of(peaks, c.variant, c.arithmetic), read);
    const double share = bound.seconds / timing.seconds;
    if (!json) {
      write_stdout(
          fmt::format(kRow, c.name(), kernel.shape, fmt::format("{:.1f}", timing.seconds * 1e6),
                      gigas(kernel.bytes, timing.seconds), gigas(kernel.operations, timing.seconds),
                      bound.name, fmt::format("{:.0f} %", share * 100)));
    }
    Json row = {{"op", c.op},
                {"variant", c.variant},
                {"dtype", c.dtype},
                {"shape", kernel.shape},
                {"threads", threads},
                {"us", timing.seconds * 1e6},
                {"gb_s", kernel.bytes / timing.seconds / 1e9},
                {"gflop_s", nullptr},
                {"bound", bound.name},
                {"share", share}};
    if (kernel.operations > 0.0) row["gflop_s"] = kernel.operations / timing.seconds / 1e9;
    rows.push_back(std::move(row));
  }
  if (json) write_json(rows);
  return 0;
}

}  // namespace heddle::cli
