#include "kernels/cuda/cuda_ops.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "kernels/cuda/call_checks.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_tables.h"

namespace heddle::cuda {
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

}  // namespace

std::vector<std::pair<std::string, std::vector<std::string>>> variants() {
  std::vector<std::pair<std::string, std::vector<std::string>>> all;
  for_each_table([&](const auto& table) {
    std::vector<std::string> names;
    for (const auto& v : table.variants) names.emplace_back(v.name);
    if (names.empty()) return;
    all.emplace_back(std::string(table.op), std::move(names));
  });
  return all;
}

void check_forced(const ForcedVariants& forced) {
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
      throw bad_input("--force-kernel: op '" + op + "' has no CUDA kernel; known: all, " +
                      joined(ops));
    }
    if (!contains(names, variant)) {
      throw bad_input("--force-kernel " + op + ": variant '" + variant +
                      "' is unknown on CUDA; known: " + joined(names));
    }
  }
}

CudaOps::CudaOps(CudaContext& context, const ForcedVariants& forced) : context_(context) {
  for_each_table([&](const auto& table) {
    const auto has = [&](const std::string& name) {
      return std::any_of(table.variants.begin(), table.variants.end(),
                         [&](const auto& v) { return v.name == name; });
    };
    const auto own = forced.find(table.op);
    const auto general = forced.find("all");
    if (own != forced.end()) {
      forced_.emplace(table.op, own->second);
    } else if (general != forced.end() && has(general->second)) {
      forced_.emplace(table.op, general->second);
    }
  });
}

template <typename Args>
void CudaOps::run(const Table<Args>& table, const Args& args) {
  const auto takes = [&](const auto& v) { return v.accepts(args, context_.caps); };
  if (std::none_of(table.variants.begin(), table.variants.end(), takes)) {
    throw Error(ErrorKind::kDevice,
                "op '" + std::string(table.op) + "' has no CUDA kernel for this call");
  }
  check(cudaSetDevice(context_.device), "cudaSetDevice");
  const auto forced = forced_.find(table.op);
  table.pick(args, context_.caps, forced == forced_.end() ? "" : forced->second)
      .run(args, context_);
}

void CudaOps::embed(const EmbedArgs& args) {
  run(embed_table(), args);
}
void CudaOps::gather_rows(const GatherRowsArgs& args) {
  run(gather_rows_table(), args);
}
void CudaOps::rms_norm(const RmsNormArgs& args) {
  check_call(args);
  if (args.x.dim(0) == 0) return;
  run(rms_norm_table(), args);
}
void CudaOps::matmul(const MatmulArgs& args) {
  run(matmul_table(), args);
}
void CudaOps::rope_angles(const RopeAnglesArgs& args) {
  run(rope_angles_table(), args);
}
void CudaOps::rope(const RopeArgs& args) {
  run(rope_table(), args);
}
void CudaOps::kv_write(const KvWriteArgs& args) {
  run(kv_write_table(), args);
}
void CudaOps::attention(const AttentionArgs& args) {
  run(attention_table(), args);
}
void CudaOps::linear_attention(const LinearAttentionArgs& args) {
  run(linear_attention_table(), args);
}
void CudaOps::pattern_blocks(const PatternBlocksArgs& args) {
  run(pattern_blocks_table(), args);
}
void CudaOps::compress_keys(const CompressKeysArgs& args) {
  run(compress_keys_table(), args);
}
void CudaOps::select_blocks(const SelectBlocksArgs& args) {
  run(select_blocks_table(), args);
}
void CudaOps::glu(const GluArgs& args) {
  check_call(args);
  if (args.gate.dim(0) == 0) return;
  run(glu_table(), args);
}
void CudaOps::soft_cap(const SoftCapArgs& args) {
  run(soft_cap_table(), args);
}
void CudaOps::route(const RouteArgs& args) {
  run(route_table(), args);
}
void CudaOps::expert_matmul(const ExpertMatmulArgs& args) {
  run(expert_matmul_table(), args);
}
void CudaOps::expert_sum(const ExpertSumArgs& args) {
  run(expert_sum_table(), args);
}
void CudaOps::route_heads(const RouteHeadsArgs& args) {
  run(route_heads_table(), args);
}
void CudaOps::activate(const ActivateArgs& args) {
  run(activate_table(), args);
}
void CudaOps::add_scaled(const AddScaledArgs& args) {
  run(add_scaled_table(), args);
}
void CudaOps::log_scale(const LogScaleArgs& args) {
  run(log_scale_table(), args);
}
void CudaOps::scale_heads(const ScaleHeadsArgs& args) {
  run(scale_heads_table(), args);
}
void CudaOps::lrpe(const LrpeArgs& args) {
  run(lrpe_table(), args);
}
void CudaOps::sample(const SampleArgs& args) {
  run(sample_table(), args);
}

}  // namespace heddle::cuda
