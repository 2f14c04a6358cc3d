#include "tools/needle/random.h"

#include <array>
#include <cstring>

#include "base/error.h"
#include "base/philox.h"
#include "base/sip_hash.h"

namespace heddle::needle {

Random::Random(std::uint64_t seed, std::string_view purpose) {
  std::vector<std::uint64_t> words((purpose.size() + 7) / 8 + 1, 0);
  words[0] = purpose.size();
  for (std::size_t i = 0; i < purpose.size(); ++i) {
    words[1 + i / 8] |= std::uint64_t{static_cast<unsigned char>(purpose[i])} << (i % 8 * 8);
  }
  const Hash128 hash = sip_hash(words, {seed, 0x6e6565646c65U});
  key_ = {hash.low, hash.high};
}

std::uint64_t Random::bits() {
  const std::uint64_t n = drawn_++;
  const PhiloxBlock block =
      philox4x32({static_cast<std::uint32_t>(n), static_cast<std::uint32_t>(n >> 32),
                  static_cast<std::uint32_t>(key_[1]), static_cast<std::uint32_t>(key_[1] >> 32)},
                 {static_cast<std::uint32_t>(key_[0]), static_cast<std::uint32_t>(key_[0] >> 32)});
  return std::uint64_t{block[0]} << 32 | block[1];
}

std::uint64_t Random::below(std::uint64_t n) {
  HEDDLE_CHECK(n > 0);
  const std::uint64_t skewed = (0 - n) % n;  // 2^64 mod n: the lowest draws, one too many for each
  for (;;) {
    const std::uint64_t draw = bits();
    if (draw >= skewed) return draw % n;
  }
}

double Random::uniform(double low, double high) {
  return low + (high - low) * (static_cast<double>(bits() >> 11) * 0x1p-53);
}

}  // namespace heddle::needle
