#pragma once
// The contract, proved on the user's machine with the user's model: `heddle selftest`.

#include <functional>
#include <string>
#include <vector>

#include "engine/engine_options.h"

namespace heddle {

struct SelftestRow {
  std::string name;  // "batched = alone"
  bool ok = false;
  std::string detail = {};  // what was compared, or the first differing position
  double seconds = 0.0;
};

/// Runs every equality of docs/numerics.md, docs/prefix_cache.md and docs/scheduler.md on logits
/// rows and tokens. `quick`: short prompts, less than a minute for a small model. Throws what
/// Engine::load throws.
std::vector<SelftestRow> run_selftest(const EngineOptions& options, bool quick);

/// The same, but every engine except the first is loaded with `sabotage` applied to its options:
/// tests show with it that a difference is found and named.
std::vector<SelftestRow> run_selftest(const EngineOptions& options,
                                      bool quick,
                                      const std::function<void(EngineOptions&)>& sabotage);

}  // namespace heddle
