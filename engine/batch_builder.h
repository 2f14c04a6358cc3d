#pragma once
#include <cstdint>
#include <vector>

#include "kernels/backend.h"
#include "models/forward_batch.h"
#include "scheduler/batch_plan.h"

namespace heddle {

struct BatchCapacity {
  std::int64_t max_tokens = 0;
  std::int64_t max_sequences = 0;
  std::int64_t max_outputs = 0;
  std::int64_t max_blocks = 0;  // of one sequence
  int block_tokens = 16;
  std::vector<std::int64_t> rings = {};  // blocks of each: ring_sizes()
};

/// Of the arrays, on the host or on a device.
std::uint64_t batch_bytes(const BatchCapacity& capacity);

/// Turns a BatchPlan into the arrays that kernels read, at addresses that never change.
class BatchBuilder {
 public:
  BatchBuilder(const BatchCapacity& capacity, Backend& backend);
  /// The batch is valid until the next call.
  const ForwardBatch& fill(const BatchPlan& plan);

 private:
  struct Array {
    Buffer host, device;
    std::int32_t* values() const { return host.as<std::int32_t>(); }
  };
  /// A PageIds.
  struct Pages {
    Array slots, tables;
  };
  Array make(std::int64_t n);
  Pages make_pages();
  void fill_pages(const BatchPlan& plan);
  void fill_ring(const BatchPlan& plan, std::int64_t n_blocks, const Pages& pages);
  TensorView upload(const Array& array, std::initializer_list<std::int64_t> shape);
  PageIds upload(const Pages& pages);

  BatchCapacity capacity_;
  Backend& backend_;
  Array ids_, positions_, sequence_, state_slots_, output_rows_;
  Pages pool_;
  std::vector<Pages> rings_;
  ForwardBatch batch_;
};

}  // namespace heddle
