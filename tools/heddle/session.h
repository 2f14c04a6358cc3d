#pragma once
// --session FILE, as generate and chat use it.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/engine.h"
#include "tools/heddle/answer.h"
#include "tools/heddle/flags.h"

namespace heddle::cli {

/// Without the flag every call does nothing.
class Session {
 public:
  /// Opens and checks the file, and the place for the new one: before a model is loaded. Throws
  /// kBadInput.
  explicit Session(const Arguments& args);
  bool on() const { return !path_.empty(); }
  /// Puts the file into the engine's prefix cache; says with -v how much, or that there is none.
  void restore(Engine& engine);
  bool restored() const { return restored_.tokens > 0; }
  /// Says, once and if there was a file, how many of the prompt's tokens were not computed.
  void tell_skipped(const Answer& answer);
  /// Saves what the engine has of a prompt and its answer in place of the file; warns if most of
  /// what was there is gone by that.
  void save(Engine& engine, const std::vector<std::int32_t>& tokens) const;
  /// {file, restored_tokens, restored_snapshots}
  Json to_json() const;

 private:
  void tell_dropped(const std::vector<std::int32_t>& tokens) const;
  std::string path_;
  std::optional<SessionFile> file_;
  SessionReport restored_;
  std::vector<std::int32_t> old_tokens_;  // of the file
  bool untold_ = false;                   // restored, and not said what that saved
};

}  // namespace heddle::cli
