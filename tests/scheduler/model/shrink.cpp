#include "tests/scheduler/model/shrink.h"

#include <algorithm>
#include <utility>

namespace heddle::test {
namespace {

class Shrinker {
 public:
  Shrinker(OpStream stream, const std::function<bool(const OpStream&)>& fails, std::size_t runs)
      : best_(std::move(stream)), fails_(fails), runs_(runs) {}

  OpStream run() {
    for (bool smaller = true; smaller && runs_ > 0;) {
      smaller = fewer_operations();
      smaller = smaller_bytes() || smaller;
    }
    return best_;
  }

 private:
  bool keeps_failing(OpStream candidate) {
    if (runs_ == 0) return false;
    --runs_;
    if (!fails_(candidate)) return false;
    best_ = std::move(candidate);
    return true;
  }

  /// Takes out pieces of half the length, a quarter, ... one; from the end, which needs least.
  bool fewer_operations() {
    bool any = false;
    for (std::size_t piece = std::max<std::size_t>(1, best_.ops.size() / 2); piece > 0;
         piece /= 2) {
      for (std::size_t end = best_.ops.size(); end > 0;) {
        const std::size_t begin = end > piece ? end - piece : 0;
        OpStream candidate = best_;
        const auto first = candidate.ops.begin();
        candidate.ops.erase(first + static_cast<std::ptrdiff_t>(begin),
                            first + static_cast<std::ptrdiff_t>(end));
        any = keeps_failing(std::move(candidate)) || any;
        end = std::min(begin, best_.ops.size());
      }
    }
    return any;
  }

  bool smaller_bytes() {
    bool any = false;
    for (std::size_t i = 0; i < kHeaderBytes; ++i) {
      any = smaller_byte([i](OpStream& s) -> std::uint8_t& { return s.header[i]; }) || any;
    }
    for (std::size_t op = 0; op < best_.ops.size(); ++op) {
      for (std::size_t i = 0; i + 1 < kOpBytes; ++i) {
        any = smaller_byte([op, i](OpStream& s) -> std::uint8_t& { return s.ops[op].args[i]; }) ||
              any;
      }
    }
    return any;
  }

  template <typename ByteOf>
  bool smaller_byte(const ByteOf& byte_of) {
    const std::uint8_t old = byte_of(best_);
    for (const int value : {0, old / 2, old - 1}) {
      if (value < 0 || value >= old) continue;
      OpStream candidate = best_;
      byte_of(candidate) = static_cast<std::uint8_t>(value);
      if (keeps_failing(std::move(candidate))) return true;
    }
    return false;
  }

  OpStream best_;
  const std::function<bool(const OpStream&)>& fails_;
  std::size_t runs_;
};

}  // namespace

OpStream shrink(OpStream stream,
                const std::function<bool(const OpStream&)>& fails,
                std::size_t most_runs) {
  return Shrinker(std::move(stream), fails, most_runs).run();
}

}  // namespace heddle::test
