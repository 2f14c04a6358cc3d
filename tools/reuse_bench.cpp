// Time of the scheduler alone, with a decoder that computes nothing, and of copies of recurrent
// states: docs/benchmarks/scheduler.md. Built with the tests.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "engine/cache_storage.h"
#include "scheduler/scheduler.h"

namespace heddle {
namespace {

using Clock = std::chrono::steady_clock;

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

std::vector<Token> prompt_of(std::int64_t n, std::uint32_t salt) {
  std::vector<Token> prompt;
  std::uint32_t x = salt * 2654435761U + 1;
  for (std::int64_t i = 0; i < n; ++i) {
    x = x * 1664525U + 1013904223U;
    prompt.push_back(static_cast<Token>(x >> 15U));
  }
  return prompt;
}

SchedulerOptions options_for(int n_running, std::int64_t context, bool states) {
  // The prompts, and 2048 tokens more of each.
  const std::int64_t blocks = (context / 16 + 130) * (n_running + 1);
  return {.max_step_tokens = 65536,
          .max_step_outputs = 2048,
          .max_running = n_running,
          .max_chunk = 65536,
          .max_sequence_tokens = 2 * context,
          .block_tokens = 16,
          .n_blocks = static_cast<int>(blocks),
          .n_state_slots = states ? 2 * n_running : 0,
          .state_block_tokens = states ? 16 : 1,
          .cache_key = {1, 2}};
}

bool step(Scheduler& scheduler) {
  const std::optional<BatchPlan> plan = scheduler.plan();
  if (!plan) return false;
  scheduler.commit(*plan, std::vector<Token>(static_cast<std::size_t>(plan->n_samples), 7));
  return true;
}

/// Runs a prompt to its first token.
void prefill(Scheduler& scheduler, SequenceId id) {
  while (scheduler.find(id)->n_generated() == 0) step(scheduler);
}

double percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

void decode_steps(int n_running, std::int64_t context, bool states) {
  Scheduler scheduler(options_for(n_running, context, states));
  std::vector<SequenceId> ids;
  for (int i = 0; i < n_running; ++i) {
    ids.push_back(scheduler.add(
        {.prompt = prompt_of(context, static_cast<std::uint32_t>(i)), .max_new_tokens = context}));
  }
  for (const SequenceId id : ids) prefill(scheduler, id);
  // Sequences are at different places in their blocks, as in service.
  std::vector<double> times;
  for (int i = 0; i < 2000; ++i) {
    const auto start = Clock::now();
    step(scheduler);
    times.push_back(microseconds_since(start));
  }
  const double mean = std::accumulate(times.begin(), times.end(), 0.0) / 2000.0;
  fmt::print("decode {:5} x {:6} tokens{}: plan + commit {:7.1f} us, median {:7.1f}, p99 {:7.1f}\n",
             n_running, context, states ? ", states" : "        ", mean, percentile(times, 0.5),
             percentile(times, 0.99));
}

void lookups(std::int64_t n_tokens, bool states) {
  Scheduler scheduler(options_for(2, n_tokens, states));
  const std::vector<Token> prompt = prompt_of(n_tokens, 5);
  const auto serve = [&](const std::vector<Token>& tokens, bool flush) {
    const SequenceId id = scheduler.add({.prompt = tokens, .max_new_tokens = 1});
    if (flush) {  // the processor's caches
      std::vector<std::uint64_t> other(std::size_t{16} << 20U, 1);
      if (std::accumulate(other.begin(), other.end(), std::uint64_t{0}) == 0) std::abort();
    }
    const auto start = Clock::now();
    const std::optional<BatchPlan> plan = scheduler.plan();
    const double time = microseconds_since(start);
    scheduler.commit(*plan, std::vector<Token>(static_cast<std::size_t>(plan->n_samples), 7));
    prefill(scheduler, id);
    scheduler.remove(id);
    return time;
  };
  serve(prompt, false);
  std::vector<Token> later = prompt;
  later.push_back(3);
  std::vector<double> warm;
  std::vector<double> cold;
  for (int i = 0; i < 21; ++i) {
    later.back() = i;
    warm.push_back(serve(later, false));
    later.back() = 1000 + i;
    cold.push_back(serve(later, true));
  }
  fmt::print("lookup and admission of {} tokens{}: {:.0f} us, after other work {:.0f} us\n",
             n_tokens, states ? ", states" : "", percentile(warm, 0.5), percentile(cold, 0.5));
}

/// Of 16 layers like MiniMax's: a snapshot and its way back, beside memcpy of as many bytes.
void state_copies() {
  const std::unique_ptr<Backend> backend = make_backend({.threads = 1});
  CacheNeed layer;
  layer.recurrent = {{.n_heads = 64, .key_dim = 128, .value_dim = 128}};
  CacheStorage cache(std::vector<CacheNeed>(16, layer), {.n_state_slots = 2, .n_host_slots = 1},
                     *backend);
  std::vector<std::byte> from(cache.slot_bytes(), std::byte{1});
  std::vector<std::byte> to(cache.slot_bytes(), std::byte{2});
  cache.write_slot(0, from);
  cache.write_slot(1, to);
  const auto rate = [&](const auto& copy) {
    std::vector<double> times;
    for (int i = 0; i < 11; ++i) {
      const auto start = Clock::now();
      copy();
      times.push_back(microseconds_since(start));
    }
    return static_cast<double>(from.size()) / percentile(times, 0.5) / 1e3;
  };
  using What = BatchPlan::Copy::What;
  const CachePlace host{.id = 0, .on_host = true};
  const double plain = rate([&] { std::memcpy(to.data(), from.data(), from.size()); });
  const double device = rate([&] { cache.copy({{What::kState, {.id = 0}, {.id = 1}}}); });
  const double out = rate([&] { cache.copy({{What::kState, {.id = 1}, host}}); });
  const double back = rate([&] { cache.copy({{What::kState, host, {.id = 1}}}); });
  fmt::print(
      "states of {:.1f} MiB: memcpy {:.1f} GB/s; slot to slot {:.1f} ({:.0f} %), to the host "
      "{:.1f} ({:.0f} %), back {:.1f} ({:.0f} %)\n",
      static_cast<double>(from.size()) / (1 << 20), plain, device, 100 * device / plain, out,
      100 * out / plain, back, 100 * back / plain);
}

}  // namespace
}  // namespace heddle

int main() {
  for (const bool states : {false, true}) {
    heddle::decode_steps(1, 32768, states);
    heddle::decode_steps(256, 32768, states);
    heddle::decode_steps(1024, 8192, states);
    heddle::lookups(100000, states);
  }
  heddle::state_copies();
}
