#pragma once
// Random draws that depend on a seed and on what they are for, never on what was drawn elsewhere.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace heddle::needle {

class Random {
 public:
  /// `purpose` names the draw: "niah number 4096 0 keys".
  Random(std::uint64_t seed, std::string_view purpose);

  std::uint64_t bits();                     // 64 of them
  std::uint64_t below(std::uint64_t n);     // 0 .. n - 1, uniform; n > 0
  double uniform(double low, double high);  // [low, high)
  template <typename Items>
  const auto& pick(const Items& items) {
    return items[below(items.size())];
  }
  template <typename T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }

 private:
  std::array<std::uint64_t, 2> key_ = {};
  std::uint64_t drawn_ = 0;
};

}  // namespace heddle::needle
