#pragma once
// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein 2012, and their 128-bit variant): a
// keyed hash, so that who does not know the key cannot make collisions.

#include <array>
#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>

namespace heddle {

struct Hash128 {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  auto operator<=>(const Hash128&) const = default;
};

/// For unordered containers: the bits are uniform already.
struct Hash128Hasher {
  std::size_t operator()(const Hash128& hash) const { return hash.low; }
};

/// Of `words`, which stand for their bytes in little-endian order.
inline Hash128 sip_hash(std::span<const std::uint64_t> words, std::array<std::uint64_t, 2> key) {
  std::uint64_t v0 = key[0] ^ 0x736f6d6570736575U;
  std::uint64_t v1 = key[1] ^ 0x646f72616e646f6dU ^ 0xee;
  std::uint64_t v2 = key[0] ^ 0x6c7967656e657261U;
  std::uint64_t v3 = key[1] ^ 0x7465646279746573U;
  const auto rounds = [&](int n) {
    for (int i = 0; i < n; ++i) {
      v0 += v1;
      v1 = std::rotl(v1, 13) ^ v0;
      v0 = std::rotl(v0, 32);
      v2 += v3;
      v3 = std::rotl(v3, 16) ^ v2;
      v0 += v3;
      v3 = std::rotl(v3, 21) ^ v0;
      v2 += v1;
      v1 = std::rotl(v1, 17) ^ v2;
      v2 = std::rotl(v2, 32);
    }
  };
  const auto absorb = [&](std::uint64_t word) {
    v3 ^= word;
    rounds(2);
    v0 ^= word;
  };
  for (const std::uint64_t word : words) absorb(word);
  absorb((std::uint64_t{words.size()} * 8) << 56);
  v2 ^= 0xee;
  rounds(4);
  Hash128 hash;
  hash.low = v0 ^ v1 ^ v2 ^ v3;
  v1 ^= 0xdd;
  rounds(4);
  hash.high = v0 ^ v1 ^ v2 ^ v3;
  return hash;
}

}  // namespace heddle
