// The rows of `heddle selftest`, longer than a file should be: they share one runner, its engines
// and its traces, and read one after the other.

#include "engine/selftest.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "base/philox.h"
#include "engine/cache_check.h"
#include "engine/cache_rings.h"
#include "engine/engine.h"
#include "kernels/api/linear_attention.h"
#include "models/checkpoint.h"

namespace heddle {
namespace {

/// A run's trace: a hash of every logits row by position, and the generated tokens.
struct Trace {
  std::map<std::int64_t, std::uint64_t> rows;
  std::vector<std::int32_t> tokens;
  std::string error;
};

struct Task {
  std::vector<std::int32_t> prompt;
  std::int64_t max_new_tokens = 0;
  SamplingParams sampling = {};
};

Request request_for(const Task& task, Trace& trace) {
  return {.prompt = task.prompt,
          .sampling = task.sampling,
          .max_new_tokens = task.max_new_tokens,
          .ignore_eos = true,
          .on_logits =
              [&trace](std::int64_t position, std::span<const float> logits) {
                trace.rows[position] = hash_logits(logits);
              },
          .all_logits = true};
}

EventSink sink_for(Trace& trace) {
  return [&trace](const RequestEvent& event) {
    if (event.token) trace.tokens.push_back(*event.token);
    trace.error = event.error;
  };
}

Trace run_one(Engine& engine, const Task& task) {
  Trace trace;
  engine.submit(request_for(task, trace), sink_for(trace));
  engine.run();
  return trace;
}

/// With what is in the cache: only rows from the prompt's end on are sure to be computed and shown.
/// `at`: where a snapshot is asked for; 0: nowhere.
Trace run_cached(Engine& engine, const Task& task, std::int64_t at = 0) {
  Trace trace;
  Request request = request_for(task, trace);
  request.all_logits = false;
  if (at > 0) request.snapshot_at = {at};
  engine.submit(std::move(request), sink_for(trace));
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

/// The number of equal rows; throws where they part.
std::size_t compare(const Trace& want, const Trace& got) {
  for (const Trace* trace : {&want, &got}) {
    if (!trace->error.empty()) throw runtime_failure(trace->error);
  }
  for (const auto& [position, hash] : want.rows) {
    const auto it = got.rows.find(position);
    if (it == got.rows.end()) {
      throw runtime_failure(fmt::format("no logits at position {}", position));
    }
    if (it->second != hash) {
      throw runtime_failure(fmt::format("logits differ first at position {}", position));
    }
  }
  if (want.rows.size() != got.rows.size()) throw runtime_failure("more rows than wanted");
  for (std::size_t i = 0; i < want.tokens.size(); ++i) {
    if (i >= got.tokens.size() || got.tokens[i] != want.tokens[i]) {
      throw runtime_failure(fmt::format("generated token {} differs", i));
    }
  }
  return want.rows.size();
}

std::string rows_text(std::size_t n) {
  return fmt::format("{} rows of logits", n);
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

using Change = std::function<void(EngineOptions&)>;

/// A folder of its own for a session's file; gone with the object.
class SessionFolder {
 public:
  SessionFolder() {
    std::error_code error;
    path_ = (std::filesystem::temp_directory_path(error) / "heddle_selftest_XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr) {
      throw runtime_failure(
          fmt::format("{}: no folder can be made: {}", path_, std::strerror(errno)));
    }
  }
  SessionFolder(const SessionFolder&) = delete;
  SessionFolder& operator=(const SessionFolder&) = delete;
  ~SessionFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string file() const { return path_ + "/session"; }

 private:
  std::string path_;
};

class Selftest {
 public:
  Selftest(const EngineOptions& options, bool quick, Change sabotage)
      : options_(options), sabotage_(std::move(sabotage)) {
    // A context of 8 is the least that has room for a prompt and an answer.
    const ModelConfig config = open_model(options).config;
    const std::int64_t context = config.context;
    const std::int64_t n_new = std::min<std::int64_t>(quick ? 8 : 32, context / 4);
    const std::int64_t length = std::min<std::int64_t>(quick ? 70 : 300, context / 2 - n_new);
    options_.max_sequences = 4;
    options_.max_step_tokens = 0;
    options_.max_chunk = 0;
    options_.context = 2 * (length + n_new);
    options_.kv_tokens = options_.context * options_.max_sequences;
    if (length < 1) throw bad_input("selftest needs a context of at least 8 tokens");
    // So long that layers with a window keep no more than that, where the model has such layers.
    for (const std::int64_t least : ring_contexts(config)) {
      if (least > context) continue;
      options_.context = std::max(options_.context, least);
      break;
    }
    base_ = Engine::load(options_);
    const int vocab = base_->config().vocab;
    const auto at_most = [&](std::int64_t n) { return std::min(n, length); };
    tasks_ = {random_task(0, length, n_new, vocab), random_task(1, at_most(3), n_new, vocab),
              random_task(2, at_most(length / 2 + 1), n_new, vocab),
              random_task(3, at_most(17), n_new, vocab)};
    tasks_[2].sampling = {.temperature = 0.9F, .top_k = 40, .top_p = 0.95F, .seed = 7};
    for (const Task& task : tasks_) alone_.push_back(run_one(*base_, task));
  }

  std::vector<SelftestRow> run() {
    for (const std::int64_t chunk : {1, 7, 64, 100}) {
      same(fmt::format("chunks of {} = one shot", chunk),
           [&](EngineOptions& o) { o.max_chunk = chunk; });
    }
    same("chunks of random size = one shot", [](EngineOptions& o) { o.random_chunks = 5; });
    row("batched = alone", [this] { return batched({}); });
    row("batched in chunks of 13 = alone",
        [this] { return batched([](EngineOptions& o) { o.max_chunk = 13; }); });
    const int threads = base_->options().backend.threads == 1 ? 2 : 1;
    same(fmt::format("{} thread{} = {}", threads, threads == 1 ? "" : "s",
                     base_->options().backend.threads),
         [&](EngineOptions& o) { o.backend.threads = threads; });
    same("shuffled cache blocks = in order", [](EngineOptions& o) { o.shuffle_blocks = 99; });
    for (const int block : {16, 32, 64}) {
      if (block == base_->options().block_tokens) continue;
      same(fmt::format("cache blocks of {} tokens = of {}", block, base_->options().block_tokens),
           [&](EngineOptions& o) { o.block_tokens = block; });
    }
    row("decoded = prefilled", [this] { return decoded_is_prefilled(); });
    row("preempted = uninterrupted", [this] { return preempted(); });
    row("preempted and swapped = uninterrupted", [this] { return swapped(); });
    row("cache hit = cold", [this] { return reused(); });
    row("4 choices of a prompt = 4 requests", [this] { return forked(); });
    row("restored session = continuous", [this] { return restored(); });
    row("replay from a snapshot = cold", [this] { return replayed(); });
    variants();
    row("fast kernels near exact arithmetic", [this] { return near_exact(); });
    return std::move(rows_);
  }

 private:
  /// `check` returns what it compared and throws what is wrong.
  void row(const std::string& title, const std::function<std::string()>& check) {
    const auto start = std::chrono::steady_clock::now();
    SelftestRow result{.name = title};
    try {
      result.detail = check();
      result.ok = true;
    } catch (const Error& e) {
      result.detail = e.what();
    }
    const auto end = std::chrono::steady_clock::now();
    result.seconds = std::chrono::duration<double>(end - start).count();
    rows_.push_back(std::move(result));
  }

  /// A row: the first task with changed options gives the same bits.
  void same(const std::string& title, const Change& change) {
    row(title, [&] { return rows_text(compare(alone_[0], run_one(*changed(change), tasks_[0]))); });
  }

  std::unique_ptr<Engine> changed(const Change& change) const {
    EngineOptions options = options_;
    if (change) change(options);
    if (sabotage_) sabotage_(options);
    return Engine::load(options);
  }

  std::string batched(const Change& change) const {
    const std::vector<Trace> together = run_together(*changed(change), tasks_);
    std::size_t n = 0;
    for (std::size_t i = 0; i < together.size(); ++i) {
      try {
        n += compare(alone_[i], together[i]);
      } catch (const Error& e) {
        throw runtime_failure(fmt::format("request {}: {}", i, e.what()));
      }
    }
    return fmt::format("{} of {} requests", rows_text(n), together.size());
  }

  std::string decoded_is_prefilled() const {
    Task all = tasks_[0];
    all.prompt.insert(all.prompt.end(), alone_[0].tokens.begin(), alone_[0].tokens.end() - 1);
    all.max_new_tokens = 1;
    Trace want = alone_[0];
    want.tokens = {alone_[0].tokens.back()};
    return rows_text(compare(want, run_one(*changed({}), all)));
  }

  std::string preempted() const {
    const std::unique_ptr<Engine> engine = changed({});
    std::size_t n = 0;
    for (const int after : {1, 2, 5}) {
      Trace trace;
      const RequestId id = engine->submit(request_for(tasks_[0], trace), sink_for(trace));
      for (int i = 0; i < after; ++i) engine->step();
      // A checkpoint of a tiny context may have finished by then.
      if (engine->preempt(id)) n += 1;
      engine->run();
      compare(alone_[0], trace);
    }
    if (n == 0) throw runtime_failure("the request was never running");
    return fmt::format("{} preemptions, {} each", n, rows_text(alone_[0].rows.size()));
  }

  /// A long prompt, computed in small chunks, pushes a younger request out of a cache that has room
  /// for the longer of both alone: what was computed of it goes to host memory, comes back and is
  /// not computed again.
  std::string swapped() const {
    constexpr int kBlock = 16;
    const auto need = [](const Task& task) {  // the last token is never computed
      return static_cast<std::int64_t>(task.prompt.size()) + task.max_new_tokens - 1;
    };
    if (need(tasks_[0]) <= kBlock) {
      return fmt::format("skipped: in a context of {} tokens two requests fit into one block each",
                         options_.context);
    }
    const std::unique_ptr<Engine> engine = changed([&](EngineOptions& o) {
      o.block_tokens = kBlock;
      o.kv_tokens = (need(tasks_[0]) + kBlock) / kBlock * kBlock;
      o.max_chunk = kBlock;
      o.max_sequences = 2;
      o.snapshots = 0;  // two states: the long prompt's end takes the place of the other's
      const MemoryPlan& memory = base_->memory();
      o.host_cache = std::max(std::uint64_t{1} << 28U, 2 * (memory.state_bytes_per_sequence +
                                                            memory.window_bytes_per_sequence));
    });
    const std::vector<std::size_t> order = {0, 2, 1, 3};
    std::vector<Trace> traces(tasks_.size());
    for (const std::size_t i : order) {
      Request request = request_for(tasks_[i], traces[i]);
      request.all_logits = false;
      engine->submit(std::move(request), sink_for(traces[i]));
    }
    engine->run();
    std::size_t n = 0;
    for (std::size_t i = 0; i < tasks_.size(); ++i) {
      n += compare(without_prompt(alone_[i], tasks_[i]), traces[i]);
    }
    const EngineStats s = engine->stats();
    const std::string seen = fmt::format(
        "{} preemptions, {} blocks and {} states to host memory, {} and {} back", s.preemptions,
        s.moved_blocks, s.moved_snapshots, s.returned_blocks, s.returned_snapshots);
    const bool states = s.state_slots == 0 || (s.moved_snapshots > 0 && s.returned_snapshots > 0);
    if (s.preemptions == 0 || s.moved_blocks == 0 || s.returned_blocks == 0 || !states) {
      throw runtime_failure("not swapped: " + seen);
    }
    return fmt::format("{}, {}", seen, rows_text(n));
  }

  /// Of the rows only those that a cached run shows, too: the prompt's last and the answer's.
  static Trace without_prompt(Trace trace, const Task& task) {
    const auto last = static_cast<std::int64_t>(task.prompt.size()) - 1;
    std::erase_if(trace.rows, [&](const auto& entry) { return entry.first < last; });
    return trace;
  }
  Trace run_cold(const Task& task) const { return without_prompt(run_one(*base_, task), task); }

  /// Keys and values are known further than a state is: what lies between is computed again, into
  /// the cache that has it.
  std::string replayed() const {
    const std::unique_ptr<Engine> engine = changed({});
    const auto size = static_cast<std::int64_t>(tasks_[0].prompt.size());
    if (engine->stats().state_slots == 0) {
      return "nothing to replay: no layer keeps a recurrent state";
    }
    if (size < 2 * kLinearBlock + 3) {
      return fmt::format("a context of {} tokens is too short for it", options_.context);
    }
    const std::int64_t at = size / 4 / kLinearBlock * kLinearBlock + kLinearBlock + 3;
    run_cached(*engine, tasks_[0], at);
    std::size_t n = 0;
    // The first departs just before what the states at the prompt's end serve.
    for (const std::int64_t depart : {(size - 1) / kLinearBlock * kLinearBlock - 1, at + 1}) {
      Task task = tasks_[0];
      for (auto i = static_cast<std::size_t>(depart); i < task.prompt.size(); ++i) {
        task.prompt[i] = (task.prompt[i] + 1) % base_->config().vocab;
      }
      const EngineStats before = engine->stats();
      n += compare(run_cold(task), run_cached(*engine, task));
      const EngineStats after = engine->stats();
      if (after.replayed_tokens == before.replayed_tokens ||
          after.cached_tokens == before.cached_tokens) {
        throw runtime_failure(
            fmt::format("departing at {} with a state at {}, {} tokens were cached and {} replayed",
                        depart, at, after.cached_tokens - before.cached_tokens,
                        after.replayed_tokens - before.replayed_tokens));
      }
    }
    return fmt::format("{} after {} cached and {} replayed tokens", rows_text(n),
                       engine->stats().cached_tokens, engine->stats().replayed_tokens);
  }

  /// Prompts that depart at many places from one that was computed: equal to computing them cold.
  /// Rows that are reused have no logits to show, so those of the prompt's end and the answer are
  /// compared.
  std::string reused() const {
    const std::unique_ptr<Engine> engine = changed({});
    Task known = tasks_[0];
    known.prompt.insert(known.prompt.end(), alone_[0].tokens.begin(), alone_[0].tokens.end());
    run_cached(*engine, tasks_[0]);
    std::size_t n = 0;
    const auto size = static_cast<std::int64_t>(known.prompt.size());
    for (const std::int64_t depart : {size, size - 1, size * 2 / 3, size / 2, size / 2, size / 3}) {
      Task task = known;
      task.prompt.resize(static_cast<std::size_t>(std::max<std::int64_t>(1, depart)));
      task.prompt.insert(task.prompt.end(), tasks_[3].prompt.begin(), tasks_[3].prompt.end());
      task.prompt.resize(std::min(task.prompt.size(), known.prompt.size()));
      n += compare(run_cold(task), run_cached(*engine, task));
    }
    const EngineStats stats = engine->stats();
    if (stats.cached_tokens < size) throw runtime_failure("nothing was reused");
    return fmt::format("{} after {} cached and {} replayed tokens", rows_text(n),
                       stats.cached_tokens, stats.replayed_tokens);
  }

  /// Choices share the prompt: each gives the tokens and log probabilities of a request alone.
  std::string forked() const {
    constexpr std::uint32_t kChoices = 4;
    std::vector<Trace> together(kChoices);
    const auto request_of = [this](std::uint32_t choice, int n) {
      return Request{.prompt = tasks_[2].prompt,
                     .sampling = tasks_[2].sampling,
                     .max_new_tokens = tasks_[2].max_new_tokens,
                     .ignore_eos = true,
                     .n_logprobs = 20,
                     .n = n,
                     .choice = choice,
                     .reuse = n > 1};
    };
    const auto note = [](Trace& trace, const RequestEvent& event) {
      std::vector<float> row;
      for (const TokenLogprob& top : event.top_logprobs) row.push_back(top.logprob);
      if (event.token) {
        trace.rows[static_cast<std::int64_t>(trace.tokens.size())] = hash_logits(row);
        trace.tokens.push_back(*event.token);
      }
      trace.error = event.error;
    };
    const std::unique_ptr<Engine> engine = changed({});
    engine->submit(request_of(0, kChoices),
                   [&](const RequestEvent& event) { note(together.at(event.choice), event); });
    engine->run();
    std::size_t n = 0;
    for (std::uint32_t choice = 0; choice < kChoices; ++choice) {
      Trace alone;
      base_->submit(request_of(choice, 1), [&](const RequestEvent& event) { note(alone, event); });
      base_->run();
      n += compare(alone, together[choice]);
    }
    const auto rows = static_cast<std::int64_t>(n + tasks_[2].prompt.size()) - kChoices;
    if (engine->stats().computed_tokens != rows) {
      throw runtime_failure(fmt::format("{} tokens were computed, {} would do",
                                        engine->stats().computed_tokens, rows));
    }
    return fmt::format("log probabilities of {} tokens", n);
  }

  /// A request that goes on from a session of another engine, saved by one with another size of
  /// blocks too: equal to computing all of it. Rows that are restored have no logits to show.
  std::string restored() const {
    Task all = tasks_[0];
    all.prompt.insert(all.prompt.end(), alone_[0].tokens.begin(), alone_[0].tokens.end());
    all.prompt.insert(all.prompt.end(), tasks_[1].prompt.begin(), tasks_[1].prompt.end());
    const Trace want = run_cold(all);
    const int own = base_->options().block_tokens;
    std::size_t n = 0;
    std::int64_t skipped = 0;
    for (const int block : {own, own == 32 ? 16 : 32}) {
      const Change other = [&](EngineOptions& o) { o.block_tokens = block; };
      const SessionFolder folder;
      auto saver = changed(other);
      run_cached(*saver, tasks_[0]);
      saver->save_session(folder.file(), all.prompt);
      saver.reset();
      const auto engine = changed({});
      const std::optional<SessionFile> file = SessionFile::open(folder.file());
      if (!file) throw runtime_failure("the session is not there");
      engine->restore_session(*file);
      n += compare(want, run_cached(*engine, all));
      skipped = engine->stats().cached_tokens;
      // The answer's last token was never computed.
      const auto known =
          static_cast<std::int64_t>(tasks_[0].prompt.size() + alone_[0].tokens.size());
      if (skipped != known - 1) {
        throw runtime_failure(
            fmt::format("{} tokens were skipped, not the {} saved", skipped, known - 1));
      }
    }
    return fmt::format("{} after {} skipped tokens", rows_text(n), skipped);
  }

  /// Every op that has the variant runs with it.
  void variants() {
    std::vector<std::string> names;
    for (const auto& [op, variants] : list_variants(DeviceKind::kCpu)) {
      for (const std::string& name : variants) {
        const bool known = std::find(names.begin(), names.end(), name) != names.end();
        if (!known && name != "ref") names.push_back(name);
      }
    }
    for (const std::string& variant : names) {
      const std::string title = fmt::format("kernels {} = default", variant);
      if (runs_on(variant, base_->backend().caps())) {
        same(title, [&](EngineOptions& o) { o.backend.forced = {{"all", variant}}; });
      } else {
        row(title, [] { return std::string("not on this processor"); });
      }
    }
  }

  /// Mean negative log-likelihood of a short prompt with the default kernels and with `ref`, both
  /// over keys in f32: rounding them to f16 may turn a close choice of experts, heads or blocks,
  /// which is no fault of the kernels.
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
    EngineOptions oracle = options_;
    oracle.backend.forced = {{"all", "ref"}};
    oracle.kv_dtype = DType::kF32;
    const double fast = nll(*changed([](EngineOptions& o) { o.kv_dtype = DType::kF32; }));
    const double exact = nll(*Engine::load(oracle));
    const std::string figure = fmt::format("nll {:.7f}, exact {:.7f}", fast, exact);
    // 2e-4 of the perplexity; random tokens have a large nll, so the bound grows with it.
    const double allowed = 2e-4 * std::max(1.0, exact);
    if (!(std::abs(fast - exact) <= allowed)) {
      throw runtime_failure(fmt::format("{}: they differ by {:.7f}, allowed {:.7f}", figure,
                                        std::abs(fast - exact), allowed));
    }
    return figure;
  }

  EngineOptions options_;
  Change sabotage_;
  std::unique_ptr<Engine> base_;
  std::vector<Task> tasks_;
  std::vector<Trace> alone_;
  std::vector<SelftestRow> rows_;
};

}  // namespace

std::vector<SelftestRow> run_selftest(const EngineOptions& options, bool quick) {
  return run_selftest(options, quick, {});
}

std::vector<SelftestRow> run_selftest(const EngineOptions& options,
                                      bool quick,
                                      const std::function<void(EngineOptions&)>& sabotage) {
  return Selftest(options, quick, sabotage).run();
}

}  // namespace heddle
