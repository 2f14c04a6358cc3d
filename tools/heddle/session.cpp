#include "tools/heddle/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "tools/heddle/io.h"

namespace heddle::cli {

Session::Session(const Arguments& args) : path_(args.text("session").value_or("")) {
  if (!args.has("session")) return;
  if (path_.empty()) throw bad_input("--session: '' is not valid; allowed: the path of a file");
  if (args.on("no-prefix-cache")) {
    throw bad_input("--session needs the prefix cache, which --no-prefix-cache turns off");
  }
  file_ = SessionFile::open(path_);
}

void Session::restore(Engine& engine) {
  if (on()) engine.weights_hash();  // now, as the checkpoint's files may change meanwhile
  if (!file_) {
    if (on()) log_info(fmt::format("{}: the file is new", session_source(path_)));
    return;
  }
  old_tokens_ = file_->view().tokens;
  restored_ = engine.restore_session(*file_);
  log(restored_.left_out_tokens > 0 ? LogLevel::kWarning : LogLevel::kInfo,
      fmt::format("{}: restored {}", session_source(path_), restored_.describe()));
  file_.reset();
  untold_ = true;
}

void Session::tell_skipped(const Answer& answer) {
  if (!untold_) return;
  untold_ = false;
  if (log_level() > LogLevel::kWarning) return;
  write_stderr(fmt::format("session: {} of {} prompt tokens skipped\n",
                           answer.reuse().cached_tokens, answer.n_prompt()));
}

void Session::save(Engine& engine, const std::vector<std::int32_t>& tokens) const {
  if (!on()) return;
  const SessionReport saved = engine.save_session(path_, tokens);
  log_info(fmt::format("{}: saved {}, {}", session_source(path_), saved.describe(),
                       memory_text(saved.bytes)));
  tell_dropped(tokens);
}

void Session::tell_dropped(const std::vector<std::int32_t>& tokens) const {
  const auto same =
      std::mismatch(old_tokens_.begin(), old_tokens_.end(), tokens.begin(), tokens.end());
  const auto n_kept = static_cast<std::size_t>(same.first - old_tokens_.begin());
  if (2 * n_kept >= old_tokens_.size()) return;
  log(LogLevel::kWarning,
      fmt::format("{}: of the {} tokens that were in the file {} are kept: this run's text goes on "
                  "otherwise (another --session FILE would keep both)",
                  session_source(path_), old_tokens_.size(), n_kept));
}

Json Session::to_json() const {
  return {{"file", path_},
          {"restored_tokens", restored_.tokens},
          {"restored_snapshots", restored_.snapshots}};
}

}  // namespace heddle::cli
