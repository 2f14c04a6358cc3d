#pragma once
// The rows of `heddle selftest`, so that none can vanish.

#include <string>
#include <vector>

#include "engine/selftest.h"

namespace heddle::test {

/// With 2 threads and cache blocks of 16 tokens.
inline std::vector<std::string> selftest_rows() {
  std::vector<std::string> rows = {"chunks of 1 = one shot",
                                   "chunks of 7 = one shot",
                                   "chunks of 64 = one shot",
                                   "chunks of 100 = one shot",
                                   "chunks of random size = one shot",
                                   "batched = alone",
                                   "batched in chunks of 13 = alone",
                                   "1 thread = 2",
                                   "shuffled cache blocks = in order",
                                   "cache blocks of 32 tokens = of 16",
                                   "cache blocks of 64 tokens = of 16",
                                   "decoded = prefilled",
                                   "preempted = uninterrupted",
                                   "preempted and swapped = uninterrupted",
                                   "cache hit = cold",
                                   "4 choices of a prompt = 4 requests",
                                   "restored session = continuous",
                                   "replay from a snapshot = cold",
                                   "kernels portable = default"};
#ifdef __x86_64__
  for (const char* variant : {"avx512", "avx2", "avx512_vnni"}) {
    rows.push_back("kernels " + std::string(variant) + " = default");
  }
#endif
  rows.emplace_back("fast kernels near exact arithmetic");
  return rows;
}

inline std::vector<std::string> names_of(const std::vector<SelftestRow>& rows) {
  std::vector<std::string> names;
  for (const SelftestRow& row : rows) names.push_back(row.name);
  return names;
}

}  // namespace heddle::test
