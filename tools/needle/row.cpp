#include "tools/needle/row.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace heddle::needle {
namespace {

constexpr std::array<std::string_view, 18> kKeys = {
    "suite",         "task",      "model",    "attention", "length",      "depth",
    "seed",          "sample",    "score",    "answer",    "expected",    "prompt_tokens",
    "cached_tokens", "prefill_s", "decode_s", "kv_bytes",  "state_bytes", "error"};
constexpr std::int64_t kMostTokens = std::int64_t{1} << 40;
constexpr std::int64_t kMostSamples = std::int64_t{1} << 31;
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 62;
constexpr double kMostSeconds = 1e9;
constexpr std::size_t kMostExpected = 100'000;
constexpr std::size_t kMostNameBytes = 4096;

template <typename T>
Json json_or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

/// The values of one line; every method names the key that is wrong.
class RowReader {
 public:
  RowReader(const Json& json, std::string_view where) : json_(json), where_(where) {}

  void check_keys() const {
    if (!json_.is_object()) throw bad_input(fmt::format("{}: not a JSON object", where_));
    for (const std::string_view key : kKeys) {
      if (!json_.contains(key)) throw bad_input(fmt::format("{}: '{}' is missing", where_, key));
    }
    for (const auto& [key, value] : json_.items()) {
      if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end()) {
        throw bad_input(fmt::format("{}: {} is not a key of a result", where_, json_quote(key)));
      }
    }
  }

  std::string text(const char* key) const {
    const Json& value = json_.at(key);
    if (!value.is_string()) fail(key, "a text");
    return value.get<std::string>();
  }
  std::string name(const char* key) const {
    std::string value = text(key);
    if (value.empty() || value.size() > kMostNameBytes) {
      fail(key, fmt::format("a text of 1 to {} bytes", kMostNameBytes));
    }
    return value;
  }
  std::string error() const {
    if (json_.at("error").is_null()) return {};
    std::string value = text("error");
    if (value.empty()) fail("error", "null or a text that is not empty");
    return value;
  }
  std::vector<std::string> texts(const char* key) const {
    const Json& value = json_.at(key);
    const auto is_text = [](const Json& item) { return item.is_string(); };
    if (!value.is_array() || value.size() > kMostExpected ||
        !std::all_of(value.begin(), value.end(), is_text)) {
      fail(key, fmt::format("a list of at most {} texts", kMostExpected));
    }
    return value.get<std::vector<std::string>>();
  }
  std::uint64_t count(const char* key, std::uint64_t low, std::uint64_t high) const {
    const Json& value = json_.at(key);
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() < low ||
        value.get<std::uint64_t>() > high) {
      fail(key, fmt::format("a whole number from {} to {}", low, high));
    }
    return value.get<std::uint64_t>();
  }
  std::int64_t tokens(const char* key, std::int64_t low, std::int64_t high) const {
    return static_cast<std::int64_t>(
        count(key, static_cast<std::uint64_t>(low), static_cast<std::uint64_t>(high)));
  }
  std::optional<std::uint64_t> bytes(const char* key) const {
    if (json_.at(key).is_null()) return {};
    return count(key, 0, kMostBytes);
  }
  std::optional<double> number(const char* key, double high) const {
    const Json& value = json_.at(key);
    if (value.is_null()) return {};
    const double number = value.is_number() ? value.get<double>() : -1.0;
    if (!(number >= 0.0 && number <= high)) {  // NaN, too
      fail(key, fmt::format("null or a number from 0 to {}", high));
    }
    return number;
  }

  [[noreturn]] void fail(const char* key, std::string_view allowed) const {
    std::string got = json_.at(key).dump(-1, ' ', true, Json::error_handler_t::replace);
    if (got.size() > 80) got = got.substr(0, 80) + "...";
    throw bad_input(fmt::format("{}: '{}' is {}, needed: {}", where_, key, got, allowed));
  }

 private:
  const Json& json_;
  std::string_view where_;
};

}  // namespace

std::string text_of(const CellKey& key) {
  const std::string depth = key.depth ? fmt::format(", depth {:.6g}", *key.depth) : "";
  return fmt::format("{} {}, {} tokens{}, sample {}", key.suite, key.task, key.length, depth,
                     key.sample);
}

Json json_of(const Row& row) {
  Json json = Json::object();
  json["suite"] = row.key.suite;
  json["task"] = row.key.task;
  json["model"] = row.model;
  json["attention"] = row.attention;
  json["length"] = row.key.length;
  json["depth"] = json_or_null(row.key.depth);
  json["seed"] = row.key.seed;
  json["sample"] = row.key.sample;
  json["score"] = json_or_null(row.score);
  json["answer"] = row.answer;
  json["expected"] = row.expected;
  json["prompt_tokens"] = row.prompt_tokens;
  json["cached_tokens"] = row.cached_tokens;
  json["prefill_s"] = json_or_null(row.prefill_s);
  json["decode_s"] = json_or_null(row.decode_s);
  json["kv_bytes"] = json_or_null(row.kv_bytes);
  json["state_bytes"] = json_or_null(row.state_bytes);
  json["error"] = row.error.empty() ? Json(nullptr) : Json(row.error);
  return json;
}

Row read_row(std::string_view line, std::string_view where) {
  const Json json = parse_json(line, where);
  const RowReader reader(json, where);
  reader.check_keys();
  Row row;
  row.key.suite = reader.name("suite");
  row.key.task = reader.name("task");
  row.key.length = reader.tokens("length", 1, kMostTokens);
  row.key.depth = reader.number("depth", 100.0);
  row.key.seed = reader.count("seed", 0, UINT64_MAX);
  row.key.sample = reader.tokens("sample", 0, kMostSamples);
  row.model = reader.name("model");
  row.attention = reader.name("attention");
  row.score = reader.number("score", 1.0);
  row.answer = reader.text("answer");
  row.expected = reader.texts("expected");
  row.prompt_tokens = reader.tokens("prompt_tokens", 0, kMostTokens);
  row.cached_tokens = reader.tokens("cached_tokens", 0, row.prompt_tokens);
  row.prefill_s = reader.number("prefill_s", kMostSeconds);
  row.decode_s = reader.number("decode_s", kMostSeconds);
  row.kv_bytes = reader.bytes("kv_bytes");
  row.state_bytes = reader.bytes("state_bytes");
  row.error = reader.error();
  if (row.score && !row.error.empty()) reader.fail("error", "null beside a score");
  if (!row.score && row.error.empty()) reader.fail("error", "a text where the score is null");
  return row;
}

}  // namespace heddle::needle
