#include "models/families/moe_parts.h"

#include <fmt/format.h>

#include <utility>

namespace heddle {
namespace {

class MoeReader {
 public:
  MoeReader(const MoeFfnSpec& spec,
            int hidden,
            const MoeNaming& naming,
            const std::string& prefix,
            TensorCheck& tensors)
      : spec_(spec), hidden_(hidden), naming_(naming), prefix_(prefix), tensors_(tensors) {}

  MoeFfnNames read() {
    MoeFfnNames names;
    const int n = spec_.router.n_experts;
    names.router = tensors_.matrix(weight(naming_.router), n, hidden_);
    if (spec_.router.bias) names.router_bias = tensors_.vector(bias(naming_.router), n);
    if (spec_.router.choice_bias) {
      names.choice_bias = tensors_.vector(prefix_ + std::string(naming_.choice_bias), n);
    }
    const int width = spec_.intermediate;
    if (naming_.gate_up.empty()) {
      names.gate = matrices(naming_.gate, width, hidden_);
      names.up = matrices(naming_.up, width, hidden_);
    } else {
      names.gate = in_turn(width, 0);
      names.up = in_turn(width, 1);
    }
    names.down = matrices(naming_.down, hidden_, width);
    if (spec_.bias) read_biases(names);
    if (spec_.shared != SharedExpert::kNone) read_shared(names);
    return names;
  }

 private:
  std::string weight(std::string_view name) const {
    return fmt::format("{}{}.weight", prefix_, name);
  }
  std::string bias(std::string_view name) const { return fmt::format("{}{}.bias", prefix_, name); }
  std::string expert(int e, std::string_view name, std::string_view suffix) const {
    return fmt::format("{}{}{}.{}.{}", prefix_, naming_.experts, e, name, suffix);
  }

  std::vector<TensorPart> matrices(std::string_view name, int rows, int cols) {
    const int n = spec_.router.n_experts;
    if (naming_.stacked) {
      return tensors_.stacked(fmt::format("{}{}{}", prefix_, name, naming_.weight_suffix), n, rows,
                              cols);
    }
    std::vector<TensorPart> parts;
    for (int e = 0; e < n; ++e) {
      parts.push_back(tensors_.matrix(expert(e, name, "weight"), rows, cols));
    }
    return parts;
  }

  std::vector<TensorPart> biases(std::string_view name, int rows) {
    const int n = spec_.router.n_experts;
    if (naming_.stacked) {
      return {tensors_.flat(fmt::format("{}{}{}", prefix_, name, naming_.bias_suffix), {n, rows})};
    }
    std::vector<TensorPart> parts;
    for (int e = 0; e < n; ++e) parts.push_back(tensors_.vector(expert(e, name, "bias"), rows));
    return parts;
  }

  /// Every second row of the stacked gate_up, from `first` on.
  std::vector<TensorPart> in_turn(int width, int first) {
    const int n = spec_.router.n_experts;
    std::vector<TensorPart> parts =
        tensors_.stacked(fmt::format("{}{}{}", prefix_, naming_.gate_up, naming_.weight_suffix), n,
                         2 * width, hidden_);
    for (TensorPart& part : parts) {
      part.picked_from = 2 * width;
      part.rows = width;
      for (int i = 0; i < width; ++i) part.row_order.push_back(2 * i + first);
    }
    return parts;
  }

  void read_biases(MoeFfnNames& names) {
    const int n = spec_.router.n_experts;
    const int width = spec_.intermediate;
    names.down_bias = biases(naming_.down, hidden_);
    if (naming_.gate_up.empty()) {
      names.gate_bias = biases(naming_.gate, width);
      names.up_bias = biases(naming_.up, width);
      return;
    }
    const std::string fused = fmt::format("{}{}{}", prefix_, naming_.gate_up, naming_.bias_suffix);
    std::vector<TensorPart>* const targets[] = {&names.gate_bias, &names.up_bias};
    for (int first = 0; first < 2; ++first) {
      TensorPart part = tensors_.flat(fused, {n, 2 * width});
      part.rows = std::int64_t{n} * width;
      for (int i = 0; i < n * width; ++i) part.row_order.push_back(2 * i + first);
      targets[first]->push_back(std::move(part));
    }
  }

  void read_shared(MoeFfnNames& names) {
    const int width = spec_.shared_intermediate;
    names.shared.gate = tensors_.matrix(weight(naming_.shared_gate_proj), width, hidden_);
    names.shared.up = tensors_.matrix(weight(naming_.shared_up_proj), width, hidden_);
    names.shared.down = tensors_.matrix(weight(naming_.shared_down_proj), hidden_, width);
    if (spec_.shared == SharedExpert::kAdded) return;
    names.shared_gate = naming_.shared_gate_is_vector
                            ? tensors_.row(weight(naming_.shared_gate), hidden_)
                            : tensors_.matrix(weight(naming_.shared_gate), 1, hidden_);
  }

  const MoeFfnSpec& spec_;
  int hidden_;
  const MoeNaming& naming_;
  const std::string& prefix_;
  TensorCheck& tensors_;
};

}  // namespace

MoeNaming mixtral_experts() {
  MoeNaming naming;
  naming.router = "block_sparse_moe.gate";
  naming.experts = "block_sparse_moe.experts.";
  naming.gate = "w1";
  naming.up = "w3";
  naming.down = "w2";
  naming.shared_gate_proj = "shared_mlp.gate_proj";
  naming.shared_up_proj = "shared_mlp.up_proj";
  naming.shared_down_proj = "shared_mlp.down_proj";
  naming.shared_gate = "coefficient";
  return naming;
}

MoeNaming qwen_experts() {
  MoeNaming naming;
  naming.router = "mlp.gate";
  naming.shared_gate_proj = "mlp.shared_expert.gate_proj";
  naming.shared_up_proj = "mlp.shared_expert.up_proj";
  naming.shared_down_proj = "mlp.shared_expert.down_proj";
  naming.shared_gate = "mlp.shared_expert_gate";
  return naming;
}

MoeNaming gguf_experts() {
  MoeNaming naming;
  naming.router = "ffn_gate_inp";
  naming.choice_bias = "exp_probs_b.bias";
  naming.gate = "ffn_gate_exps";
  naming.up = "ffn_up_exps";
  naming.down = "ffn_down_exps";
  naming.stacked = true;
  naming.shared_gate_proj = "ffn_gate_shexp";
  naming.shared_up_proj = "ffn_up_shexp";
  naming.shared_down_proj = "ffn_down_shexp";
  naming.shared_gate = "ffn_gate_inp_shexp";
  naming.shared_gate_is_vector = true;
  return naming;
}

MoeFfnNames moe_names(const MoeFfnSpec& spec,
                      int hidden,
                      const MoeNaming& naming,
                      const std::string& prefix,
                      TensorCheck& tensors) {
  return MoeReader(spec, hidden, naming, prefix, tensors).read();
}

}  // namespace heddle
