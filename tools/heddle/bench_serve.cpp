#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <ctime>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "models/quote_text.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/interrupt.h"
#include "tools/heddle/io.h"
#include "tools/serve/client/load_run.h"

namespace heddle::cli {
namespace {

constexpr std::int64_t kDefaultPrompts = 100;
constexpr std::size_t kErrorsShown = 5;

/// 0: all at once.
double request_rate(const Arguments& args) {
  const std::string text = args.text("request-rate").value_or("inf");
  if (text == "inf") return 0.0;
  double rate = 0.0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), rate);
  const bool valid = read.ec == std::errc() && read.ptr == text.data() + text.size() &&
                     std::isfinite(rate) && rate > 0.0;
  if (valid) return rate;
  throw bad_input(fmt::format("--request-rate: {} is not valid; allowed: a number above 0, or inf",
                              quote_text(text)));
}

std::string api_key(const Arguments& args) {
  std::string key = args.text("api-key").value_or("");
  if (key.find_first_of(" \t\r\n") == std::string::npos) return key;
  throw bad_input("--api-key: the key holds white space");
}

std::string salt_of(const Arguments& args) {
  if (args.on("no-salt")) return "";
  std::random_device device;
  return fmt::format("{:08x}-", device());
}

std::vector<serve::LoadPrompt> prompts_of(const Arguments& args) {
  const std::int64_t n_output = args.integer("output-len").value_or(128);
  if (const auto file = args.text("dataset")) {
    if (args.has("input-len") || args.on("no-salt")) {
      throw bad_input("bench serve: --dataset, and --input-len or --no-salt, exclude each other");
    }
    return serve::prompts_of_lines(read_input(*file), *file,
                                   args.integer("num-prompts").value_or(0), n_output);
  }
  return serve::random_prompts(args.integer("num-prompts").value_or(kDefaultPrompts),
                               args.integer("input-len").value_or(256), n_output,
                               static_cast<std::uint64_t>(args.integer("seed").value_or(0)),
                               salt_of(args));
}

/// The most frequent first.
void tell_errors(const std::vector<serve::CallRecord>& records) {
  std::map<std::string, std::size_t> counts;
  for (const serve::CallRecord& record : records) {
    if (!record.error.empty()) ++counts[record.error];
  }
  std::multimap<std::size_t, std::string, std::greater<>> sorted;
  for (const auto& [text, n] : counts) sorted.emplace(n, text);
  std::size_t n_shown = 0;
  for (const auto& [n, text] : sorted) {
    if (n_shown++ == kErrorsShown) {
      write_stderr(fmt::format("failed: {} other reasons\n", sorted.size() - kErrorsShown));
      return;
    }
    write_stderr(fmt::format("failed: {} of {}: {}\n", n, records.size(), printable(text)));
  }
}

Json json_of(const Arguments& args,
             const serve::LoadOptions& options,
             const serve::LoadResult& result,
             const serve::LoadReport& report,
             std::size_t n_prompts) {
  char date[32];
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  const std::size_t n = std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &parts);
  Json json{{"date", std::string(date, n)},
            {"endpoint", options.chat ? "chat" : "completions"},
            {"model_id", result.model},
            {"num_prompts", n_prompts},
            {"request_rate", options.request_rate > 0.0 ? Json(options.request_rate) : Json("inf")},
            {"max_concurrency",
             options.max_concurrency > 0 ? Json(options.max_concurrency) : Json(nullptr)},
            {"seed", args.integer("seed").value_or(0)}};
  const Json numbers = serve::json_of(report);
  for (const auto& [key, value] : numbers.items()) json[key] = value;
  json["errors"] = Json::object();
  for (const serve::CallRecord& record : result.records) {
    if (record.error.empty()) continue;
    Json& count = json["errors"][printable(record.error)];
    count = count.is_null() ? 1 : count.get<int>() + 1;
  }
  return json;
}

}  // namespace

int run_bench_serve(const Arguments& args) {
  if (!args.has("url")) throw bad_input("bench serve: --url is missing");
  serve::LoadOptions options{.url = serve::parse_url(*args.text("url"), "--url"),
                             .chat = args.text("endpoint").value_or("completions") == "chat",
                             .model = args.text("model").value_or(""),
                             .api_key = api_key(args),
                             .ignore_eos = args.on("ignore-eos"),
                             .request_rate = request_rate(args),
                             .max_concurrency = args.integer("max-concurrency").value_or(0),
                             .seed = static_cast<std::uint64_t>(args.integer("seed").value_or(0)),
                             .timeout_seconds = args.number("timeout").value_or(600.0)};
  serve::GoodputBounds bounds;
  if (const auto text = args.text("goodput")) bounds = serve::read_goodput(*text);
  const std::vector<serve::LoadPrompt> prompts = prompts_of(args);
  const PolledInterrupt interrupt;
  ProgressLine progress;
  options.progress = [&](std::size_t n_done) {
    progress.bar(static_cast<double>(n_done) / static_cast<double>(prompts.size()),
                 fmt::format("{} of {} requests", n_done, prompts.size()));
  };
  options.stop = [&] { return interrupt.raised(); };
  const serve::LoadResult result = serve::run_load(options, prompts);
  progress.clear();
  const serve::LoadReport report = serve::report_of(result.records, result.duration_s, bounds);
  tell_errors(result.records);
  if (args.on("json")) {
    write_json(json_of(args, options, result, report, prompts.size()));
  } else {
    write_stdout(serve::text_of(report));
  }
  if (interrupt.raised()) return kExitInterrupted;
  return report.completed == 0 ? 1 : 0;
}

}  // namespace heddle::cli
