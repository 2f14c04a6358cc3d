#pragma once
// The automaton of well-formed UTF-8 (Unicode 3.9, table 3-7): where a text is within a character.

#include <cstdint>
#include <span>

namespace heddle {

struct Utf8Edge {
  std::uint8_t low = 0;
  std::uint8_t high = 0;
  int target = 0;
};

/// State 0: between characters. 1, 2, 3: so many bytes to come, any. 4: after E0, 5: ED, 6: F0,
/// 7: F4.
inline constexpr int kUtf8States = 8;

inline std::span<const Utf8Edge> utf8_edges(int state) {
  static constexpr Utf8Edge kGround[] = {{0x00, 0x7F, 0}, {0xC2, 0xDF, 1}, {0xE0, 0xE0, 4},
                                         {0xE1, 0xEC, 2}, {0xED, 0xED, 5}, {0xEE, 0xEF, 2},
                                         {0xF0, 0xF0, 6}, {0xF1, 0xF3, 3}, {0xF4, 0xF4, 7}};
  static constexpr Utf8Edge kOthers[] = {{0x80, 0xBF, 0}, {0x80, 0xBF, 1}, {0x80, 0xBF, 2},
                                         {0xA0, 0xBF, 1}, {0x80, 0x9F, 1}, {0x90, 0xBF, 2},
                                         {0x80, 0x8F, 2}};
  if (state == 0) return kGround;
  return std::span(kOthers).subspan(static_cast<std::size_t>(state - 1), 1);
}

}  // namespace heddle
