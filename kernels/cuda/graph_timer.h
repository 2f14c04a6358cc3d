#pragma once
// Times work on a CUDA backend's stream the way that benchmarks need it: without launch gaps.

#include <functional>

#include "kernels/backend.h"

namespace heddle::cuda {

struct GraphTiming {
  double median_us = 0;  // per launch, over the replays
  double min_us = 0;
  double max_us = 0;
};

/// Captures enqueue(0) ... enqueue(n_launches - 1) into one CUDA graph, replays it `n_replays`
/// times after three warm-up replays, and divides each replay's time (device events) by n_launches.
/// `enqueue` must only put work on the backend's stream. Throws kDevice.
GraphTiming time_graph(Backend& backend,
                       int n_launches,
                       int n_replays,
                       const std::function<void(int launch)>& enqueue);

}  // namespace heddle::cuda
