#pragma once
// One step's work as flat arrays at addresses that stay the same from step to step, so that a
// captured graph can replay it.

#include <cstddef>
#include <vector>

#include "base/tensor_view.h"

namespace heddle {

/// Where keys and values lie: I32 on the backend's device.
struct PageIds {
  TensorView slots;         // [n_tokens] block * block_tokens + offset where a row's K and V go
  TensorView block_tables;  // [n_sequences, max_blocks]
};

/// Row t is one token to compute. Rows of one sequence are adjacent with ascending positions. All
/// arrays are I32 on the backend's device; capacities are fixed, the first n_* entries are valid.
struct ForwardBatch {
  std::int64_t n_tokens = 0;
  std::int64_t n_sequences = 0;
  std::int64_t n_outputs = 0;
  TensorView ids;        // [n_tokens] token ids
  TensorView positions;  // [n_tokens] absolute position in its sequence
  TensorView sequence;   // [n_tokens] index into block_tables
  PageIds pool;          // of layers that keep the whole context
  /// Of layers that keep a window, one for each size of rings: position s lies in page
  /// state slot * ring blocks + (s / block_tokens) mod (ring blocks). A table's entries before the
  /// last ring blocks of its sequence are not filled in: no row sees their keys.
  std::vector<PageIds> rings;
  TensorView state_slots;  // [n_sequences] where states lie; -1 where the model has none
  TensorView output_rows;  // [n_outputs] rows whose logits are wanted

  /// `ring`: MixerCache::ring.
  const PageIds& pages(int ring) const {
    return ring < 0 ? pool : rings.at(static_cast<std::size_t>(ring));
  }
};

}  // namespace heddle
