#pragma once
// Arguments -> what the engine takes.

#include <optional>
#include <string>

#include "engine/engine_options.h"
#include "engine/request.h"
#include "tools/heddle/flags.h"

namespace heddle::cli {

/// The path of the command's MODEL. Throws kBadInput for names that are unknown or not fetched.
std::string model_path(const Arguments& args);

/// Flags that the command does not have stay at their defaults.
EngineOptions engine_options(const Arguments& args);

/// --device resolved: auto is CUDA where a device is usable and every op has a kernel for it.
DeviceKind device_of(const Arguments& args);

/// What the user set over what the checkpoint suggests.
SamplingParams sampling_params(const Arguments& args, SamplingParams defaults);

/// A seed for runs that name none.
std::uint64_t fresh_seed();

/// The request's part that the flags decide: sampling, stop texts, length, logprobs.
Request request_template(const Arguments& args, const SamplingParams& defaults);

/// The text of -p, -f or -; nullopt: none of them. Throws kBadInput for more than one.
std::optional<std::string> input_text(const Arguments& args);

}  // namespace heddle::cli
