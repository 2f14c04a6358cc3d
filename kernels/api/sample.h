#pragma once
#include "base/tensor_view.h"

namespace heddle {

/// How one row's token is drawn. Order: logits / temperature -> softmax -> top_k -> top_p -> min_p
/// -> renormalise -> inverse CDF at `uniform` over candidates by descending probability (ties:
/// lower id first). temperature 0: the largest logit, ties to the lower id.
struct SampleParams {
  float temperature = 0.0F;  // >= 0
  int top_k = 0;             // 0: all
  float top_p = 1.0F;        // keep the smallest prefix whose mass reaches top_p; 1: all
  float min_p = 0.0F;        // keep p >= min_p * p_max; 0: all
  double uniform = 0.0;      // in [0, 1): the row's random number
};

/// Draws one token per row. `logprob` is log softmax(logits)[token] at temperature 1, before any
/// filter. Sums in f64 in ascending id order, so a row's token depends on that row only. A row with
/// a NaN or with no finite logit gives token -1 (the engine fails that request).
struct SampleArgs {
  TensorView logits;                     // [n_rows, vocab] F32, not changed
  const SampleParams* params = nullptr;  // [n_rows], host memory
  TensorView tokens;                     // [n_rows] I32
  TensorView logprobs;                   // [n_rows] F32
};

}  // namespace heddle
