// Scheduler, pools and prefix cache under operation streams: every invariant of
// tests/scheduler/model/scheduler_model.h holds after each operation.

#include <cstdio>

#include "tests/fuzz/fuzz.h"
#include "tests/scheduler/model/scheduler_model.h"
#include "tests/scheduler/model/shrink.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace heddle::test;
  constexpr std::size_t kMostOps = 256;
  const std::size_t most = kHeaderBytes + kMostOps * kOpBytes;
  const OpStream stream = decode({data, size < most ? size : most});
  const Outcome outcome = replay(stream);
  if (outcome.rule.empty()) return 0;
  const OpStream small =
      shrink(stream, [&](const OpStream& s) { return replay(s).rule == outcome.rule; });
  std::fprintf(stderr, "%s\n%s\n", describe(small).c_str(), replay(small).seen.c_str());
  heddle::fuzz::require(false);
  return 0;
}
