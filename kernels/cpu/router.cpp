#include "kernels/cpu/router.h"

#include <cmath>
#include <limits>

#include "base/error.h"

namespace heddle::cpu {

double exps(const float* x, float* e, std::int64_t n, const RowKernels& kernels) {
  float max = -std::numeric_limits<float>::infinity();
  for (std::int64_t i = 0; i < n; ++i) max = x[i] > max ? x[i] : max;
  for (std::int64_t i = 0; i < n; ++i) e[i] = x[i] - max;
  kernels.exp_nonpositive(e, e, n);
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += e[i];
  return sum;
}

std::vector<double> softmax_ref(const std::vector<double>& x) {
  double max = -std::numeric_limits<double>::infinity();
  for (const double v : x) max = std::fmax(max, v);
  std::vector<double> p;
  double sum = 0;
  for (const double v : x) sum += p.emplace_back(std::exp(v - max));
  for (double& v : p) v /= sum;
  return p;
}

std::size_t best_left(const std::vector<double>& keys, const std::vector<bool>& left) {
  std::size_t best = keys.size();
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (!left[i]) continue;
    if (best == keys.size() || keys[i] > keys[best] ||
        (std::isnan(keys[best]) && !std::isnan(keys[i]))) {
      best = i;
    }
  }
  HEDDLE_CHECK(best < keys.size());
  return best;
}

}  // namespace heddle::cpu
