#pragma once
#include "kernels/api/attention.h"
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/cpu_context.h"

namespace heddle::cpu {

/// Runs checked, non-empty args: cuts the call into tasks, runs them with the kernels on the
/// context's threads and merges what was split.
void run_attention(const AttentionArgs& args, CpuContext& context, const AttentionKernels& kernels);

}  // namespace heddle::cpu
