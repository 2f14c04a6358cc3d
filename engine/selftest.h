#pragma once
// The contract, proved on the user's machine with the user's model: `heddle selftest`.

#include <string>
#include <vector>

#include "engine/engine_options.h"

namespace heddle {

struct SelftestRow {
  std::string name;  // "chunked = one shot"
  bool ok = false;
  std::string detail = {};  // what was compared, or the first differing position
  double seconds = 0.0;
};

/// Runs every equality of docs/numerics.md on logits rows and tokens. `quick`: short prompts, a few
/// seconds for a small model. Throws what Engine::load throws.
std::vector<SelftestRow> run_selftest(const EngineOptions& options, bool quick);

}  // namespace heddle
