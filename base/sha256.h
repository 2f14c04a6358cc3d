#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace heddle {

/// SHA-256 of a stream of bytes. Source: FIPS 180-4, sections 4.1.2, 5 and 6.2.
class Sha256 {
 public:
  Sha256& update(const void* data, std::size_t n);
  /// The digest of all bytes so far, 64 lower-case hexadecimal digits; more bytes may follow.
  std::string hex() const;

 private:
  void block(const std::uint8_t* data);

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> rest_{};  // bytes that do not fill a block yet
  std::uint64_t n_bytes_ = 0;
};

std::string sha256_hex(std::string_view bytes);

}  // namespace heddle
