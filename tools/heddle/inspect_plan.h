#pragma once
#include <string>

#include "engine/engine_options.h"
#include "models/checkpoint.h"
#include "tools/heddle/flags.h"

namespace heddle::cli {

/// `inspect --plan`: what the sequences asked for take of memory, whether that is there, and what
/// would fit. `options.context` is filled in; `model` is what the user calls the model.
void print_plan(const Arguments& args,
                const std::string& model,
                const Checkpoint& checkpoint,
                EngineOptions options);

}  // namespace heddle::cli
