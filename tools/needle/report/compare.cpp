#include "tools/needle/report/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "tools/heddle/io.h"
#include "tools/needle/report/compare_parts.h"
#include "tools/needle/report/text.h"

namespace heddle::needle {
namespace {

using RowsByKey = std::map<CellKey, const Row*>;

RowsByKey first_rows(std::span<const ComparedMode> modes) {
  RowsByKey rows;
  if (modes.empty()) return rows;
  for (const Row& row : modes.front().rows) rows.emplace(row.key, &row);
  return rows;
}

struct Sums {
  RowMeans means = {};
  std::map<std::string, Mean> deltas = {};  // of each task
  Mean same = {};
};

/// By suite and length.
std::map<std::pair<std::string, std::int64_t>, Sums> sums_of(const ComparedMode& mode,
                                                             const RowsByKey& first) {
  std::map<std::pair<std::string, std::int64_t>, Sums> sums;
  for (const Row& row : mode.rows) {
    Sums& sum = sums[{row.key.suite, row.key.length}];
    sum.means.add(row);
    const auto other = first.find(row.key);
    if (other == first.end() || !row.score || !other->second->score) continue;
    sum.deltas[row.key.task].add(*row.score - *other->second->score);
    sum.same.add(row.answer == other->second->answer ? 1.0 : 0.0);
  }
  return sums;
}

std::optional<double> mean_over_tasks(const std::map<std::string, Mean>& tasks) {
  Mean mean;
  for (const auto& [task, value] : tasks) mean.add(value.value());
  return mean.value();
}

std::optional<double> score_of(const Summary& summary,
                               const std::string& suite_name,
                               std::int64_t of_length) {
  for (const SuiteSummary& suite : summary.suites) {
    if (suite.name != suite_name) continue;
    for (const LengthSummary& length : suite.lengths) {
      if (length.length == of_length) return length.score;
    }
  }
  return {};
}

std::string or_empty(std::optional<double> value) {
  return value ? fmt::format("{}", *value) : "";
}

}  // namespace

std::vector<Row> all_rows(std::span<const ComparedMode> modes) {
  std::vector<Row> rows;
  for (const ComparedMode& mode : modes) {
    rows.insert(rows.end(), mode.rows.begin(), mode.rows.end());
  }
  return rows;
}

std::vector<std::string> extra_names(std::span<const ComparedMode> modes) {
  std::set<std::string> names;
  for (const ComparedMode& mode : modes) {
    for (const auto& [name, values] : mode.extra) names.insert(name);
  }
  return {names.begin(), names.end()};
}

std::optional<double> extra_value(const ComparedMode& mode,
                                  const std::string& name,
                                  std::int64_t length) {
  const auto column = mode.extra.find(name);
  if (column == mode.extra.end()) return {};
  const auto value = column->second.find(length);
  if (value == column->second.end()) return {};
  return value->second;
}

std::vector<ComparedLength> compare(std::span<const ComparedMode> modes) {
  const RowsByKey first = first_rows(modes);
  std::vector<std::map<std::pair<std::string, std::int64_t>, Sums>> sums;
  std::vector<Summary> summaries;
  for (const ComparedMode& mode : modes) {
    sums.push_back(sums_of(mode, first));
    summaries.push_back(summarize(mode.rows, mode.plan));
  }
  std::vector<ComparedLength> result;
  for (const SuiteSummary& suite : summarize(all_rows(modes)).suites) {
    for (const LengthSummary& length : suite.lengths) {
      for (std::size_t mode = 0; mode < modes.size(); ++mode) {
        const auto sum = sums[mode].find({suite.name, length.length});
        if (sum == sums[mode].end()) continue;
        result.push_back({.suite = suite.name,
                          .length = length.length,
                          .mode = mode,
                          .means = sum->second.means,
                          .score = score_of(summaries[mode], suite.name, length.length),
                          .pairs = sum->second.same.n(),
                          .delta = mean_over_tasks(sum->second.deltas),
                          .same = sum->second.same.value()});
      }
    }
  }
  return result;
}

std::string comparison_csv(std::span<const ComparedMode> modes) {
  const std::vector<std::string> extras = extra_names(modes);
  std::string text =
      "suite,length,attention,n,errors,score,pairs,delta,same_answers,prompt_tokens,cached_tokens,"
      "prefill_s,decode_s,kv_bytes,state_bytes";
  for (const std::string& name : extras) text += "," + csv_field(clean_text(name));
  text += "\r\n";
  for (const ComparedLength& line : compare(modes)) {
    const RowMeans& means = line.means;
    fmt::format_to(std::back_inserter(text), "{},{},{},{},{},{},{},{},{}",
                   csv_field(clean_text(line.suite)), line.length,
                   csv_field(clean_text(modes[line.mode].label)), means.n, means.errors,
                   or_empty(line.score), line.pairs, or_empty(line.delta), or_empty(line.same));
    for (const Mean* mean : {&means.prompt_tokens, &means.cached_tokens, &means.prefill_s,
                             &means.decode_s, &means.kv_bytes, &means.state_bytes}) {
      text += "," + or_empty(mean->value());
    }
    for (const std::string& name : extras) {
      text += "," + or_empty(extra_value(modes[line.mode], name, line.length));
    }
    text += "\r\n";
  }
  return text;
}

std::vector<std::vector<std::string>> comparison_lines(std::span<const ComparedMode> modes) {
  const std::vector<std::string> extras = extra_names(modes);
  std::vector<std::vector<std::string>> lines = {{"suite", "attention", "length", "score", "delta",
                                                  "same answers", "n", "errors", "prefill s",
                                                  "decode s", "KV", "states"}};
  lines[0].insert(lines[0].end(), extras.begin(), extras.end());
  const auto seconds = [](const Mean& mean) {
    const auto value = mean.value();
    return value ? fmt::format("{:.2f}", *value) : std::string("-");
  };
  const auto bytes = [](std::optional<double> value) {
    return value ? bytes_text(*value) : std::string("-");
  };
  for (const ComparedLength& line : compare(modes)) {
    const RowMeans& means = line.means;
    lines.push_back(
        {line.suite, modes[line.mode].label, length_label(line.length), percent(line.score),
         line.delta ? fmt::format("{:+.1f}", *line.delta * 100.0 + 0.0) : "-", percent(line.same),
         fmt::format("{}", means.n), fmt::format("{}", means.errors), seconds(means.prefill_s),
         seconds(means.decode_s), bytes(means.kv_bytes.value()), bytes(means.state_bytes.value())});
    for (const std::string& name : extras) {
      const auto value = extra_value(modes[line.mode], name, line.length);
      const bool is_bytes = name.find("bytes") != std::string::npos;
      lines.back().push_back(!value     ? "-"
                             : is_bytes ? bytes_text(*value)
                                        : fmt::format("{:.4g}", *value));
    }
  }
  return lines;
}

std::string comparison_table(std::span<const ComparedMode> modes) {
  auto lines = comparison_lines(modes);
  if (lines.size() == 1) return "no rows\n";
  for (auto& line : lines) {
    for (std::string& field : line) field = cli::printable(field);
  }
  return aligned(lines, 2);
}

void write_comparison(const std::filesystem::path& folder,
                      const ReportFacts& facts,
                      std::span<const ComparedMode> modes) {
  const Heatmap heatmap = comparison_heatmap(facts, modes);
  write_whole(folder / "compare.csv", comparison_csv(modes));
  write_whole(folder / "compare.svg", heatmap_svg(heatmap));
  write_whole(folder / "compare.png", heatmap_png(heatmap));
  write_whole(folder / "compare.html", comparison_html(facts, modes));
}

}  // namespace heddle::needle
