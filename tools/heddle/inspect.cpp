#include <fmt/format.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "engine/cache_rings.h"
#include "engine/cache_storage.h"
#include "engine/complete_options.h"
#include "engine/engine.h"
#include "engine/memory_plan.h"
#include "models/checkpoint.h"
#include "models/ffn/ffn.h"
#include "models/mixers/mixer.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/inspect_plan.h"
#include "tools/heddle/io.h"
#include "tools/heddle/options.h"

namespace heddle::cli {
namespace {

/// What one pass over the tensors tells.
struct Totals {
  std::int64_t parameters = 0;
  std::map<std::string, std::uint64_t> bytes;  // by dtype
};

Totals add_up(const WeightStore& weights) {
  Totals totals;
  for (const StoredTensor& tensor : weights.tensors()) {
    if (tensor.foreign.empty()) totals.parameters += tensor.view.elements();
    totals.bytes[std::string(tensor.dtype_name())] +=
        static_cast<std::uint64_t>(tensor.view.bytes());
  }
  return totals;
}

/// The layers as letters, and what each letter means. A layer of several mixers is in parentheses.
struct LayerMap {
  std::string text;
  std::map<char, std::string> legend;
};

LayerMap layer_map(const ModelConfig& config) {
  LayerMap map;
  for (const LayerSpec& layer : config.layers) {
    if (layer.mixers.size() > 1) map.text += '(';
    for (const MixerSpec& mixer : layer.mixers) {
      const MixerLetter own = letter(mixer);
      map.text += own.letter;
      map.legend.emplace(own.letter, own.meaning);
    }
    if (layer.mixers.size() > 1) map.text += ')';
  }
  return map;
}

std::string mixers_text(const LayerSpec& layer) {
  std::string text;
  for (const MixerSpec& mixer : layer.mixers) {
    if (!text.empty()) text += " + ";
    text += describe(mixer);
  }
  return text;
}

/// What a layer keeps of a sequence.
struct LayerCost {
  std::uint64_t kv_bytes_per_token = 0;
  std::uint64_t window_bytes = 0;
  std::uint64_t state_bytes = 0;
};

LayerCost layer_cost(const LayerSpec& layer, DType kv_dtype, const EngineOptions& options) {
  std::vector<CacheNeed> needs;
  for (const MixerSpec& mixer : layer.mixers) needs.push_back(placed(cache_need(mixer), options));
  return {static_cast<std::uint64_t>(kv_bytes_per_token(needs, kv_dtype, options.block_tokens)),
          ring_bytes(needs, kv_dtype, options.block_tokens), state_bytes(needs)};
}

Json layers_json(const ModelConfig& config, DType kv_dtype, const EngineOptions& options) {
  Json layers = Json::array();
  for (const LayerSpec& layer : config.layers) {
    const LayerCost cost = layer_cost(layer, kv_dtype, options);
    layers.push_back({{"mixer", mixers_text(layer)},
                      {"ffn", describe(layer.ffn)},
                      {"kv_bytes_per_token", cost.kv_bytes_per_token},
                      {"window_bytes", cost.window_bytes},
                      {"state_bytes", cost.state_bytes}});
  }
  return layers;
}

/// "0-29  softmax ...": runs of equal layers.
std::string layers_text(const ModelConfig& config, DType kv_dtype, const EngineOptions& options) {
  std::string text;
  for (std::size_t begin = 0; begin < config.layers.size();) {
    const auto line = [&](std::size_t i) {
      const LayerSpec& layer = config.layers[i];
      const LayerCost cost = layer_cost(layer, kv_dtype, options);
      std::string costs;
      if (cost.kv_bytes_per_token > 0) {
        costs += fmt::format("; KV {} bytes a token", cost.kv_bytes_per_token);
      }
      if (cost.window_bytes > 0) costs += fmt::format("; KV {} bytes", cost.window_bytes);
      if (cost.state_bytes > 0) costs += fmt::format("; state {} bytes", cost.state_bytes);
      return fmt::format("{}; {}{}", mixers_text(layer), describe(layer.ffn), costs);
    };
    const std::string first = line(begin);
    std::size_t end = begin + 1;
    while (end < config.layers.size() && line(end) == first) ++end;
    text += end == begin + 1
                ? fmt::format("layer {:<9} {}\n", begin, first)
                : fmt::format("layers {:<8} {}\n", fmt::format("{}-{}", begin, end - 1), first);
    begin = end;
  }
  const LayerMap map = layer_map(config);
  text += fmt::format("{:<15} {}\n", "layer map", map.text);
  for (const auto& [letter, meaning] : map.legend) {
    text += fmt::format("{:>15} {}\n", letter, meaning);
  }
  return text;
}

Json tensors_json(const WeightStore& weights) {
  Json tensors = Json::array();
  for (const StoredTensor& tensor : weights.tensors()) {
    Json shape = Json::array();
    for (int i = 0; i < tensor.view.rank; ++i) shape.push_back(tensor.view.dim(i));
    tensors.push_back({{"name", tensor.name}, {"shape", shape}, {"dtype", tensor.dtype_name()}});
  }
  return tensors;
}

Json generation_json(const GenerationDefaults& g) {
  Json json = Json::object();
  if (g.temperature) json["temperature"] = *g.temperature;
  if (g.top_k) json["top_k"] = *g.top_k;
  if (g.top_p) json["top_p"] = *g.top_p;
  if (g.min_p) json["min_p"] = *g.min_p;
  if (g.repetition_penalty) json["repetition_penalty"] = *g.repetition_penalty;
  return json;
}

Json tokenizer_json(const Tokenizer& tokenizer) {
  const TokenizerFacts& facts = tokenizer.facts();
  const auto token = [](const std::optional<TokenId>& id) {
    return id ? Json(*id) : Json(nullptr);
  };
  return {{"description", tokenizer.describe()},
          {"model", facts.model},
          {"pre", facts.pre},
          {"size", tokenizer.vocab_size()},
          {"bos", token(facts.bos)},
          {"eos", token(facts.eos)},
          {"eot", token(facts.eot)},
          {"add_bos", facts.add_bos()},
          {"add_eos", facts.add_eos()}};
}

std::string mib(std::uint64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

}  // namespace

int run_inspect(const Arguments& args) {
  if (args.has("memory") && !args.on("plan")) throw bad_input("inspect: --memory needs --plan");
  EngineOptions options = engine_options(args);
  const Checkpoint checkpoint = open_model(options);
  const std::string& opened = options.model_config.empty() ? options.model : options.model_config;
  const ModelConfig& config = checkpoint.config;
  const Totals totals = add_up(*checkpoint.weights);
  if (options.context == 0) options.context = config.context;
  if (options.context > config.context) {
    throw bad_input(fmt::format("context of {} tokens: the checkpoint allows 1 .. {}",
                                options.context, config.context));
  }
  check_cache_memory(config, options);
  if (args.on("plan")) {
    print_plan(args, options.model_config.empty() ? args.operands()[0] : opened, checkpoint,
               options);
    return 0;
  }
  const MemoryPlan plan = plan_memory(config, *checkpoint.weights, options);
  const DType kv_type = options.kv_dtype.value_or(DType::kF16);
  const std::string kv_dtype(name(kv_type));
  const Tokenizer& tokenizer = *checkpoint.tokenizer;

  if (args.on("json")) {
    Json bytes = Json::object();
    for (const auto& [dtype, n] : totals.bytes) bytes[dtype] = n;
    write_json({{"model", options.model_config.empty() ? args.operands()[0] : opened},
                {"path", opened},
                {"name", config.name},
                {"family", config.family},
                {"parameters", totals.parameters},
                {"file_bytes", checkpoint.file_bytes},
                {"bytes", bytes},
                {"hidden", config.hidden},
                {"vocab", config.vocab},
                {"context", config.context},
                {"tied_head", config.tied_head},
                {"layer_map", layer_map(config).text},
                {"layers", layers_json(config, kv_type, options)},
                {"tensors", tensors_json(*checkpoint.weights)},
                {"tokenizer", tokenizer_json(tokenizer)},
                {"chat_template",
                 checkpoint.chat_template.empty() ? Json(nullptr) : Json(checkpoint.chat_template)},
                {"generation", generation_json(config.generation)},
                {"kv_bytes_per_token", plan.kv_bytes_per_token},
                {"window_bytes", plan.window_bytes_per_sequence},
                {"state_bytes", plan.state_bytes_per_sequence},
                {"memory",
                 {{"ctx", options.context},
                  {"seqs", options.max_sequences},
                  {"kv_dtype", kv_dtype},
                  {"weights", plan.weights},
                  {"kv", plan.kv},
                  {"state", plan.state},
                  {"snapshots", plan.snapshots},
                  {"host_cache", plan.host_cache},
                  {"workspace", plan.workspace()},
                  {"total", plan.total()}}}});
    return 0;
  }
  std::string text = fmt::format(
      "{}\nfamily {}, {} parameters, {} layers, hidden {}, vocabulary {}, {} head, context {}\n",
      config.name.empty() ? opened : config.name, config.family, totals.parameters,
      config.layers.size(), config.hidden, config.vocab, config.tied_head ? "tied" : "untied",
      config.context);
  text += layers_text(config, kv_type, options);
  for (const auto& [dtype, n] : totals.bytes) text += fmt::format("{:<15} {}\n", dtype, mib(n));
  text += fmt::format("{:<15} {}\n", "tokenizer", tokenizer.describe());
  text += fmt::format("{:<15} {}\n", "chat template",
                      checkpoint.chat_template.empty()
                          ? "none"
                          : fmt::format("{} bytes", checkpoint.chat_template.size()));
  text += fmt::format("{:<15} {} of {} ({} bytes a token", "KV cache", mib(plan.kv), kv_dtype,
                      plan.kv_bytes_per_token);
  if (plan.window_bytes_per_sequence > 0) {
    text += fmt::format(", {} a sequence in windows", mib(plan.window_bytes_per_sequence));
  }
  text += ")\n";
  if (plan.state > 0) {
    text += fmt::format("{:<15} {} ({} a sequence)\n", "states", mib(plan.state),
                        mib(plan.state_bytes_per_sequence));
  }
  text += fmt::format(
      "{:<15} {} for {} sequences of {} tokens: weights {}, KV {}, states {}, snapshots {}, host "
      "cache {}, workspace {}\n",
      "memory", mib(plan.total()), options.max_sequences, options.context, mib(plan.weights),
      mib(plan.kv), mib(plan.state), mib(plan.snapshots), mib(plan.host_cache),
      mib(plan.workspace()));
  write_stdout(text);
  return 0;
}

}  // namespace heddle::cli
