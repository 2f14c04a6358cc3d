#include "tools/serve/client/load_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "models/quote_text.h"

namespace heddle::serve {
namespace {

constexpr int kWidth = 52;

double tpot_ms(const CallRecord& record) {
  return 1000.0 * (record.last_s - record.first_s) / static_cast<double>(record.n_output - 1);
}

bool is_good(const CallRecord& record, const GoodputBounds& bounds) {
  const auto within = [](double ms, const std::optional<double>& bound) {
    return !bound || ms <= *bound;
  };
  const double tpot = record.n_output > 1 ? tpot_ms(record) : 0.0;
  return within(1000.0 * record.first_s, bounds.ttft_ms) && within(tpot, bounds.tpot_ms) &&
         within(1000.0 * record.last_s, bounds.e2el_ms);
}

/// Of ascending values.
double quantile(const std::vector<double>& sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

template <typename T>
void line(std::string& out, std::string_view what, T value) {
  if constexpr (std::is_floating_point_v<T>) {
    fmt::format_to(std::back_inserter(out), "{:<38} {:>13.2f}\n", what, value);
  } else {
    fmt::format_to(std::back_inserter(out), "{:<38} {:>13}\n", what, value);
  }
}

void lines(std::string& out, std::string_view name, std::string_view title, const Spread& spread) {
  fmt::format_to(std::back_inserter(out), "{:-^{}}\n", fmt::format(" {} ", title), kWidth);
  line(out, fmt::format("Mean {} (ms):", name), spread.mean);
  line(out, fmt::format("Median {} (ms):", name), spread.median);
  line(out, fmt::format("P99 {} (ms):", name), spread.p99);
}

}  // namespace

GoodputBounds read_goodput(const std::string& text) {
  GoodputBounds bounds;
  const auto bad = [&] {
    return bad_input(fmt::format(
        "--goodput: {} is not valid; allowed: ttft:MS, tpot:MS and e2el:MS, separated by commas",
        quote_text(text)));
  };
  std::string_view rest = text;
  while (true) {
    const std::string_view part = rest.substr(0, rest.find(','));
    const std::size_t colon = part.find(':');
    if (colon == std::string_view::npos) throw bad();
    const std::string_view name = part.substr(0, colon);
    const std::string_view number = part.substr(colon + 1);
    double ms = 0.0;
    const auto read = std::from_chars(number.data(), number.data() + number.size(), ms);
    const bool valid = read.ec == std::errc() && read.ptr == number.data() + number.size() &&
                       std::isfinite(ms) && ms > 0.0;
    std::optional<double>* bound = name == "ttft"   ? &bounds.ttft_ms
                                   : name == "tpot" ? &bounds.tpot_ms
                                   : name == "e2el" ? &bounds.e2el_ms
                                                    : nullptr;
    if (bound == nullptr || !valid) throw bad();
    *bound = ms;
    if (part.size() == rest.size()) return bounds;
    rest.remove_prefix(part.size() + 1);
  }
}

Spread spread_of(std::vector<double> values) {
  Spread spread;
  if (values.empty()) return spread;
  std::ranges::sort(values);
  const auto n = static_cast<double>(values.size());
  for (const double value : values) spread.mean += value / n;
  double square = 0.0;
  for (const double value : values) square += (value - spread.mean) * (value - spread.mean) / n;
  spread.std = std::sqrt(square);
  spread.median = quantile(values, 0.5);
  spread.p99 = quantile(values, 0.99);
  return spread;
}

double LoadReport::per_second(std::int64_t n) const {
  return duration_s > 0.0 ? static_cast<double>(n) / duration_s : 0.0;
}

LoadReport report_of(const std::vector<CallRecord>& records,
                     double duration_s,
                     const GoodputBounds& bounds) {
  LoadReport report{.duration_s = duration_s, .has_goodput = bounds.any()};
  std::vector<double> ttft;
  std::vector<double> tpot;
  std::vector<double> itl;
  std::vector<double> e2el;
  for (const CallRecord& record : records) {
    if (!record.error.empty()) {
      ++report.failed;
      continue;
    }
    ++report.completed;
    report.n_prompt += record.n_prompt;
    report.n_output += record.n_output;
    report.n_cached += record.n_cached;
    report.n_good += is_good(record, bounds) ? 1 : 0;
    ttft.push_back(1000.0 * record.first_s);
    e2el.push_back(1000.0 * record.last_s);
    if (record.n_output > 1) tpot.push_back(tpot_ms(record));
    for (const double gap : record.gaps_s) itl.push_back(1000.0 * gap);
  }
  report.ttft = spread_of(std::move(ttft));
  report.tpot = spread_of(std::move(tpot));
  report.itl = spread_of(std::move(itl));
  report.e2el = spread_of(std::move(e2el));
  return report;
}

std::string text_of(const LoadReport& r) {
  std::string out = fmt::format("{:=^{}}\n", " Serving Benchmark Result ", kWidth);
  line(out, "Successful requests:", r.completed);
  line(out, "Failed requests:", r.failed);
  line(out, "Duration (s):", r.duration_s);
  line(out, "Input tokens:", r.n_prompt);
  line(out, "Of these from a prefix cache:", r.n_cached);
  line(out, "Output tokens:", r.n_output);
  line(out, "Request throughput (req/s):", r.per_second(r.completed));
  if (r.has_goodput) line(out, "Request goodput (req/s):", r.per_second(r.n_good));
  line(out, "Output token throughput (tok/s):", r.per_second(r.n_output));
  line(out, "Total token throughput (tok/s):", r.per_second(r.n_prompt + r.n_output));
  lines(out, "TTFT", "Time to first token", r.ttft);
  lines(out, "TPOT", "Time per output token after it", r.tpot);
  lines(out, "ITL", "Time between pieces", r.itl);
  lines(out, "E2EL", "End to end", r.e2el);
  return out + std::string(kWidth, '=') + "\n";
}

Json json_of(const LoadReport& r) {
  Json json{{"duration", r.duration_s},
            {"completed", r.completed},
            {"failed", r.failed},
            {"total_input_tokens", r.n_prompt},
            {"total_output_tokens", r.n_output},
            {"cached_tokens", r.n_cached},
            {"request_throughput", r.per_second(r.completed)},
            {"request_goodput", r.has_goodput ? Json(r.per_second(r.n_good)) : Json(nullptr)},
            {"output_throughput", r.per_second(r.n_output)},
            {"total_token_throughput", r.per_second(r.n_prompt + r.n_output)}};
  for (const auto& [name, spread] : {std::pair("ttft", &r.ttft), std::pair("tpot", &r.tpot),
                                     std::pair("itl", &r.itl), std::pair("e2el", &r.e2el)}) {
    json[fmt::format("mean_{}_ms", name)] = spread->mean;
    json[fmt::format("median_{}_ms", name)] = spread->median;
    json[fmt::format("std_{}_ms", name)] = spread->std;
    json[fmt::format("p99_{}_ms", name)] = spread->p99;
  }
  return json;
}

}  // namespace heddle::serve
