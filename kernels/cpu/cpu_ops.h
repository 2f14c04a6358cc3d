#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_context.h"
#include "kernels/ops.h"
#include "kernels/variant.h"

namespace heddle::cpu {

/// "op: variants" of every CPU op, in order of preference.
std::vector<std::pair<std::string, std::vector<std::string>>> variants();

/// The variant forced for `op`: its own entry, else the one of "all" if the op has it, else "".
std::string_view forced_variant(const ForcedVariants& forced, std::string_view op);

/// Throws kBadInput for an op or a variant that does not exist, naming the known ones.
void check_forced(const ForcedVariants& forced, const DeviceCaps& caps);

/// Ops on one CpuContext (not owned): each call runs the first variant of its table that accepts
/// the arguments, or the forced one.
class CpuOps final : public Ops {
 public:
  CpuOps(CpuContext& context, const ForcedVariants& forced);

  void embed(const EmbedArgs& args) override;
  void gather_rows(const GatherRowsArgs& args) override;
  void rms_norm(const RmsNormArgs& args) override;
  void matmul(const MatmulArgs& args) override;
  void rope_angles(const RopeAnglesArgs& args) override;
  void rope(const RopeArgs& args) override;
  void kv_write(const KvWriteArgs& args) override;
  void attention(const AttentionArgs& args) override;
  void linear_attention(const LinearAttentionArgs& args) override;
  void pattern_blocks(const PatternBlocksArgs& args) override;
  void compress_keys(const CompressKeysArgs& args) override;
  void select_blocks(const SelectBlocksArgs& args) override;
  void glu(const GluArgs& args) override;
  void soft_cap(const SoftCapArgs& args) override;
  void route(const RouteArgs& args) override;
  void expert_matmul(const ExpertMatmulArgs& args) override;
  void expert_sum(const ExpertSumArgs& args) override;
  void route_heads(const RouteHeadsArgs& args) override;
  void activate(const ActivateArgs& args) override;
  void add_scaled(const AddScaledArgs& args) override;
  void log_scale(const LogScaleArgs& args) override;
  void scale_heads(const ScaleHeadsArgs& args) override;
  void lrpe(const LrpeArgs& args) override;
  void sample(const SampleArgs& args) override;

 private:
  CpuContext& context_;
  // The forced variant of each op, "" for none; resolved once.
  std::string embed_, gather_rows_, rms_norm_, matmul_, rope_angles_, rope_, kv_write_, attention_,
      linear_attention_, pattern_blocks_, compress_keys_, select_blocks_, glu_, soft_cap_, route_,
      expert_matmul_, expert_sum_, route_heads_, activate_, add_scaled_, log_scale_, scale_heads_,
      lrpe_, sample_;
};

}  // namespace heddle::cpu
