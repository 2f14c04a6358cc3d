#pragma once
// What a run leaves beside results.jsonl, made of its rows alone: the same rows, the same bytes.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/needle/report/heatmap.h"
#include "tools/needle/report/summary.h"

namespace heddle::needle {

/// What the outputs say of a run beside its rows.
struct ReportFacts {
  std::string model = {};
  std::string attention = {};  // the mode of --attention; "trained": none
  std::string command = {};    // the command line that makes the run again
  std::uint64_t seed = 0;
  std::int64_t samples = 1;        // of each cell
  std::vector<CellKey> plan = {};  // all that is asked, answered or not
  /// Paragraphs that end the page: what the scores do not say, how the prompts were cut.
  std::vector<std::string> notes = {};
};

/// Writes summary.csv, heatmap.svg, heatmap.png and report.html into `folder`, which must exist,
/// each in place of an older one only once it is whole. No rows, or errors alone, are fine. Throws
/// kBadInput (no such folder, no permission) and kRuntime (disk full).
void write_reports(const std::filesystem::path& folder,
                   const ReportFacts& facts,
                   std::span<const Row> rows);

/// The parts of it.
Heatmap report_heatmap(const ReportFacts& facts, const Summary& summary);
std::string report_html(const ReportFacts& facts,
                        const Summary& summary,
                        std::span<const Row> rows);

/// One file of the folder, whole or not at all.
void write_whole(const std::filesystem::path& path, std::string_view bytes);

/// At most so many misses and so many errors are told, each text cut to so many characters.
inline constexpr std::size_t kMostToldRows = 200;
inline constexpr std::size_t kMostToldCharacters = 500;

}  // namespace heddle::needle
