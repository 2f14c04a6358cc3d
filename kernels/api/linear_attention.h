#pragma once
#include "base/tensor_view.h"

namespace heddle {

/// Tokens after which the state of linear attention is folded: part of the numerics id, the same on
/// every device.
inline constexpr std::int64_t kLinearBlock = 16;

/// One layer's recurrent states. The state of a sequence with n tokens is a pair: S after its last
/// absolute multiple of B = kLinearBlock tokens, and the keys and values of the n mod B tokens
/// since. Slots hold anything until their sequence has written them: nothing of a slot is read for
/// a row whose block of B tokens is the sequence's first, and no entry of the tail but those of
/// the block's earlier tokens.
struct LinearState {
  TensorView s;       // [n_slots, n_heads, key_dim, value_dim]  F32
  TensorView tail_k;  // [n_slots, n_heads, B, key_dim]          F32
  TensorView tail_v;  // [n_slots, n_heads, B, value_dim]        F32
};

/// o[t,h] = scale * q[t,h]^T S_t,  S_t = exp(-s_h) S_(t-1) + k[t,h] v[t,h]^T,  S before position 0
/// is zero. No normaliser; s_h >= 0 is constant. q, k, v come with norm, activation, feature map
/// and rotation applied.
///
/// Fixed reduction tree, the same for prefill and decode, so that a row's bits depend neither on
/// the chunk it is computed in, nor on batch, threads or slot. With b = position / B, i = position
/// mod B, S the state before token b B (absent for b = 0), e(m) = exp(-s m) and j = 0 .. i the
/// block's tokens:
///   inter = sum_d q_d S[d,:], d ascending
///   intra_j = (q . k_j) e(i - j); the dot product: 16 lanes (d mod 16), d ascending, then halving
///   o = scale * (e(i + 1) inter + sum_j intra_j v_j),  j ascending
/// and when the block's last token is in, for every d and column:
///   S = e(B) S + sum_j (e(B - 1 - j) k_j[d]) v_j,  j ascending.
/// Sums are FMA chains that start from e(i + 1) inter and e(B) S, from +0 where S is absent. e(m)
/// is taken from s and the integer m, never as a power of a rounded decay. Where e(B) > 1/2 its
/// term is fma(expm1(-s B), S, S): e(B) rounded to f32 would be off in the same direction at every
/// fold. `ref` uses the token-by-token recurrence on the same pair, in f64, and rounds what it
/// stores to f32; its bits do not depend on chunk, batch, threads or slot either.
///
/// Rows of one sequence are adjacent and their positions ascend by 1; sequence[t] indexes slots.
/// The first row of a sequence continues what the slot holds: tokens 0 .. position - 1. Rows of a
/// negative slot may have any positions.
/// Source: Qin et al. 2024 (Lightning Attention-2, 2401.04658), eq. 7-10; the deferred fold is
/// ours.
struct LinearAttentionArgs {
  TensorView q;          // [n_tokens, n_heads, key_dim]    F32
  TensorView k;          // like q
  TensorView v;          // [n_tokens, n_heads, value_dim]  F32
  TensorView slopes;     // [n_heads] F32, >= 0 and finite
  LinearState state;     // read and written
  TensorView slots;      // [n_sequences] I32, distinct or negative: then its rows give zeros
  TensorView sequence;   // [n_tokens] I32
  TensorView positions;  // [n_tokens] I32
  TensorView out;        // like v; must not alias q, k or v
  float scale = 0.0F;    // finite; 0 is rejected
};

}  // namespace heddle
