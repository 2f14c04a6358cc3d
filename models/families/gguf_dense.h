#pragma once
// The GGUF keys that the dense families share, "ARCH.block_count" and so on.

#include <optional>
#include <string>
#include <string_view>

#include "models/families/dense.h"
#include "models/gguf_keys.h"

namespace heddle {

/// GgufKeys whose keys begin with the file's architecture.
class GgufFields {
 public:
  GgufFields(const GgufDirectory& file, std::string architecture)
      : keys_(file, "config"), prefix_(std::move(architecture) + ".") {}

  std::string full(std::string_view field) const { return prefix_ + std::string(field); }
  bool has(std::string_view field) const { return keys_.has(full(field)); }
  std::optional<std::int64_t> integer(std::string_view field, IntegerRange range) const {
    return keys_.uniform_integer(full(field), range);
  }
  std::optional<double> real(std::string_view field) const { return keys_.real(full(field)); }
  std::optional<bool> boolean(std::string_view field) const { return keys_.boolean(full(field)); }
  std::optional<std::string_view> text(std::string_view field) const {
    return keys_.text(full(field));
  }
  Error error(std::string_view field, const std::string& got, const std::string& allowed) const {
    return keys_.error(full(field), got, allowed);
  }
  Error missing(std::string_view field, std::string_view allowed = "") const {
    return keys_.missing(full(field), allowed);
  }

 private:
  GgufKeys keys_;
  std::string prefix_;
};

/// Keys that only some architectures give a meaning.
struct GgufMeanings {
  bool experts = false;
  bool scales = false;  // embedding_scale, residual_scale, logit_scale
  bool yarn_truncates = true;
  bool longrope_context = true;  // absent original_context_length is an error, else the context
};

/// Sizes, norm, rotation, scale and context. Sets checkpoint.config.vocab. Refuses keys that would
/// change the results in ways that the architecture does not compute: experts, non-causal
/// attention, ALiBi, residual scales.
DenseModel read_gguf_dense(const GgufFields& fields,
                           TensorCheck& tensors,
                           Checkpoint& checkpoint,
                           const GgufMeanings& meanings = {});

/// The experts of all layers, with shared ones where the file has them.
void read_gguf_experts(const GgufFields& fields, bool renormalise, DenseModel& model);

/// "attention.sliding_window": 0 where it is absent.
int read_gguf_window(const GgufFields& fields);
/// A key that only other families may have.
void refuse_gguf_key(const GgufFields& fields, std::string_view field);

/// Frequencies for `theta`, scaled as "rope.scaling.*" and the rope tensors of the file say.
RopeSpec read_gguf_rope(const GgufFields& fields,
                        double theta,
                        int rotary_dim,
                        TensorCheck& tensors,
                        const GgufMeanings& meanings = {});

}  // namespace heddle
