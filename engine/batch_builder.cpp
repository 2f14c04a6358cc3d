#include "engine/batch_builder.h"

#include <algorithm>

namespace heddle {

std::uint64_t batch_bytes(const BatchCapacity& c) {
  const auto n_tables = static_cast<std::int64_t>(c.rings.size()) + 1;
  const std::int64_t n = (3 + n_tables) * c.max_tokens +
                         c.max_sequences * (n_tables * c.max_blocks + 1) + c.max_outputs;
  return static_cast<std::uint64_t>(n) * sizeof(std::int32_t);
}

BatchBuilder::BatchBuilder(const BatchCapacity& capacity, Backend& backend)
    : capacity_(capacity),
      backend_(backend),
      ids_(make(capacity.max_tokens)),
      positions_(make(capacity.max_tokens)),
      sequence_(make(capacity.max_tokens)),
      state_slots_(make(capacity.max_sequences)),
      output_rows_(make(capacity.max_outputs)),
      pool_(make_pages()) {
  for (std::size_t i = 0; i < capacity.rings.size(); ++i) rings_.push_back(make_pages());
  batch_.rings.resize(rings_.size());
}

BatchBuilder::Array BatchBuilder::make(std::int64_t n) {
  const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(std::int32_t);
  Array array;
  array.host = backend_.allocate_host(bytes);
  if (backend_.kind() != DeviceKind::kCpu) array.device = backend_.allocate(bytes);
  return array;
}

BatchBuilder::Pages BatchBuilder::make_pages() {
  return {.slots = make(capacity_.max_tokens),
          .tables = make(capacity_.max_sequences * capacity_.max_blocks)};
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

PageIds BatchBuilder::upload(const Pages& pages) {
  return {.slots = upload(pages.slots, {batch_.n_tokens}),
          .block_tables = upload(pages.tables, {batch_.n_sequences, capacity_.max_blocks})};
}

/// Those of the pool.
void BatchBuilder::fill_pages(const BatchPlan& plan) {
  std::int32_t* slot = pool_.slots.values();
  std::int32_t* table = pool_.tables.values();
  const std::int64_t tokens = capacity_.block_tokens;
  for (const BatchPlan::Item& item : plan.items) {
    HEDDLE_CHECK(static_cast<std::int64_t>(item.block_table.size()) <= capacity_.max_blocks);
    std::copy(item.block_table.begin(), item.block_table.end(), table);
    for (std::int64_t position = item.start; position < item.end(); ++position) {
      const BlockId block = item.block_table[static_cast<std::size_t>(position / tokens)];
      *slot++ = static_cast<std::int32_t>(block * tokens + position % tokens);
    }
    table += capacity_.max_blocks;
  }
}

/// The newest n_blocks of each sequence; what lies before has left every window.
void BatchBuilder::fill_ring(const BatchPlan& plan, std::int64_t n_blocks, const Pages& pages) {
  std::int32_t* slot = pages.slots.values();
  std::int32_t* table = pages.tables.values();
  const std::int64_t tokens = capacity_.block_tokens;
  for (const BatchPlan::Item& item : plan.items) {
    HEDDLE_CHECK(item.state_slot >= 0 && std::ssize(item.tokens) <= n_blocks * tokens);
    const auto page = [&](std::int64_t block) {
      return static_cast<std::int32_t>(item.state_slot * n_blocks + block % n_blocks);
    };
    const std::int64_t last = (item.end() - 1) / tokens;
    HEDDLE_CHECK(last < capacity_.max_blocks);
    for (std::int64_t b = std::max<std::int64_t>(0, last - n_blocks + 1); b <= last; ++b) {
      table[b] = page(b);
    }
    for (std::int64_t position = item.start; position < item.end(); ++position) {
      *slot++ = static_cast<std::int32_t>(page(position / tokens) * tokens + position % tokens);
    }
    table += capacity_.max_blocks;
  }
}

const ForwardBatch& BatchBuilder::fill(const BatchPlan& plan) {
  const auto n_sequences = static_cast<std::int64_t>(plan.items.size());
  HEDDLE_CHECK(plan.n_tokens <= capacity_.max_tokens && n_sequences <= capacity_.max_sequences);
  HEDDLE_CHECK(plan.n_outputs <= capacity_.max_outputs);
  std::int64_t row = 0;
  std::int64_t output = 0;
  for (std::int64_t s = 0; s < n_sequences; ++s) {
    const BatchPlan::Item& item = plan.items[static_cast<std::size_t>(s)];
    HEDDLE_CHECK(item.pending_row < 0);  // the CPU backend resolves every token at once
    state_slots_.values()[s] = item.state_slot;
    const auto n = static_cast<std::int64_t>(item.tokens.size());
    for (std::int64_t i = 0; i < n; ++i, ++row) {
      ids_.values()[row] = item.tokens[static_cast<std::size_t>(i)];
      positions_.values()[row] = static_cast<std::int32_t>(item.start + i);
      sequence_.values()[row] = static_cast<std::int32_t>(s);
      if (i >= n - item.n_outputs) {
        output_rows_.values()[output++] = static_cast<std::int32_t>(row);
      }
    }
  }
  HEDDLE_CHECK(row == plan.n_tokens && output == plan.n_outputs);
  fill_pages(plan);
  for (std::size_t i = 0; i < rings_.size(); ++i) fill_ring(plan, capacity_.rings[i], rings_[i]);
  batch_.n_tokens = row;
  batch_.n_sequences = n_sequences;
  batch_.n_outputs = output;
  batch_.ids = upload(ids_, {row});
  batch_.positions = upload(positions_, {row});
  batch_.sequence = upload(sequence_, {row});
  batch_.pool = upload(pool_);
  for (std::size_t i = 0; i < rings_.size(); ++i) batch_.rings[i] = upload(rings_[i]);
  batch_.state_slots = upload(state_slots_, {n_sequences});
  batch_.output_rows = upload(output_rows_, {output});
  return batch_;
}

}  // namespace heddle
