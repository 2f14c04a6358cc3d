#include "models/pull.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/bundled.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/interrupt.h"
#include "tools/heddle/io.h"

namespace heddle::cli {
namespace {

void show(ProgressLine& line, const PullProgress& progress) {
  const double done = static_cast<double>(progress.done_bytes) / 1e6;
  if (progress.total_bytes == 0) {
    line.show(progress.done_bytes == 0 ? fmt::format("{} ...", progress.stage)
                                       : fmt::format("{} {:.1f} MB", progress.stage, done));
    return;
  }
  const double total = static_cast<double>(progress.total_bytes) / 1e6;
  line.bar(done / total, fmt::format("{} {:.1f} of {:.1f} MB", progress.stage, done, total));
}

PullResult fetch(const RegistryEntry& entry, const PolledInterrupt& interrupt) {
  ProgressLine line;
  return pull_model(entry, default_models_home(), {.progress = [&](const PullProgress& progress) {
                      if (interrupt.raised()) throw runtime_failure("interrupted");
                      show(line, progress);
                    }});
}

std::string_view news_of(const RegistryEntry& entry, const PullResult& result) {
  if (entry.is_bundled()) return "bundled with Heddle, nothing to fetch";
  return result.was_there ? "up to date" : "fetched";
}

}  // namespace

int run_pull(const Arguments& args) {
  const RegistryEntry entry = find_registry_entry(args.operands()[0]);
  const PolledInterrupt interrupt;
  PullResult result;
  try {
    result = entry.is_bundled()
                 ? PullResult{.path = find_bundled(entry, bundled_places()), .was_there = true}
                 : fetch(entry, interrupt);
  } catch (const Error&) {
    if (!interrupt.raised()) throw;
    write_stderr("error: interrupted\n");
    return kExitInterrupted;
  }
  if (args.on("json")) {
    write_json({{"name", entry.name},
                {"path", result.path},
                {"fetched", !result.was_there},
                {"bundled", entry.is_bundled()}});
  } else {
    write_stdout(result.path + "\n");
    note(news_of(entry, result));
  }
  return 0;
}

}  // namespace heddle::cli
