#include "engine/selftest.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/io.h"
#include "tools/heddle/options.h"

namespace heddle::cli {

int run_selftest_command(const Arguments& args) {
  const EngineOptions options = engine_options(args);
  ProgressLine progress;
  progress.show("selftest ...");
  const std::vector<SelftestRow> rows = run_selftest(options, args.on("quick"));
  progress.clear();
  const bool ok = !rows.empty() && std::all_of(rows.begin(), rows.end(),
                                               [](const SelftestRow& row) { return row.ok; });
  if (args.on("json")) {
    Json list = Json::array();
    for (const SelftestRow& row : rows) {
      list.push_back(
          {{"name", row.name}, {"ok", row.ok}, {"detail", row.detail}, {"seconds", row.seconds}});
    }
    write_json({{"ok", ok}, {"rows", list}});
  } else {
    std::string text;
    for (const SelftestRow& row : rows) {
      text += fmt::format("{:<6} {:<40} {:>7.2f} s  {}\n", row.ok ? "ok" : "FAILED", row.name,
                          row.seconds, row.detail);
    }
    write_stdout(text);
  }
  if (ok) return 0;
  std::string failed;
  for (const SelftestRow& row : rows) {
    if (!row.ok)
      failed += fmt::format("{}{}: {}", failed.empty() ? "" : "; ", row.name, row.detail);
  }
  write_stderr(fmt::format("error: selftest: {}\n", failed.empty() ? "no row ran" : failed));
  return static_cast<int>(ErrorKind::kRuntime);
}

}  // namespace heddle::cli
