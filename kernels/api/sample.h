#pragma once
#include "base/tensor_view.h"

namespace heddle {

/// How one row's token is drawn. With x_i = (logit_i - max) / temperature in f32, token i weighs
/// w_i = exp(x_i), an f32 exp rounded to a multiple of 2^-34 (so every sum of weights below is
/// exact in f64, and no result depends on the order of a sum, the processor or the algorithm).
/// Candidates are the tokens of weight > 0 by descending logit, ties by ascending id; each filter
/// keeps a prefix, never an empty one:
///   top_k: the first top_k;  top_p: the shortest whose weight reaches top_p * (sum of all w);
///   min_p: those with x_i >= ln min_p (that is p >= min_p * p_max).
/// The token is the first whose cumulative weight exceeds uniform * (weight kept).
/// Temperature 0: the largest logit, ties to the lower id. Vocabularies hold up to 2^19 tokens.
struct SampleParams {
  float temperature = 0.0F;  // >= 0, finite
  int top_k = 0;             // <= 0: all
  float top_p = 1.0F;        // 1: all
  float min_p = 0.0F;        // 0: all
  double uniform = 0.0;      // in [0, 1): the row's random number
};

/// Draws one token per row. `logprob` is log softmax(logits)[token] at temperature 1, before any
/// filter, from an f64 sum over 16 lanes (CUDA: 512; id mod 16, ascending; then halving). A row's
/// result depends on that row only. A row with a NaN or +infinity, or with no finite logit, gives
/// token -1 and logprob NaN (the engine fails that request).
struct SampleArgs {
  TensorView logits;                     // [n_rows, vocab] F32, not changed
  const SampleParams* params = nullptr;  // [n_rows], host memory
  TensorView tokens;                     // [n_rows] I32
  TensorView logprobs;                   // [n_rows] F32
};

}  // namespace heddle
