#include "kernels/cuda/graph_timer.h"

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_context.h"

namespace heddle::cuda {
namespace {

struct Destroy {
  void operator()(cudaGraph_t graph) const { static_cast<void>(cudaGraphDestroy(graph)); }
  void operator()(cudaGraphExec_t graph) const { static_cast<void>(cudaGraphExecDestroy(graph)); }
  void operator()(cudaEvent_t event) const { static_cast<void>(cudaEventDestroy(event)); }
};
template <typename Handle>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy>;

Owned<cudaEvent_t> timing_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "cudaEventCreate");
  return Owned<cudaEvent_t>(event);
}

Owned<cudaGraphExec_t> capture(cudaStream_t stream,
                               int n_launches,
                               const std::function<void(int)>& enqueue) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  cudaGraph_t graph = nullptr;
  try {
    for (int i = 0; i < n_launches; ++i) enqueue(i);
  } catch (...) {
    static_cast<void>(cudaStreamEndCapture(stream, &graph));
    static_cast<void>(cudaGetLastError());
    if (graph != nullptr) static_cast<void>(cudaGraphDestroy(graph));
    throw;
  }
  check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  const Owned<cudaGraph_t> owned(graph);
  cudaGraphExec_t executable = nullptr;
  check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  return Owned<cudaGraphExec_t>(executable);
}

}  // namespace

GraphTiming time_graph(Backend& backend,
                       int n_launches,
                       int n_replays,
                       const std::function<void(int launch)>& enqueue) {
  HEDDLE_CHECK(n_launches > 0 && n_replays > 0);
  backend.synchronize();  // also makes the device current
  const cudaStream_t stream = context_of(backend).stream;
  const Owned<cudaGraphExec_t> graph = capture(stream, n_launches, enqueue);
  const Owned<cudaEvent_t> begin = timing_event();
  const Owned<cudaEvent_t> end = timing_event();
  constexpr int kWarmUps = 3;
  std::vector<double> times;
  for (int i = 0; i < kWarmUps + n_replays; ++i) {
    check(cudaEventRecord(begin.get(), stream), "cudaEventRecord");
    check(cudaGraphLaunch(graph.get(), stream), "cudaGraphLaunch");
    check(cudaEventRecord(end.get(), stream), "cudaEventRecord");
    check(cudaEventSynchronize(end.get()), "cudaEventSynchronize");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin.get(), end.get()), "cudaEventElapsedTime");
    if (i >= kWarmUps) times.push_back(1e3 * ms / n_launches);
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times.front(), times.back()};
}

}  // namespace heddle::cuda
