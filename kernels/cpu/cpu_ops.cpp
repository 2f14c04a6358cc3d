#include "kernels/cpu/cpu_ops.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/cpu/cpu_tables.h"

namespace heddle::cpu {
namespace {

template <typename F>
void for_each_table(const F& f) {
  f(embed_table());
  f(gather_rows_table());
  f(rms_norm_table());
  f(matmul_table());
  f(rope_angles_table());
  f(rope_table());
  f(kv_write_table());
  f(attention_table());
  f(linear_attention_table());
  f(pattern_blocks_table());
  f(compress_keys_table());
  f(select_blocks_table());
  f(glu_table());
  f(soft_cap_table());
  f(route_table());
  f(expert_matmul_table());
  f(expert_sum_table());
  f(route_heads_table());
  f(activate_table());
  f(add_scaled_table());
  f(log_scale_table());
  f(scale_heads_table());
  f(lrpe_table());
  f(sample_table());
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& w : words) text += (text.empty() ? "" : ", ") + w;
  return text;
}

bool contains(const std::vector<std::string>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

template <typename Args>
void run(const Table<Args>& table, const Args& args, std::string_view forced, CpuContext& context) {
  table.pick(args, context.caps, forced).run(args, context);
}

}  // namespace

std::vector<std::pair<std::string, std::vector<std::string>>> variants() {
  std::vector<std::pair<std::string, std::vector<std::string>>> all;
  for_each_table([&](const auto& table) {
    std::vector<std::string> names;
    for (const auto& v : table.variants) names.emplace_back(v.name);
    all.emplace_back(std::string(table.op), std::move(names));
  });
  return all;
}

std::string_view forced_variant(const ForcedVariants& forced, std::string_view op) {
  if (const auto own = forced.find(op); own != forced.end()) return own->second;
  const auto general = forced.find("all");
  if (general == forced.end()) return {};
  for (const auto& [known, names] : variants()) {
    if (known == op && contains(names, general->second)) return general->second;
  }
  return {};
}

void check_forced(const ForcedVariants& forced, const DeviceCaps& caps) {
  const auto known = variants();
  for (const auto& [op, variant] : forced) {
    std::vector<std::string> ops;
    std::vector<std::string> names;
    for (const auto& [known_op, known_names] : known) {
      ops.push_back(known_op);
      if (op != "all" && op != known_op) continue;
      for (const std::string& n : known_names) {
        if (!contains(names, n)) names.push_back(n);
      }
    }
    if (names.empty()) {
      throw bad_input("--force-kernel: op '" + op + "' is unknown; known: all, " + joined(ops));
    }
    if (!contains(names, variant)) {
      throw bad_input("--force-kernel " + op + ": variant '" + variant +
                      "' is unknown; known: " + joined(names));
    }
    if (!runs_on(variant, caps)) {
      std::erase_if(names, [&](const std::string& n) { return !runs_on(n, caps); });
      throw bad_input("--force-kernel " + op + ": variant '" + variant +
                      "' does not run on this processor; those that do: " + joined(names));
    }
  }
}

CpuOps::CpuOps(CpuContext& context, const ForcedVariants& forced)
    : context_(context),
      embed_(forced_variant(forced, embed_table().op)),
      gather_rows_(forced_variant(forced, gather_rows_table().op)),
      rms_norm_(forced_variant(forced, rms_norm_table().op)),
      matmul_(forced_variant(forced, matmul_table().op)),
      rope_angles_(forced_variant(forced, rope_angles_table().op)),
      rope_(forced_variant(forced, rope_table().op)),
      kv_write_(forced_variant(forced, kv_write_table().op)),
      attention_(forced_variant(forced, attention_table().op)),
      linear_attention_(forced_variant(forced, linear_attention_table().op)),
      pattern_blocks_(forced_variant(forced, pattern_blocks_table().op)),
      compress_keys_(forced_variant(forced, compress_keys_table().op)),
      select_blocks_(forced_variant(forced, select_blocks_table().op)),
      glu_(forced_variant(forced, glu_table().op)),
      soft_cap_(forced_variant(forced, soft_cap_table().op)),
      route_(forced_variant(forced, route_table().op)),
      expert_matmul_(forced_variant(forced, expert_matmul_table().op)),
      expert_sum_(forced_variant(forced, expert_sum_table().op)),
      route_heads_(forced_variant(forced, route_heads_table().op)),
      activate_(forced_variant(forced, activate_table().op)),
      add_scaled_(forced_variant(forced, add_scaled_table().op)),
      log_scale_(forced_variant(forced, log_scale_table().op)),
      scale_heads_(forced_variant(forced, scale_heads_table().op)),
      lrpe_(forced_variant(forced, lrpe_table().op)),
      sample_(forced_variant(forced, sample_table().op)) {}

void CpuOps::embed(const EmbedArgs& args) {
  run(embed_table(), args, embed_, context_);
}
void CpuOps::gather_rows(const GatherRowsArgs& args) {
  run(gather_rows_table(), args, gather_rows_, context_);
}
void CpuOps::rms_norm(const RmsNormArgs& args) {
  run(rms_norm_table(), args, rms_norm_, context_);
}
void CpuOps::matmul(const MatmulArgs& args) {
  run(matmul_table(), args, matmul_, context_);
}
void CpuOps::rope_angles(const RopeAnglesArgs& args) {
  run(rope_angles_table(), args, rope_angles_, context_);
}
void CpuOps::rope(const RopeArgs& args) {
  run(rope_table(), args, rope_, context_);
}
void CpuOps::kv_write(const KvWriteArgs& args) {
  run(kv_write_table(), args, kv_write_, context_);
}
void CpuOps::attention(const AttentionArgs& args) {
  run(attention_table(), args, attention_, context_);
}
void CpuOps::linear_attention(const LinearAttentionArgs& args) {
  run(linear_attention_table(), args, linear_attention_, context_);
}
void CpuOps::pattern_blocks(const PatternBlocksArgs& args) {
  run(pattern_blocks_table(), args, pattern_blocks_, context_);
}
void CpuOps::compress_keys(const CompressKeysArgs& args) {
  run(compress_keys_table(), args, compress_keys_, context_);
}
void CpuOps::select_blocks(const SelectBlocksArgs& args) {
  run(select_blocks_table(), args, select_blocks_, context_);
}
void CpuOps::glu(const GluArgs& args) {
  run(glu_table(), args, glu_, context_);
}
void CpuOps::soft_cap(const SoftCapArgs& args) {
  run(soft_cap_table(), args, soft_cap_, context_);
}
void CpuOps::route(const RouteArgs& args) {
  run(route_table(), args, route_, context_);
}
void CpuOps::expert_matmul(const ExpertMatmulArgs& args) {
  run(expert_matmul_table(), args, expert_matmul_, context_);
}
void CpuOps::expert_sum(const ExpertSumArgs& args) {
  run(expert_sum_table(), args, expert_sum_, context_);
}
void CpuOps::route_heads(const RouteHeadsArgs& args) {
  run(route_heads_table(), args, route_heads_, context_);
}
void CpuOps::activate(const ActivateArgs& args) {
  run(activate_table(), args, activate_, context_);
}
void CpuOps::add_scaled(const AddScaledArgs& args) {
  run(add_scaled_table(), args, add_scaled_, context_);
}
void CpuOps::log_scale(const LogScaleArgs& args) {
  run(log_scale_table(), args, log_scale_, context_);
}
void CpuOps::scale_heads(const ScaleHeadsArgs& args) {
  run(scale_heads_table(), args, scale_heads_, context_);
}
void CpuOps::lrpe(const LrpeArgs& args) {
  run(lrpe_table(), args, lrpe_, context_);
}
void CpuOps::sample(const SampleArgs& args) {
  run(sample_table(), args, sample_, context_);
}

}  // namespace heddle::cpu
