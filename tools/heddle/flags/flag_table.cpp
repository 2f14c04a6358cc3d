#include <vector>

#include "tools/heddle/flags/parts.h"

namespace heddle::cli {

std::span<const FlagSpec> flag_table() {
  static const std::vector<FlagSpec> table = [] {
    std::vector<FlagSpec> all;
    for (const auto part : {input_flags(), serve_flags(), answer_flags(), bench_flags(),
                            needle_flags(), run_flags()}) {
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }();
  return table;
}

}  // namespace heddle::cli
