#pragma once
// The whole arithmetic vocabulary. A method takes one args struct (kernels/api has the formula,
// shapes and errors of each), runs in order on its Backend's stream and allocates nothing once
// warm.

#include <string>
#include <vector>

#include "kernels/api/activation.h"
#include "kernels/api/attention.h"
#include "kernels/api/elementwise.h"
#include "kernels/api/embed.h"
#include "kernels/api/key_blocks.h"
#include "kernels/api/linear_attention.h"
#include "kernels/api/matmul.h"
#include "kernels/api/moe.h"
#include "kernels/api/rms_norm.h"
#include "kernels/api/rope.h"
#include "kernels/api/route_heads.h"
#include "kernels/api/sample.h"
#include "kernels/api/soft_cap.h"

namespace heddle {

class Ops {
 public:
  virtual ~Ops() = default;
  virtual void embed(const EmbedArgs& args) = 0;
  virtual void gather_rows(const GatherRowsArgs& args) = 0;
  virtual void rms_norm(const RmsNormArgs& args) = 0;
  virtual void matmul(const MatmulArgs& args) = 0;
  virtual void rope_angles(const RopeAnglesArgs& args) = 0;
  virtual void rope(const RopeArgs& args) = 0;
  virtual void kv_write(const KvWriteArgs& args) = 0;
  virtual void attention(const AttentionArgs& args) = 0;
  virtual void linear_attention(const LinearAttentionArgs& args) = 0;
  virtual void pattern_blocks(const PatternBlocksArgs& args) = 0;
  virtual void compress_keys(const CompressKeysArgs& args) = 0;
  virtual void select_blocks(const SelectBlocksArgs& args) = 0;
  virtual void glu(const GluArgs& args) = 0;
  virtual void soft_cap(const SoftCapArgs& args) = 0;
  virtual void route(const RouteArgs& args) = 0;
  virtual void expert_matmul(const ExpertMatmulArgs& args) = 0;
  virtual void expert_sum(const ExpertSumArgs& args) = 0;
  virtual void route_heads(const RouteHeadsArgs& args) = 0;
  virtual void activate(const ActivateArgs& args) = 0;
  virtual void add_scaled(const AddScaledArgs& args) = 0;
  virtual void log_scale(const LogScaleArgs& args) = 0;
  virtual void scale_heads(const ScaleHeadsArgs& args) = 0;
  virtual void lrpe(const LrpeArgs& args) = 0;
  virtual void sample(const SampleArgs& args) = 0;
};

}  // namespace heddle
