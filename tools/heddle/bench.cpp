#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

#include "base/error.h"
#include "engine/engine.h"
#include "models/checkpoint.h"
#include "models/mixers/mixer.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/io.h"
#include "tools/heddle/kv_bytes_read.h"
#include "tools/heddle/options.h"
#include "tools/heddle/read_speed.h"

namespace heddle::cli {
namespace {

using Clock = std::chrono::steady_clock;

/// One row: exactly one of n_prompt and n_gen is not 0.
struct BenchTest {
  std::int64_t n_prompt = 0;
  std::int64_t n_gen = 0;
  std::int64_t depth = 0;
  std::int64_t batch = 1;

  /// The engine samples after every prompt, and generates from a prompt of at least one token.
  std::int64_t longest() const { return depth + n_prompt + n_gen + 1; }
  double tokens() const { return static_cast<double>(batch * (n_prompt + n_gen)); }
  std::string label() const {
    std::string text = n_prompt > 0 ? fmt::format("pp{}", n_prompt) : fmt::format("tg{}", n_gen);
    if (batch > 1) text += fmt::format(" b{}", batch);
    if (depth > 0) text += fmt::format(" @ d{}", depth);
    return text;
  }
};

struct BenchRow {
  double tok_s = 0.0;
  double tok_s_std = 0.0;
  double bytes_s = 0.0;
};

std::vector<std::int64_t> list_or(const Arguments& args, const char* name, std::int64_t fallback) {
  return args.has(name) ? args.integers(name) : std::vector<std::int64_t>{fallback};
}

std::vector<BenchTest> tests_of(const Arguments& args) {
  std::vector<BenchTest> tests;
  for (const std::int64_t depth : list_or(args, "depth", 0)) {
    for (const std::int64_t batch : list_or(args, "batch", 1)) {
      for (const std::int64_t n : list_or(args, "n-prompt", 512)) {
        if (n > 0) tests.push_back({.n_prompt = n, .depth = depth, .batch = batch});
      }
      for (const std::int64_t n : list_or(args, "n-gen", 128)) {
        if (n > 0) tests.push_back({.n_gen = n, .depth = depth, .batch = batch});
      }
    }
  }
  if (tests.empty()) throw bad_input("bench: nothing to run: -p and -n are both 0");
  return tests;
}

/// Tensors of experts, each with the share of them that a token visits.
std::map<std::string, double> expert_shares(const Checkpoint& checkpoint) {
  std::map<std::string, double> shares;
  for (std::size_t i = 0; i < checkpoint.config.layers.size(); ++i) {
    const auto* const spec = std::get_if<MoeFfnSpec>(&checkpoint.config.layers[i].ffn);
    if (spec == nullptr) continue;
    const double share = static_cast<double>(spec->router.top_k) / spec->router.n_experts;
    const auto& names = std::get<MoeFfnNames>(checkpoint.names.layers[i].ffn);
    for (const auto* parts : {&names.gate, &names.up, &names.down}) {
      for (const TensorPart& part : *parts) shares[part.tensor] = share;
    }
  }
  return shares;
}

/// Bytes of the weights that a step of one token reads: all but the rows of an untied embedding
/// and the experts that it does not visit. Of a larger step they are the least.
std::uint64_t weight_bytes_per_step(const Checkpoint& checkpoint) {
  const std::map<std::string, double> experts = expert_shares(checkpoint);
  std::uint64_t bytes = 0;
  for (const StoredTensor& tensor : checkpoint.weights->tensors()) {
    if (!tensor.foreign.empty()) continue;
    if (tensor.name == checkpoint.names.embedding.tensor &&
        checkpoint.names.embedding.tensor != checkpoint.names.head.tensor) {
      continue;
    }
    const auto expert = experts.find(tensor.name);
    const double share = expert == experts.end() ? 1.0 : expert->second;
    bytes += static_cast<std::uint64_t>(share * static_cast<double>(tensor.view.bytes()));
  }
  return bytes;
}

class Bench {
 public:
  Bench(Engine& engine, std::uint64_t weight_bytes)
      : engine_(engine), weight_bytes_(weight_bytes) {}

  BenchRow run(const BenchTest& test, std::int64_t repetitions) {
    BenchTest warm_up = test;
    warm_up.n_gen = std::min<std::int64_t>(test.n_gen, 8);
    once(warm_up);
    std::vector<double> speeds;
    double bytes = 0.0;
    double seconds = 0.0;
    for (std::int64_t i = 0; i < repetitions; ++i) {
      const std::int64_t steps_before = engine_.stats().steps;
      const double s = once(test);
      speeds.push_back(test.tokens() / s);
      seconds += s;
      bytes += bytes_read(test, engine_.stats().steps - steps_before - depth_steps_);
    }
    BenchRow row;
    const auto n = static_cast<double>(speeds.size());
    for (const double speed : speeds) row.tok_s += speed / n;
    double square = 0.0;
    for (const double speed : speeds) square += (speed - row.tok_s) * (speed - row.tok_s);
    row.tok_s_std = speeds.size() > 1 ? std::sqrt(square / (n - 1)) : 0.0;
    row.bytes_s = bytes / seconds;
    return row;
  }

 private:
  std::vector<std::int32_t> random_tokens(std::int64_t n) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(n));
    for (std::int32_t& token : tokens) {
      token =
          static_cast<std::int32_t>(random_() % static_cast<std::uint64_t>(engine_.config().vocab));
    }
    return tokens;
  }

  RequestId submit(Request request) {
    request.ignore_eos = true;
    return engine_.submit(std::move(request), [this](const RequestEvent& event) {
      if (event.finish == FinishReason::kError) error_ = event.error;
    });
  }

  void run_all() {
    engine_.run();
    if (!error_.empty()) throw runtime_failure("bench: " + error_);
  }

  /// Seconds of the timed part: the depth is there before the clock starts.
  double once(const BenchTest& test) {
    std::vector<Request> requests(static_cast<std::size_t>(test.batch));
    engine_.clear_cache();  // so that memory in use stays the same
    const std::int64_t steps_before = engine_.stats().steps;
    for (Request& request : requests) {
      request.prompt = random_tokens(test.depth);
      if (test.depth > 0) {
        submit({.prompt = request.prompt, .max_new_tokens = 1});
      }
    }
    run_all();
    depth_steps_ = engine_.stats().steps - steps_before;
    for (Request& request : requests) {
      const auto more = random_tokens(std::max<std::int64_t>(test.n_prompt, 1));
      request.prompt.insert(request.prompt.end(), more.begin(), more.end());
      request.max_new_tokens = std::max<std::int64_t>(test.n_gen, 1);
    }
    const auto start = Clock::now();
    for (Request& request : requests) submit(std::move(request));
    run_all();
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  /// Every weight once a step; the state of a sequence, and the keys and values that its newest
  /// token sees, once for each of its steps.
  double bytes_read(const BenchTest& test, std::int64_t steps) const {
    const auto state = static_cast<double>(engine_.memory().state_bytes_per_sequence);
    double bytes = 0.0;  // of one sequence
    if (test.n_gen > 0) {
      for (std::int64_t i = 0; i < test.n_gen; ++i)
        bytes += state + kv_bytes_read(engine_, test.depth + 1 + i);
    } else {
      const std::int64_t chunk = engine_.options().max_chunk;
      for (std::int64_t done = 0; done < test.n_prompt;) {
        done = std::min(done + chunk, test.n_prompt);
        bytes += state + kv_bytes_read(engine_, test.depth + done);
      }
    }
    return static_cast<double>(steps) * static_cast<double>(weight_bytes_) +
           bytes * static_cast<double>(test.batch);
  }

  Engine& engine_;
  std::uint64_t weight_bytes_;
  std::int64_t depth_steps_ = 0;
  std::mt19937_64 random_{42};
  std::string error_;
};

}  // namespace

int run_bench(const Arguments& args) {
  if (args.on("kernels")) return run_bench_kernels(args);
  if (args.has("kernel-ms")) throw bad_input("bench: --kernel-ms needs --kernels");
  const std::vector<BenchTest> tests = tests_of(args);
  const bool json = args.on("json");
  EngineOptions options = engine_options(args);
  const bool planned = !options.model_config.empty();
  if (planned != args.on("random-weights")) {
    throw bad_input(planned
                        ? "bench: a model's --config needs --random-weights"
                        : "bench: --random-weights needs a model's --config, in place of MODEL");
  }
  if (args.has("layers") && !planned) throw bad_input("bench: --layers needs a model's --config");
  options.layers = static_cast<int>(args.integer("layers").value_or(0));
  options.any_context = true;
  for (const BenchTest& test : tests) {
    options.context = std::max(options.context, test.longest());
    options.max_sequences = std::max(options.max_sequences, test.batch);
    options.kv_tokens = std::max(options.kv_tokens, test.batch * (test.longest() + 64));
  }
  const std::uint64_t weight_bytes = weight_bytes_per_step(open_model(options));
  const std::unique_ptr<Engine> engine = Engine::load(options);
  const bool cuda = engine->backend().kind() == DeviceKind::kCuda;
  const int threads = engine->backend().threads();
  const double read = cuda ? measure_device_speed(engine->backend()) : measure_read_speed(threads);
  write_stderr(fmt::format("{}: {}; weights {:.1f} MB a step, memory read {:.1f} GB/s\n",
                           planned ? options.model_config : args.operands()[0],
                           engine->backend().describe(), static_cast<double>(weight_bytes) / 1e6,
                           read / 1e9));
  if (!json) {
    write_stdout(fmt::format("{:<22} {:>7} {:>10} {:>9} {:>9} {:>8}\n", "test", "threads", "tok/s",
                             "+-", "GB/s", "of read"));
  }
  Bench bench(*engine, weight_bytes);
  const std::int64_t repetitions = args.integer("repetitions").value_or(5);
  Json rows = Json::array();
  ProgressLine progress;
  for (const BenchTest& test : tests) {
    progress.show(test.label());
    const BenchRow row = bench.run(test, repetitions);
    progress.clear();
    const double share = read > 0.0 ? row.bytes_s / read : 0.0;
    if (!json) {
      write_stdout(fmt::format("{:<22} {:>7} {:>10.2f} {:>9.2f} {:>9.2f} {:>6.1f} %\n",
                               test.label(), threads, row.tok_s, row.tok_s_std, row.bytes_s / 1e9,
                               share * 100));
    }
    rows.push_back({{"test", test.label()},
                    {"threads", threads},
                    {"tok_s", row.tok_s},
                    {"tok_s_std", row.tok_s_std},
                    {"gb_s", row.bytes_s / 1e9},
                    {"read_share", share},
                    {"n_prompt", test.n_prompt},
                    {"n_gen", test.n_gen},
                    {"depth", test.depth},
                    {"batch", test.batch},
                    {"repetitions", repetitions}});
  }
  if (json) write_json(rows);
  return 0;
}

}  // namespace heddle::cli
