#include "models/slopes.h"

#include <bit>
#include <cmath>

#include "base/error.h"

namespace heddle {
namespace {

std::vector<double> power_of_two(int n) {
  std::vector<double> slopes;
  for (int h = 1; h <= n; ++h) slopes.push_back(std::exp2(-8.0 * h / n));
  return slopes;
}

}  // namespace

std::vector<double> alibi_slopes(int n_heads) {
  HEDDLE_CHECK(n_heads > 0);
  const int below = static_cast<int>(std::bit_floor(static_cast<unsigned>(n_heads)));
  std::vector<double> slopes = power_of_two(below);
  const std::vector<double> between = power_of_two(2 * below);
  for (std::size_t i = 0; slopes.size() < static_cast<std::size_t>(n_heads); i += 2) {
    slopes.push_back(between[i]);
  }
  return slopes;
}

std::vector<float> layer_slopes(const std::vector<double>& table,
                                int layer,
                                int n_layers,
                                int offset) {
  const double depth = n_layers > 1 ? static_cast<double>(layer - offset) / (n_layers - 1) : 0.0;
  std::vector<float> slopes;
  for (const double s : table) slopes.push_back(static_cast<float>(s * (1.0 - depth + 1e-5)));
  return slopes;
}

std::vector<float> plain_slopes(const std::vector<double>& table) {
  return {table.begin(), table.end()};
}

}  // namespace heddle
