#pragma once
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_context.h"
#include "kernels/ops.h"
#include "kernels/variant.h"

namespace heddle::cuda {

/// "op: variants" of every op with CUDA kernels, in order of preference.
std::vector<std::pair<std::string, std::vector<std::string>>> variants();

/// Throws kBadInput for an op or a variant without CUDA kernels, naming those there are.
void check_forced(const ForcedVariants& forced);

/// Ops on one CudaContext (not owned): checks the arguments on the host, then enqueues the first
/// variant that accepts them, or the forced one. A call that none accepts throws kDevice naming the
/// op, before anything is enqueued.
class CudaOps final : public Ops {
 public:
  CudaOps(CudaContext& context, const ForcedVariants& forced);

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
  template <typename Args>
  void run(const VariantTable<Args, CudaContext>& table, const Args& args);

  CudaContext& context_;
  std::map<std::string_view, std::string> forced_;  // by op
};

}  // namespace heddle::cuda
