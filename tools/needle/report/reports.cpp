#include "tools/needle/report/reports.h"

#include <fmt/format.h>

#include <span>

#include "base/new_file.h"
#include "tools/needle/report/panels.h"
#include "tools/needle/report/summary_text.h"
#include "tools/needle/report/text.h"

namespace heddle::needle {

void write_whole(const std::filesystem::path& path, std::string_view bytes) {
  NewFile file(path.string(), path.string(), NewFileReaders::kUmask);
  file.append(std::as_bytes(std::span(bytes.data(), bytes.size())));
  file.publish();
}

Heatmap report_heatmap(const ReportFacts& facts, const Summary& summary) {
  std::vector<std::string> suites;
  for (const SuiteSummary& suite : summary.suites) suites.push_back(suite.name);
  std::string title = "Needle in a haystack";
  if (suites.size() == 1 && summary.suites[0].tasks.size() == 1) {
    title += ": " + suites[0] + " " + summary.suites[0].tasks[0].name;
  } else if (!suites.empty()) {
    title += ": " + joined(suites);
  }
  const std::string subtitle =
      fmt::format("{}, attention {}, suite {}, seed {}, {} a cell", facts.model, facts.attention,
                  suites.empty() ? "-" : joined(suites), facts.seed,
                  facts.samples == 1 ? "1 sample" : fmt::format("{} samples", facts.samples));
  return heatmap_of(summary, clean_text(title), clean_text(subtitle));
}

void write_reports(const std::filesystem::path& folder,
                   const ReportFacts& facts,
                   std::span<const Row> rows) {
  const Summary summary = summarize(rows, facts.plan);
  const Heatmap heatmap = report_heatmap(facts, summary);
  write_whole(folder / "summary.csv", summary_csv(summary));
  write_whole(folder / "heatmap.svg", heatmap_svg(heatmap));
  write_whole(folder / "heatmap.png", heatmap_png(heatmap));
  write_whole(folder / "report.html", report_html(facts, summary, rows));
}

}  // namespace heddle::needle
