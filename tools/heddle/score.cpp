#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "engine/engine.h"
#include "models/checkpoint.h"
#include "models/head_load.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/io.h"
#include "tools/heddle/options.h"

namespace heddle::cli {
namespace {

constexpr std::int64_t kDefaultWindow = 2048;
constexpr std::int64_t kWindowsAtOnce = 2;  // the end of one fills the steps of the next

struct Window {
  std::size_t begin = 0;
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;  // of all tokens but the first
  bool done = false;
  std::string error;
};

std::vector<std::int32_t> encode_text(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::int32_t> ids = tokenizer.encode(text, {.add_special = false});
  const std::vector<TokenId>& prefix = tokenizer.facts().prefix;
  ids.insert(ids.begin(), prefix.begin(), prefix.end());
  return ids;
}

std::vector<Window> cut(const std::vector<std::int32_t>& ids, std::size_t size) {
  std::vector<Window> windows;
  for (std::size_t begin = 0; begin < ids.size(); begin += size) {
    const std::size_t end = std::min(begin + size, ids.size());
    Window window;
    window.begin = begin;
    window.tokens.assign(ids.begin() + static_cast<long>(begin),
                         ids.begin() + static_cast<long>(end));
    window.done = window.tokens.size() < 2;  // nothing to score
    windows.push_back(std::move(window));
  }
  return windows;
}

void submit(Engine& engine, Window& window) {
  if (window.done) return;
  Request request;
  request.prompt = window.tokens;
  request.score = true;
  engine.submit(std::move(request), [&window](const RequestEvent& event) {
    window.logprobs.insert(window.logprobs.end(), event.scores.begin(), event.scores.end());
    if (event.finish == FinishReason::kNone) return;
    window.done = true;
    window.error = event.error;
  });
}

/// The file of --logprobs; every failure is an error.
class LogprobFile {
 public:
  explicit LogprobFile(const std::string& path) : path_(path), file_(path, std::ios::binary) {
    if (!file_) {
      throw bad_input(fmt::format("--logprobs: {}: cannot write: {}", path, std::strerror(errno)));
    }
  }

  void write(const Window& window, std::size_t index, const Tokenizer& tokenizer) {
    for (std::size_t i = 0; i < window.tokens.size(); ++i) {
      Json json{{"position", window.begin + i},
                {"window", index},
                {"token", window.tokens[i]},
                {"text", utf8_lossy(tokenizer.token_bytes(window.tokens[i], true))},
                {"logprob", nullptr}};
      if (i > 0) json["logprob"] = window.logprobs[i - 1];
      file_ << json_line(json);
    }
    check();
  }

  void close() {
    file_.close();
    check();
  }

 private:
  void check() const {
    if (!file_) throw runtime_failure(fmt::format("--logprobs: {}: a write failed", path_));
  }

  std::string path_;
  std::ofstream file_;
};

/// Runs all windows; `finished` is called for each in order.
template <typename F>
void run_windows(Engine& engine, std::vector<Window>& windows, const F& finished) {
  std::size_t next_window = 0;
  std::size_t in_order = 0;
  const auto advance = [&] {
    while (in_order < next_window && windows[in_order].done) {
      const Window& window = windows[in_order];
      if (!window.error.empty()) throw runtime_failure(window.error);
      HEDDLE_CHECK(window.logprobs.size() + 1 == window.tokens.size());
      finished(window, in_order++);
    }
  };
  for (;;) {
    advance();
    while (next_window < windows.size() &&
           next_window < in_order + static_cast<std::size_t>(kWindowsAtOnce)) {
      submit(engine, windows[next_window++]);
    }
    if (!engine.step() && next_window == windows.size()) break;
  }
  advance();
  HEDDLE_CHECK(in_order == windows.size());
}

/// --ctx, or 2048 where the checkpoint allows that many.
std::int64_t window_size(const Arguments& args, const std::string& path) {
  if (const auto ctx = args.integer("ctx")) return *ctx;
  const std::int64_t trained = open_checkpoint(path).config.context;
  return std::min(kDefaultWindow, trained);
}

/// {"layer": [share of the tokens that each head was on for]}
Json head_load_json(const HeadLoad& load) {
  Json layers = Json::object();
  for (const auto& [layer, counts] : load.layers()) {
    Json shares = Json::array();
    for (const std::int64_t taken : counts.taken) {
      shares.push_back(static_cast<double>(taken) / static_cast<double>(counts.n_tokens));
    }
    layers[std::to_string(layer)] = shares;
  }
  return layers;
}

}  // namespace

int run_score(const Arguments& args) {
  const auto file = args.text("file");
  if (!file) throw bad_input("score: the text is missing: -f FILE (-: standard input)");
  EngineOptions options = engine_options(args);
  const std::string text = read_input(*file);
  const auto output = args.text("logprobs");
  std::unique_ptr<LogprobFile> logprobs;
  if (output) logprobs = std::make_unique<LogprobFile>(*output);
  options.context = window_size(args, options.model);
  options.max_sequences = kWindowsAtOnce;

  HeadLoad head_load;
  const std::unique_ptr<Engine> engine = Engine::load(options);
  const bool on_cpu = engine->backend().kind() == DeviceKind::kCpu;
  if (on_cpu && args.on("json")) engine->set_tap(head_load.tap());
  const std::vector<std::int32_t> ids = encode_text(engine->tokenizer(), text);
  std::vector<Window> windows = cut(ids, static_cast<std::size_t>(options.context));
  if (ids.size() < 2) {
    throw bad_input(
        fmt::format("score: the text has {} tokens, at least 2 are needed", ids.size()));
  }
  const auto start = std::chrono::steady_clock::now();
  double sum = 0.0;
  std::int64_t scored = 0;
  ProgressLine progress;
  run_windows(*engine, windows, [&](const Window& window, std::size_t index) {
    for (const float logprob : window.logprobs) sum -= static_cast<double>(logprob);
    scored += static_cast<std::int64_t>(window.logprobs.size());
    if (logprobs) logprobs->write(window, index, engine->tokenizer());
    progress.bar(static_cast<double>(index + 1) / static_cast<double>(windows.size()), "score");
  });
  progress.clear();
  if (logprobs) logprobs->close();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double nll = sum / static_cast<double>(scored);
  if (!std::isfinite(nll)) throw runtime_failure("score: a log probability is not finite");
  const double tok_s = static_cast<double>(ids.size()) / seconds;
  if (args.on("json")) {
    Json result = {{"model", args.operands()[0]},
                   {"tokens", ids.size()},
                   {"scored", scored},
                   {"nll", nll},
                   {"ppl", std::exp(nll)},
                   {"ctx", options.context},
                   {"windows", windows.size()},
                   {"seconds", seconds},
                   {"tok_s", tok_s},
                   {"peak_rss_bytes", peak_rss_bytes()}};
    if (!head_load.layers().empty()) result["head_load"] = head_load_json(head_load);
    write_json(result);
  } else {
    write_stdout(fmt::format("ppl {:.6f}  nll {:.6f}  scored {} of {} tokens in {} windows of {}\n",
                             std::exp(nll), nll, scored, ids.size(), windows.size(),
                             options.context));
    note(fmt::format("{:.2f} s, {:.1f} tok/s", seconds, tok_s));
  }
  return 0;
}

}  // namespace heddle::cli
