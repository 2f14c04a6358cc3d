#include "tools/heddle/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <random>

#include "base/error.h"
#include "kernels/backend.h"
#include "models/attention_mode.h"
#include "models/quote_text.h"
#include "models/registry.h"
#include "tools/heddle/io.h"

namespace heddle::cli {
namespace {

bool has_flag(const Arguments& args, std::string_view name) {
  const auto flags = flags_of(args.command());
  return std::any_of(flags.begin(), flags.end(), [&](const auto* f) { return f->name == name; });
}

/// "matmul=ref,embed=ref" and repeated flags.
ForcedVariants forced_variants(const Arguments& args) {
  ForcedVariants forced;
  for (const std::string& value : args.texts("force-kernel")) {
    for (std::size_t begin = 0; begin <= value.size();) {
      const std::size_t end = std::min(value.find(',', begin), value.size());
      const std::string part = value.substr(begin, end - begin);
      const std::size_t equals = part.find('=');
      if (equals == std::string::npos || equals == 0 || equals + 1 == part.size()) {
        throw bad_input(
            fmt::format("--force-kernel: {} is not valid; allowed: OP=VARIANT (see --list-kernels)",
                        quote_text(part)));
      }
      forced[part.substr(0, equals)] = part.substr(equals + 1);
      begin = end + 1;
    }
  }
  return forced;
}

std::map<std::int32_t, float> logit_biases(const Arguments& args) {
  std::map<std::int32_t, float> biases;
  for (const std::string& value : args.texts("logit-bias")) {
    const std::size_t equals = std::min(value.find('='), value.size());
    const char* const begin = value.data();
    const char* const end = begin + value.size();
    std::int32_t id = -1;
    float bias = 0.0F;
    const auto id_read = std::from_chars(begin, begin + equals, id);
    const bool has_bias = equals + 1 < value.size();
    const auto bias_read = std::from_chars(has_bias ? begin + equals + 1 : end, end, bias);
    if (id_read.ec != std::errc() || id_read.ptr != begin + equals || id < 0 || !has_bias ||
        bias_read.ec != std::errc() || bias_read.ptr != end || !(std::fabs(bias) <= 100.0F)) {
      throw bad_input(
          fmt::format("--logit-bias: {} is not valid; allowed: ID=B, ID a token id "
                      "from 0, B a number from -100 to 100",
                      quote_text(value)));
    }
    biases[id] = bias;
  }
  return biases;
}

/// What serves the prefix cache alone would do nothing.
void check_prefix_cache_flags(const Arguments& args) {
  if (!args.on("no-prefix-cache")) return;
  for (const char* flag : {"verify-cache", "snapshot-memory", "host-cache"}) {
    if (args.number(flag).value_or(0.0) == 0.0) continue;
    throw bad_input(
        fmt::format("--{} needs the prefix cache, which --no-prefix-cache turns off", flag));
  }
}

std::uint64_t mebibytes(const Arguments& args, std::string_view flag) {
  return static_cast<std::uint64_t>(args.integer(flag).value_or(0)) << 20U;
}

}  // namespace

std::string model_path(const Arguments& args) {
  return resolve_model(args.operands().at(0)).path;
}

DeviceKind device_of(const Arguments& args) {
  const std::string name = args.text("device").value_or("auto");
  if (name == "cpu") return DeviceKind::kCpu;
  if (name == "cuda") return DeviceKind::kCuda;
  try {
    const auto cuda = list_variants(DeviceKind::kCuda);
    for (const auto& [op, variants] : list_variants(DeviceKind::kCpu)) {
      const bool covered = std::any_of(cuda.begin(), cuda.end(), [&, &name_of_op = op](auto& row) {
        return row.first == name_of_op && !row.second.empty();
      });
      if (!covered) return DeviceKind::kCpu;
    }
    make_backend({.device = DeviceKind::kCuda});
    return DeviceKind::kCuda;
  } catch (const Error&) {
    return DeviceKind::kCpu;  // no CUDA in this build, or no usable device
  }
}

EngineOptions engine_options(const Arguments& args) {
  EngineOptions options;
  options.model_config = args.model_config();
  if (options.model_config.empty()) options.model = model_path(args);
  if (has_flag(args, "attention")) {
    if (const auto mode = args.text("attention")) {
      check_attention_mode(*mode);
      options.attention = *mode;
    }
  }
  if (has_flag(args, "device")) {
    options.backend.device = device_of(args);
    options.backend.forced = forced_variants(args);
    options.memory_limit = mebibytes(args, "memory-limit");
    options.allow_nonfinite = args.on("allow-nonfinite");
  }
  if (has_flag(args, "threads")) {
    options.backend.threads = static_cast<int>(args.integer("threads").value_or(0));
  }
  if (has_flag(args, "snapshot-memory")) {
    options.snapshot_memory = mebibytes(args, "snapshot-memory");
    options.host_cache = mebibytes(args, "host-cache");
  }
  if (has_flag(args, "ctx")) options.context = args.integer("ctx").value_or(0);
  if (has_flag(args, "seqs")) options.max_sequences = args.integer("seqs").value_or(1);
  if (has_flag(args, "kv-tokens")) options.kv_tokens = args.integer("kv-tokens").value_or(0);
  if (has_flag(args, "max-step-tokens")) {
    options.max_step_tokens = args.integer("max-step-tokens").value_or(0);
  }
  if (has_flag(args, "no-prefix-cache")) {
    check_prefix_cache_flags(args);
    options.prefix_cache = !args.on("no-prefix-cache");
  }
  if (has_flag(args, "verify-cache")) {
    options.verify_cache = args.number("verify-cache").value_or(0.0);
  }
  if (const auto dtype = args.text("kv-dtype")) options.kv_dtype = parse_dtype(*dtype);
  if (const auto block = args.text("block-tokens")) options.block_tokens = std::stoi(*block);
  return options;
}

SamplingParams sampling_params(const Arguments& args, SamplingParams defaults) {
  SamplingParams p = std::move(defaults);
  const auto take = [&](std::string_view name, float& value) {
    if (const auto number = args.number(name)) value = static_cast<float>(*number);
  };
  take("temp", p.temperature);
  take("top-p", p.top_p);
  take("min-p", p.min_p);
  take("repeat-penalty", p.repetition_penalty);
  take("presence-penalty", p.presence_penalty);
  take("frequency-penalty", p.frequency_penalty);
  if (const auto k = args.integer("top-k")) p.top_k = static_cast<int>(*k);
  p.logit_bias = logit_biases(args);
  const auto seed = args.integer("seed");
  p.seed = seed ? static_cast<std::uint64_t>(*seed) : fresh_seed();
  return p;
}

std::uint64_t fresh_seed() {
  std::random_device device;
  return ((std::uint64_t{device()} << 32U) | device()) >>
         11U;  // 53 bits: survive every JSON reader
}

Request request_template(const Arguments& args, const SamplingParams& defaults) {
  Request request;
  request.sampling = sampling_params(args, defaults);
  request.max_new_tokens = args.integer("max-tokens").value_or(512);
  request.ignore_eos = args.on("ignore-eos");
  if (has_flag(args, "min-tokens")) {
    request.min_new_tokens = args.integer("min-tokens").value_or(0);
  }
  if (has_flag(args, "deadline")) request.deadline = args.number("deadline").value_or(0.0);
  request.stop = args.texts("stop");
  for (const std::string& stop : request.stop) {
    if (stop.empty()) throw bad_input("--stop: '' is not valid; allowed: text of 1 to 1024 bytes");
  }
  return request;
}

std::optional<std::string> input_text(const Arguments& args) {
  const auto prompt = args.text("prompt");
  const auto file = args.text("file");
  const bool standard_input = args.operands().size() > 1;
  if (standard_input && args.operands()[1] != "-") {
    throw bad_input(
        fmt::format("{}: unexpected argument {}; a prompt is given with -p TEXT, "
                    "-f FILE or - (standard input)",
                    args.command().name, quote_text(args.operands()[1])));
  }
  if (static_cast<int>(prompt.has_value()) + static_cast<int>(file.has_value()) +
          static_cast<int>(standard_input) >
      1) {
    throw bad_input("only one of -p, -f and - may be given");
  }
  if (prompt) return prompt;
  if (file) return read_input(*file);
  if (standard_input) return read_input("-");
  return std::nullopt;
}

}  // namespace heddle::cli
