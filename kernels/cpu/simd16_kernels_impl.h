// The loops of the row kernels over a vector type V (simd16.h). Included by
// simd16_kernels_<isa>.cpp only, after that file's V.

#pragma once
#include "kernels/cpu/simd16_kernels.h"
#include "kernels/cpu/simd16_math.h"

namespace heddle::cpu {
namespace {

// Calls f(i, n) for each group of up to 16 elements at i.
template <typename Fn>
HEDDLE_SIMD void for_groups(std::int64_t n, const Fn& f) {
  std::int64_t i = 0;
  for (; i + kSimdLanes <= n; i += kSimdLanes) f(i, kSimdLanes);
  if (i < n) f(i, static_cast<int>(n - i));
}

template <typename V>
HEDDLE_SIMD typename V::F load_some(const float* p, int n) {
  return n == kSimdLanes ? V::load(p) : V::load_n(p, n, V::zero());
}

template <typename V>
HEDDLE_SIMD void store_some(float* p, int n, const typename V::F& v) {
  if (n == kSimdLanes) {
    V::store(p, v);
  } else {
    V::store_n(p, n, v);
  }
}

template <typename V>
float sum_of_squares(const float* x, std::int64_t n_all) {
  auto squares = V::zero();
  for_groups(n_all, [&](std::int64_t i, int n) {
    const auto v = load_some<V>(x + i, n);
    squares = V::fma(v, v, squares);
  });
  return V::reduce_add(squares);
}

template <typename V>
float sum_of_squares(const NormRow& row) {
  float sums[NormRow::kMaxSegments];
  const std::int64_t width = row.width / row.segments;
  for (int s = 0; s < row.segments; ++s) sums[s] = sum_of_squares<V>(row.x + s * width, width);
  for (int n = row.segments / 2; n > 0; n /= 2) {
    for (int s = 0; s < n; ++s) sums[s] = sums[2 * s] + sums[2 * s + 1];
  }
  return sums[0];
}

template <typename V>
void rms_norm_row(const NormRow& row) {
  const float mean = sum_of_squares<V>(row) / static_cast<float>(row.width);
  const auto r = V::set1(1.0F / __builtin_sqrtf(mean + row.eps));
  const auto norm = [&](std::int64_t i, int n) {
    const auto v = V::mul(load_some<V>(row.x + i, n), r);
    return row.weight == nullptr ? v : V::mul(v, load_some<V>(row.weight + i, n));
  };
  if (row.residual == nullptr) {
    for_groups(row.width,
               [&](std::int64_t i, int n) { store_some<V>(row.out + i, n, norm(i, n)); });
  } else {
    for_groups(row.width, [&](std::int64_t i, int n) {
      store_some<V>(row.out + i, n, V::add(load_some<V>(row.residual + i, n), norm(i, n)));
    });
  }
}

template <typename V>
void rope_head(const float* cos, const float* sin, float* head, std::int64_t half) {
  for_groups(half, [&](std::int64_t i, int n) {
    const auto c = load_some<V>(cos + i, n);
    const auto s = load_some<V>(sin + i, n);
    const auto a = load_some<V>(head + i, n);
    const auto b = load_some<V>(head + half + i, n);
    store_some<V>(head + i, n, V::sub(V::mul(a, c), V::mul(b, s)));
    store_some<V>(head + half + i, n, V::add(V::mul(b, c), V::mul(a, s)));
  });
}

// Calls apply(f) with the activation as a function of one vector.
template <typename V, typename Apply>
HEDDLE_SIMD void with_activation(Activation activation, const Apply& apply) {
  using F = typename V::F;
  switch (activation) {  // no default: a new activation is a warning here
    case Activation::kSilu:
      return apply([](const F& x) { return silu<V>(x); });
    case Activation::kGelu:
      return apply([](const F& x) { return gelu<V>(x); });
    case Activation::kGeluTanh:
      return apply([](const F& x) { return gelu_tanh<V>(x); });
    case Activation::kQuickGelu:
      return apply([](const F& x) { return quick_gelu<V>(x); });
    case Activation::kSigmoid:
      return apply([](const F& x) { return sigmoid<V>(x); });
    case Activation::kRelu:
      return apply([](const F& x) { return relu<V>(x); });
    case Activation::kElu1:
      return apply([](const F& x) { return elu1<V>(x); });
    case Activation::kIdentity:
      return apply([](const F& x) { return x; });
  }
}

template <typename V>
void glu_row(const GluRow& row) {
  const auto highest = V::set1(row.limit > 0.0F ? row.limit : __builtin_inff());
  const auto lowest = V::neg(highest);
  const auto added = V::set1(row.up_add);
  with_activation<V>(row.activation, [&](const auto& act) {
    if (row.limit == 0.0F && row.up_add == 0.0F) {
      for_groups(row.n, [&](std::int64_t i, int n) {
        const auto gate = act(load_some<V>(row.gate + i, n));
        store_some<V>(row.out + i, n, V::mul(gate, load_some<V>(row.up + i, n)));
      });
      return;
    }
    for_groups(row.n, [&](std::int64_t i, int n) {
      // the limits are the first operands, so a NaN stays
      const auto gate = V::min(highest, load_some<V>(row.gate + i, n));
      const auto up = V::max(lowest, V::min(highest, load_some<V>(row.up + i, n)));
      store_some<V>(row.out + i, n, V::mul(act(gate), V::add(up, added)));
    });
  });
}

template <typename V>
void activate_row(Activation activation, const float* x, float* out, std::int64_t n_all) {
  with_activation<V>(activation, [&](const auto& act) {
    for_groups(n_all, [&](std::int64_t i, int n) {
      store_some<V>(out + i, n, act(load_some<V>(x + i, n)));
    });
  });
}

template <typename V>
void scale_row(float a, const float* x, float* out, std::int64_t n_all) {
  const auto factor = V::set1(a);
  for_groups(n_all, [&](std::int64_t i, int n) {
    store_some<V>(out + i, n, V::mul(factor, load_some<V>(x + i, n)));
  });
}

template <typename V>
void add_scaled_row(const ScaledSumRow& row) {
  const auto a = V::set1(row.a);
  const auto b = V::set1(row.b);
  for_groups(row.n, [&](std::int64_t i, int n) {
    const auto scaled = V::mul(a, load_some<V>(row.x + i, n));
    store_some<V>(row.out + i, n, V::fma(b, load_some<V>(row.y + i, n), scaled));
  });
}

template <typename V>
void multiply_row(const float* x, const float* y, float* out, std::int64_t n_all) {
  for_groups(n_all, [&](std::int64_t i, int n) {
    store_some<V>(out + i, n, V::mul(load_some<V>(x + i, n), load_some<V>(y + i, n)));
  });
}

template <typename V>
void soft_cap_row(float* x, std::int64_t n_all, float cap) {
  const SoftCap<V> soft_cap(cap);
  for_groups(n_all, [&](std::int64_t i, int n) {
    store_some<V>(x + i, n, soft_cap(load_some<V>(x + i, n)));
  });
}

template <typename V>
void weighted_sum_row(const WeightedSum& row) {
  for_groups(row.width, [&](std::int64_t i, int n) {
    auto sum = row.residual == nullptr ? V::zero() : load_some<V>(row.residual + i, n);
    for (std::int64_t j = 0; j < row.n; ++j) {
      sum = V::fma(V::set1(row.weights[j]), load_some<V>(row.y + j * row.width + i, n), sum);
    }
    store_some<V>(row.out + i, n, sum);
  });
}

template <typename V>
float sum_squares_row(const float* x, std::int64_t n_all) {
  auto squares = V::zero();
  for_groups(n_all, [&](std::int64_t i, int n) {
    const auto v = load_some<V>(x + i, n);
    squares = V::fma(v, v, squares);
  });
  return V::reduce_add(squares);
}

template <typename V, typename Half>
void round_row(const float* x, Half* out, std::int64_t n_all) {
  for_groups(n_all, [&](std::int64_t i, int n) {
    if (n == kSimdLanes) {
      V::store(out + i, V::load(x + i));
    } else {
      Half some[kSimdLanes];
      V::store(some, V::load_n(x + i, n, V::zero()));
      for (int j = 0; j < n; ++j) out[i + j] = some[j];
    }
  });
}

template <typename V, typename Half>
void widen_row(const Half* x, float* out, std::int64_t n) {
  for (std::int64_t i = 0; i + kSimdLanes <= n; i += kSimdLanes) V::store(out + i, V::load(x + i));
}

template <typename V>
void map_exp_any(const float* x, float* out, std::int64_t n_all) {
  for_groups(n_all, [&](std::int64_t i, int n) {
    store_some<V>(out + i, n, exp_any<V>(load_some<V>(x + i, n)));
  });
}

template <typename V>
void map_exp_nonpositive(const float* x, float* out, std::int64_t n_all) {
  for_groups(n_all, [&](std::int64_t i, int n) {
    store_some<V>(out + i, n, exp_nonpositive<V>(load_some<V>(x + i, n)));
  });
}

template <typename V>
void map_tanh(const float* x, float* out, std::int64_t n_all) {
  for_groups(n_all, [&](std::int64_t i, int n) {
    store_some<V>(out + i, n, tanh_any<V>(load_some<V>(x + i, n)));
  });
}

template <typename V>
LogitScan scan_row(const float* logits, std::int64_t n) {
  const auto lowest = V::set1(-__builtin_inff());
  const std::int64_t n_groups = n / kSimdLanes;
  const int n_tail = static_cast<int>(n % kSimdLanes);
  typename V::F max[4] = {lowest, lowest, lowest, lowest};
  bool nan = false;
  std::int64_t g = 0;
  for (; g + 4 <= n_groups; g += 4) {
    const float* const p = logits + g * kSimdLanes;
    typename V::F v[4] = {V::load(p), V::load(p + 16), V::load(p + 32), V::load(p + 48)};
    for (int j = 0; j < 4; ++j) {
      nan |= V::any_nan(v[j]);
      max[j] = V::max(v[j], max[j]);
    }
  }
  for (; g < n_groups; ++g) {
    const auto v = V::load(logits + g * kSimdLanes);
    nan |= V::any_nan(v);
    max[0] = V::max(v, max[0]);
  }
  if (n_tail > 0) {
    const auto v = V::load_n(logits + n_groups * kSimdLanes, n_tail, lowest);
    nan |= V::any_nan(v);
    max[0] = V::max(v, max[0]);
  }
  LogitScan r;
  r.nan = nan;
  r.max = V::reduce_max(V::max(V::max(max[0], max[1]), V::max(max[2], max[3])));
  if (nan) return r;
  const auto top = V::set1(r.max);
  std::int64_t i = 0;  // skip the groups in which every lane is below the maximum
  for (; i + kSimdLanes <= n; i += kSimdLanes) {
    const auto below = V::select_lt(V::load(logits + i), top, V::zero(), V::set1(1.0F));
    if (V::reduce_max(below) > 0.0F) break;
  }
  while (i < n && logits[i] != r.max) ++i;
  r.argmax = i;
  return r;
}

template <typename V>
LogitSums exp_sums_row(
    const float* logits, std::int64_t n_all, float max, float temperature, float* e) {
  const auto top = V::set1(max);
  const auto t = V::set1(temperature);
  const auto lowest = V::set1(-__builtin_inff());
  auto lanes = V::dzero();
  auto grid = V::dzero();
  const auto group = [&](std::int64_t i, int n) {
    const auto x = n == kSimdLanes ? V::load(logits + i) : V::load_n(logits + i, n, lowest);
    auto d = V::sub(x, top);
    if (temperature != 1.0F) d = V::div(d, t);
    const auto w = exp_nonpositive<V>(d);
    lanes = V::dadd(lanes, w);
    if (e != nullptr) {
      grid = V::dadd_grid(grid, w);
      store_some<V>(e + i, n, w);
    }
  };
  for_groups(n_all, group);
  return {V::dreduce(lanes), V::dreduce(grid)};
}

template <typename V>
constexpr RowKernels row_kernels() {
  RowKernels k;
  k.rms_norm = rms_norm_row<V>;
  k.rope = rope_head<V>;
  k.glu = glu_row<V>;
  k.activate = activate_row<V>;
  k.scale = scale_row<V>;
  k.add_scaled = add_scaled_row<V>;
  k.multiply = multiply_row<V>;
  k.soft_cap = soft_cap_row<V>;
  k.weighted_sum = weighted_sum_row<V>;
  k.sum_squares = sum_squares_row<V>;
  k.to_f16 = round_row<V, F16>;
  k.to_bf16 = round_row<V, BF16>;
  k.scan = scan_row<V>;
  k.exp_sums = exp_sums_row<V>;
  k.exp_any = map_exp_any<V>;
  k.exp_nonpositive = map_exp_nonpositive<V>;
  k.tanh = map_tanh<V>;
  k.from_f16 = widen_row<V, F16>;
  k.from_bf16 = widen_row<V, BF16>;
  return k;
}

}  // namespace
}  // namespace heddle::cpu
