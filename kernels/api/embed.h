#pragma once
#include "base/tensor_view.h"
#include "kernels/packed_matrix.h"

namespace heddle {

/// out[t] = scale * table[ids[t]]: rows dequantised exactly (f32 arithmetic of the block format).
/// ids outside [0, n_rows) are an internal error: the engine checks requests. CUDA, where the host
/// does not see ids, gives rows of NaN for them.
struct EmbedArgs {
  TensorView ids;                       // [n_tokens]            I32
  const PackedMatrix* table = nullptr;  // [vocab, hidden]
  float scale = 1.0F;
  TensorView out;  // [n_tokens, hidden]    F32
};

/// out[i] = x[rows[i]]; out must not alias x.
struct GatherRowsArgs {
  TensorView x;     // [n, width]   F32
  TensorView rows;  // [m]          I32, in [0, n)
  TensorView out;   // [m, width]   F32
};

}  // namespace heddle
