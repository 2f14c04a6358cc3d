#include "engine/selftest.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "base/philox.h"
#include "engine/engine.h"

namespace heddle {
namespace {

/// A run's trace: a hash of every logits row by position, and the generated tokens.
struct Trace {
  std::map<std::int64_t, std::uint64_t> rows;
  std::vector<std::int32_t> tokens;
};

struct Task {
  std::vector<std::int32_t> prompt;
  std::int64_t max_new_tokens = 0;
  SamplingParams sampling = {};
};

std::uint64_t hash_row(std::span<const float> row) {
  std::uint64_t h = 0xcbf29ce484222325U;
  for (const float x : row) h = (h ^ std::bit_cast<std::uint32_t>(x)) * 0x100000001b3U;
  return h;
}

Request request_for(const Task& task, Trace& trace) {
  return {.prompt = task.prompt,
          .sampling = task.sampling,
          .max_new_tokens = task.max_new_tokens,
          .ignore_eos = true,
          .on_logits =
              [&trace](std::int64_t position, std::span<const float> logits) {
                trace.rows[position] = hash_row(logits);
              },
          .all_logits = true};
}

EventSink sink_for(Trace& trace) {
  return [&trace](const RequestEvent& event) {
    if (event.token) trace.tokens.push_back(*event.token);
    if (event.finish == FinishReason::kError) throw runtime_failure(event.error);
  };
}

Trace run_one(Engine& engine, const Task& task) {
  Trace trace;
  engine.submit(request_for(task, trace), sink_for(trace));
  engine.run();
  return trace;
}

std::vector<Trace> run_together(Engine& engine, const std::vector<Task>& tasks) {
  std::vector<Trace> traces(tasks.size());
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    engine.submit(request_for(tasks[i], traces[i]), sink_for(traces[i]));
  }
  engine.run();
  return traces;
}

/// "" if equal, else where they part.
std::string difference(const Trace& want, const Trace& got) {
  for (const auto& [position, hash] : want.rows) {
    const auto it = got.rows.find(position);
    if (it == got.rows.end()) return fmt::format("no logits at position {}", position);
    if (it->second != hash) return fmt::format("logits differ first at position {}", position);
  }
  if (want.rows.size() != got.rows.size()) return "more rows than wanted";
  for (std::size_t i = 0; i < want.tokens.size(); ++i) {
    if (i >= got.tokens.size() || got.tokens[i] != want.tokens[i]) {
      return fmt::format("generated token {} differs", i);
    }
  }
  return {};
}

/// Prompts of random tokens: equalities need no sense, and every checkpoint has a vocabulary.
Task random_task(std::uint32_t stream, std::int64_t length, std::int64_t n_new, int vocab) {
  Task task;
  task.max_new_tokens = n_new;
  for (std::int64_t i = 0; i < length; ++i) {
    const double u = philox_uniform(20261124, stream, static_cast<std::uint64_t>(i));
    task.prompt.push_back(static_cast<std::int32_t>(u * vocab));
  }
  return task;
}

class Selftest {
 public:
  Selftest(const EngineOptions& options, bool quick) : options_(options) {
    const std::int64_t length = quick ? 70 : 300;
    const std::int64_t n_new = quick ? 8 : 32;
    options_.max_sequences = 4;
    options_.max_step_tokens = 0;
    options_.max_chunk = 0;
    options_.kv_tokens = 0;
    options_.context = 2 * (length + n_new);
    base_ = Engine::load(options_);
    const int vocab = base_->config().vocab;
    tasks_ = {random_task(0, length, n_new, vocab), random_task(1, 3, n_new, vocab),
              random_task(2, length / 2 + 1, n_new, vocab), random_task(3, 17, n_new, vocab)};
    tasks_[2].sampling = {.temperature = 0.9F, .top_k = 40, .top_p = 0.95F, .seed = 7};
    for (const Task& task : tasks_) alone_.push_back(run_one(*base_, task));
  }

  std::vector<SelftestRow> run() {
    for (const std::int64_t chunk : {1, 7, 64}) {
      row(fmt::format("chunks of {} = one shot", chunk),
          [&] { return differs_with([&](EngineOptions& o) { o.max_chunk = chunk; }); });
    }
    row("batched = alone", [this] { return batched(*base_); });
    row("batched in chunks of 13 = alone",
        [this] { return batched(*changed([](EngineOptions& o) { o.max_chunk = 13; })); });
    const int threads = base_->options().backend.threads == 1 ? 2 : 1;
    row(fmt::format("{} thread{} = {}", threads, threads == 1 ? "" : "s",
                    base_->options().backend.threads),
        [&] { return differs_with([&](EngineOptions& o) { o.backend.threads = threads; }); });
    row("shuffled cache blocks = in order",
        [this] { return differs_with([](EngineOptions& o) { o.shuffle_blocks = 99; }); });
    for (const int block : {16, 32, 64}) {
      if (block == base_->options().block_tokens) continue;
      row(fmt::format("cache blocks of {} tokens = of {}", block, base_->options().block_tokens),
          [&] { return differs_with([&](EngineOptions& o) { o.block_tokens = block; }); });
    }
    row("decoded = prefilled", [this] { return decoded_is_prefilled(); });
    row("preempted = uninterrupted", [this] { return preempted(); });
    row("continued = cold", [this] { return continued(); });
    variants();
    row(
        "fast kernels near exact arithmetic", [this] { return near_exact(); }, true);
    return std::move(rows_);
  }

 private:
  /// `check` returns "" or what is wrong; with `measured` it returns a figure and throws when
  /// wrong.
  void row(const std::string& title,
           const std::function<std::string()>& check,
           bool measured = false) {
    const auto start = std::chrono::steady_clock::now();
    SelftestRow result{.name = title};
    try {
      result.detail = check();
      result.ok = measured || result.detail.empty();
    } catch (const Error& e) {
      result.detail = e.what();
    }
    if (result.ok && result.detail.empty()) {
      result.detail = fmt::format("{} rows of logits", alone_.front().rows.size());
    }
    const auto end = std::chrono::steady_clock::now();
    result.seconds = std::chrono::duration<double>(end - start).count();
    rows_.push_back(std::move(result));
  }

  std::unique_ptr<Engine> changed(const std::function<void(EngineOptions&)>& change) const {
    EngineOptions options = options_;
    change(options);
    return Engine::load(options);
  }

  std::string differs_with(const std::function<void(EngineOptions&)>& change) const {
    return difference(alone_[0], run_one(*changed(change), tasks_[0]));
  }

  std::string batched(Engine& engine) const {
    const std::vector<Trace> together = run_together(engine, tasks_);
    for (std::size_t i = 0; i < together.size(); ++i) {
      const std::string text = difference(alone_[i], together[i]);
      if (!text.empty()) return fmt::format("request {}: {}", i, text);
    }
    return {};
  }

  std::string decoded_is_prefilled() const {
    Task all = tasks_[0];
    all.prompt.insert(all.prompt.end(), alone_[0].tokens.begin(), alone_[0].tokens.end() - 1);
    all.max_new_tokens = 1;
    Trace want = alone_[0];
    want.tokens = {alone_[0].tokens.back()};
    return difference(want, run_one(*base_, all));
  }

  std::string preempted() const {
    for (const int after : {1, 2, 5}) {
      Trace trace;
      const RequestId id = base_->submit(request_for(tasks_[0], trace), sink_for(trace));
      for (int i = 0; i < after; ++i) base_->step();
      if (!base_->preempt(id)) return "the request was not running";
      base_->run();
      const std::string text = difference(alone_[0], trace);
      if (!text.empty()) return fmt::format("after {} steps: {}", after, text);
    }
    return {};
  }

  /// A first turn is kept, a second one goes on from its cache: equal to computing all of it at
  /// once.
  std::string continued() const {
    Task second = tasks_[0];
    second.prompt.insert(second.prompt.end(), alone_[0].tokens.begin(), alone_[0].tokens.end());
    second.prompt.insert(second.prompt.end(), tasks_[3].prompt.begin(), tasks_[3].prompt.end());
    Trace want = run_one(*base_, second);
    Trace first;
    Request request = request_for(tasks_[0], first);
    request.keep = true;
    const RequestId id = base_->submit(std::move(request), sink_for(first));
    base_->run();
    const std::int64_t reused_before = base_->stats().reused_tokens;
    Trace got;
    request = request_for(second, got);
    request.continue_from = id;
    base_->submit(std::move(request), sink_for(got));
    base_->run();
    const std::int64_t reused = base_->stats().reused_tokens - reused_before;
    if (reused < static_cast<std::int64_t>(tasks_[0].prompt.size())) return "nothing was reused";
    std::erase_if(want.rows, [&](const auto& entry) { return entry.first < reused; });
    return difference(want, got);
  }

  void variants() {
    std::vector<std::string> names;
    for (const auto& [op, variants] : list_variants(DeviceKind::kCpu)) {
      if (op == "matmul") names = variants;
    }
    for (const std::string& variant : names) {
      if (variant == "ref") continue;
      const auto force = [&](EngineOptions& o) { o.backend.forced = {{"matmul", variant}}; };
      row(fmt::format("matmul {} = default", variant), [&]() -> std::string {
        std::unique_ptr<Engine> engine;
        try {
          engine = changed(force);
        } catch (const Error&) {
          return {};  // not on this processor
        }
        return difference(alone_[1], run_one(*engine, tasks_[1]));
      });
    }
  }

  /// Mean negative log-likelihood of a short prompt with the default kernels and with `ref`.
  std::string near_exact() const {
    const auto nll = [&](Engine& engine) {
      double sum = 0.0;
      Request request{.prompt = tasks_[3].prompt, .score = true};
      engine.submit(std::move(request), [&](const RequestEvent& event) {
        for (const float score : event.scores) sum -= score;
      });
      engine.run();
      return sum / static_cast<double>(tasks_[3].prompt.size() - 1);
    };
    const double fast = nll(*base_);
    const double exact = nll(*changed([](EngineOptions& o) {
      o.backend.forced = {{"all", "ref"}};
      o.kv_dtype = DType::kF32;
    }));
    const std::string figure = fmt::format("nll {:.7f}, exact {:.7f}", fast, exact);
    // 2e-4 of the perplexity; random tokens have a large nll, so the bound grows with it.
    if (!(std::abs(fast - exact) <= 2e-4 * std::max(1.0, exact))) throw runtime_failure(figure);
    return figure;
  }

  EngineOptions options_;
  std::unique_ptr<Engine> base_;
  std::vector<Task> tasks_;
  std::vector<Trace> alone_;
  std::vector<SelftestRow> rows_;
};

}  // namespace

std::vector<SelftestRow> run_selftest(const EngineOptions& options, bool quick) {
  return Selftest(options, quick).run();
}

}  // namespace heddle
