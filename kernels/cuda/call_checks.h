#pragma once
// Contracts of ops that models outside our own may reach, checked on the host before anything is
// enqueued: kRuntime for arguments that break an op's contract.

#include "kernels/api/activation.h"
#include "kernels/api/rms_norm.h"

namespace heddle::cuda {

void check_call(const RmsNormArgs& args);
void check_call(const GluArgs& args);

}  // namespace heddle::cuda
