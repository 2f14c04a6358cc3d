#pragma once
// What serve and batch make of their flags.

#include "engine/engine.h"
#include "tools/heddle/flags.h"
#include "tools/serve/driver.h"
#include "tools/serve/limits.h"
#include "tools/serve/reply/reply_style.h"

namespace heddle::cli {

serve::ServerLimits server_limits(const Arguments& args);
/// With --parallel sequences and a KV cache that holds a few whole contexts, if not told.
EngineOptions server_engine_options(const Arguments& args);
/// Id and aliases.
serve::ModelFacts server_facts(const Arguments& args);
/// As the chat template says, or --tool-parser and --no-reasoning.
serve::ReplyStyle server_reply_style(const Arguments& args, const Engine& engine);

}  // namespace heddle::cli
