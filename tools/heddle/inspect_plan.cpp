#include "tools/heddle/inspect_plan.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "engine/memory_plan.h"
#include "engine/require_between.h"
#include "tools/heddle/io.h"

namespace heddle::cli {
namespace {

struct Planned {
  MemoryPlan plan;
  MemoryFit fit;
  std::uint64_t available = 0;
  bool given = false;  // by --memory
  bool fits() const { return plan.total() <= available; }
};

/// Whole numbers without a fraction; compressed keys alone have others.
Json number_json(double value) {
  const auto whole = static_cast<std::int64_t>(value);
  return static_cast<double>(whole) == value ? Json(whole) : Json(value);
}

Json group_json(const KvGroup& group) {
  return {{"group", name(group.kind)},
          {"window", group.window > 0 ? Json(group.window) : Json(nullptr)},
          {"layers", group.layers},
          {"bytes_per_token", number_json(group.bytes_per_token)},
          {"bytes_per_sequence", group.bytes_per_sequence},
          {"bytes", group.bytes}};
}

Json plan_json(const std::string& model, const Planned& p, const EngineOptions& options) {
  Json groups = Json::array();
  for (const KvGroup& group : p.plan.kv_groups) groups.push_back(group_json(group));
  return {{"model", model},
          {"ctx", options.context},
          {"seqs", options.max_sequences},
          {"kv_dtype", name(options.kv_dtype.value_or(DType::kF16))},
          {"block_tokens", options.block_tokens},
          {"kv_tokens", options.kv_tokens},
          {"weights", p.plan.weights},
          {"kv", p.plan.kv},
          {"kv_bytes_per_token", p.plan.kv_bytes_per_token},
          {"kv_groups", groups},
          {"window_bytes_per_sequence", p.plan.window_bytes_per_sequence},
          {"state", p.plan.state},
          {"state_bytes_per_sequence", p.plan.state_bytes_per_sequence},
          {"snapshots", p.plan.snapshots},
          {"host_cache", p.plan.host_cache},
          {"workspace", p.plan.workspace()},
          {"workspace_parts",
           {{"activations", p.plan.activations},
            {"kernels", p.plan.kernel_scratch},
            {"bookkeeping", p.plan.bookkeeping}}},
          {"total", p.plan.total()},
          {"available", p.available},
          {"fits", p.fits()},
          {"max_ctx", p.fit.max_context},
          {"max_seqs", p.fit.max_sequences}};
}

std::string counted(std::int64_t n, std::string_view what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

std::string row(std::string_view what, std::uint64_t bytes, std::string_view remark) {
  const std::string text =
      fmt::format("{:<18}{:>15} {:>12}  {}", what, bytes, memory_text(bytes), remark);
  return text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
}

std::string group_row(const KvGroup& group) {
  std::string remark = counted(group.layers, "layer");
  if (group.kind == KvGroup::Kind::kWindowed) remark += fmt::format(", window {}", group.window);
  if (group.bytes_per_sequence > 0) {
    remark += fmt::format(", {} bytes a sequence", group.bytes_per_sequence);
  }
  if (group.bytes_per_token > 0) {
    remark += fmt::format(", {:g} bytes a token", group.bytes_per_token);
    if (group.kind == KvGroup::Kind::kWindowed) remark += "; all tokens are kept";
  }
  return row(fmt::format("  {}", name(group.kind)), group.bytes, remark);
}

std::string in_windows(const MemoryPlan& plan) {
  if (plan.window_bytes_per_sequence == 0) return {};
  return fmt::format(", {} a sequence in windows", plan.window_bytes_per_sequence);
}

std::string plan_text(const std::string& model,
                      const Planned& p,
                      const EngineOptions& options,
                      std::int64_t allowed) {
  const MemoryPlan& plan = p.plan;
  const std::string sequences = counted(options.max_sequences, "sequence");
  std::string text =
      fmt::format("{}: {} of {}, KV in {}\n", model, sequences, counted(options.context, "token"),
                  name(options.kv_dtype.value_or(DType::kF16)));
  text += row("weights", plan.weights, "");
  text += row("KV", plan.kv,
              fmt::format("{} tokens, {} bytes a token{}", options.kv_tokens,
                          plan.kv_bytes_per_token, in_windows(plan)));
  for (const KvGroup& group : plan.kv_groups) text += group_row(group);
  text +=
      row("states", plan.state, fmt::format("{} bytes a sequence", plan.state_bytes_per_sequence));
  const std::uint64_t slot = plan.state_bytes_per_sequence + plan.window_bytes_per_sequence;
  text += row("snapshots", plan.snapshots,
              slot > 0                      ? fmt::format("{} bytes each", slot)
              : options.snapshot_memory > 0 ? "--snapshot-memory is not used: no states, no windows"
                                            : "");
  if (plan.host_cache > 0) text += row("host cache", plan.host_cache, "");
  text +=
      row("workspace", plan.workspace(),
          fmt::format("activations {}, kernels {}, bookkeeping {}", memory_text(plan.activations),
                      memory_text(plan.kernel_scratch), memory_text(plan.bookkeeping)));
  text += row("total", plan.total(), p.fits() ? "fits" : "does not fit");
  text += row("available", p.available, p.given ? "--memory" : "free on this machine");
  text += fmt::format("largest context   {:>15} tokens, of {} (the checkpoint allows {})\n",
                      p.fit.max_context, sequences, allowed);
  text += fmt::format("most sequences    {:>15} of {}\n", p.fit.max_sequences,
                      counted(options.context, "token"));
  return text;
}

}  // namespace

void print_plan(const Arguments& args,
                const std::string& model,
                const Checkpoint& checkpoint,
                EngineOptions options) {
  const std::int64_t tokens = options.context * options.max_sequences;
  if (tokens > kMostKvTokens) {
    throw bad_input(fmt::format("--ctx {} and --seqs {}: got {} tokens together, allowed: 1 .. {}",
                                options.context, options.max_sequences, tokens, kMostKvTokens));
  }
  if (options.kv_tokens == 0) options.kv_tokens = derived_kv_tokens(options);
  require_between("kv_tokens", options.kv_tokens, 1, kMostKvTokens);  // as Engine::load says it
  const ModelConfig config = for_context(checkpoint.config, options.context);
  const auto memory = static_cast<std::uint64_t>(args.integer("memory").value_or(0));
  Planned p;
  p.given = memory > 0;
  p.available = p.given ? memory : available_memory();
  p.plan = plan_memory(config, *checkpoint.weights, options);
  p.fit = what_fits(config, *checkpoint.weights, options, p.available);
  if (args.on("json")) {
    write_json(plan_json(model, p, options));
  } else {
    write_stdout(plan_text(model, p, options, config.context));
  }
}

}  // namespace heddle::cli
