#include "engine/batch_builder.h"

#include <algorithm>

namespace heddle {

std::uint64_t batch_bytes(const BatchCapacity& c) {
  const std::int64_t n = 4 * c.max_tokens + c.max_sequences * (c.max_blocks + 1) + c.max_outputs;
  return static_cast<std::uint64_t>(n) * sizeof(std::int32_t);
}

BatchBuilder::BatchBuilder(const BatchCapacity& capacity, Backend& backend)
    : capacity_(capacity),
      backend_(backend),
      ids_(make(capacity.max_tokens)),
      positions_(make(capacity.max_tokens)),
      sequence_(make(capacity.max_tokens)),
      slots_(make(capacity.max_tokens)),
      tables_(make(capacity.max_sequences * capacity.max_blocks)),
      state_slots_(make(capacity.max_sequences)),
      output_rows_(make(capacity.max_outputs)) {}

BatchBuilder::Array BatchBuilder::make(std::int64_t n) {
  const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(std::int32_t);
  Array array;
  array.host = backend_.allocate_host(bytes);
  if (backend_.kind() != DeviceKind::kCpu) array.device = backend_.allocate(bytes);
  return array;
}

TensorView BatchBuilder::upload(const Array& array, std::initializer_list<std::int64_t> shape) {
  const bool on_host = backend_.kind() == DeviceKind::kCpu;
  const TensorView view(on_host ? array.host.data() : array.device.data(), DType::kI32, shape,
                        backend_.kind());
  if (!on_host) {
    backend_.copy_to_device(view.data, array.host.data(), static_cast<std::size_t>(view.bytes()));
  }
  return view;
}

const ForwardBatch& BatchBuilder::fill(const BatchPlan& plan) {
  const auto n_sequences = static_cast<std::int64_t>(plan.items.size());
  HEDDLE_CHECK(plan.n_tokens <= capacity_.max_tokens && n_sequences <= capacity_.max_sequences);
  HEDDLE_CHECK(plan.n_outputs <= capacity_.max_outputs);
  std::int64_t row = 0;
  std::int64_t output = 0;
  for (std::int64_t s = 0; s < n_sequences; ++s) {
    const BatchPlan::Item& item = plan.items[static_cast<std::size_t>(s)];
    HEDDLE_CHECK(static_cast<std::int64_t>(item.block_table.size()) <= capacity_.max_blocks);
    HEDDLE_CHECK(item.pending_row < 0);  // the CPU backend resolves every token at once
    std::copy(item.block_table.begin(), item.block_table.end(),
              tables_.values() + s * capacity_.max_blocks);
    state_slots_.values()[s] = item.state_slot;
    const auto n = static_cast<std::int64_t>(item.tokens.size());
    for (std::int64_t i = 0; i < n; ++i, ++row) {
      const std::int64_t position = item.start + i;
      const BlockId block =
          item.block_table[static_cast<std::size_t>(position / capacity_.block_tokens)];
      ids_.values()[row] = item.tokens[static_cast<std::size_t>(i)];
      positions_.values()[row] = static_cast<std::int32_t>(position);
      sequence_.values()[row] = static_cast<std::int32_t>(s);
      slots_.values()[row] = block * capacity_.block_tokens +
                             static_cast<std::int32_t>(position % capacity_.block_tokens);
      if (i >= n - item.n_outputs) {
        output_rows_.values()[output++] = static_cast<std::int32_t>(row);
      }
    }
  }
  HEDDLE_CHECK(row == plan.n_tokens && output == plan.n_outputs);
  batch_.n_tokens = row;
  batch_.n_sequences = n_sequences;
  batch_.n_outputs = output;
  batch_.ids = upload(ids_, {row});
  batch_.positions = upload(positions_, {row});
  batch_.sequence = upload(sequence_, {row});
  batch_.slots = upload(slots_, {row});
  batch_.block_tables = upload(tables_, {n_sequences, capacity_.max_blocks});
  batch_.state_slots = upload(state_slots_, {n_sequences});
  batch_.output_rows = upload(output_rows_, {output});
  return batch_;
}

}  // namespace heddle
