#include "models/families/families.h"

#include <algorithm>
#include <array>
#include <vector>

namespace heddle {

namespace {

struct Need {
  std::string_view key, meaning;
};
constexpr std::array<Need, 27> kUnmetNeeds = {{
    {"num_local_experts", "mixture of experts"},
    {"num_experts", "mixture of experts"},
    {"n_routed_experts", "mixture of experts"},
    {"expert_count", "mixture of experts"},
    {"kv_lora_rank", "multi-head latent attention"},
    {"attention.kv_lora_rank", "multi-head latent attention"},
    {"linear_num_key_heads", "gated delta rule"},
    {"linear_attn_config", "linear attention"},
    {"attn_type_list", "lightning attention"},
    {"mixer_types", "mixers by layer"},
    {"layers_block_type", "mixers by layer"},
    {"hybrid_override_pattern", "mixers by layer"},
    {"ssm_cfg", "state space layers"},
    {"ssm_state_size", "state space layers"},
    {"mamba_d_state", "state space layers"},
    {"ssm.state_size", "state space layers"},
    {"wkv.head_size", "RWKV"},
    {"sparse_config", "block-sparse attention"},
    {"alibi", "ALiBi"},
    {"use_alibi", "ALiBi"},
    {"layer_norm_epsilon", "layer norm"},
    {"layer_norm_eps", "layer norm"},
    {"attention.layer_norm_epsilon", "layer norm"},
    {"vision_config", "images"},
    {"is_encoder_decoder", "encoder"},
    {"use_bidirectional_attention", "bidirectional attention"},
    {"quantization_config", "quantised safetensors"},
}};

}  // namespace

std::string_view unmet_need(std::string_view key) {
  for (const Need& need : kUnmetNeeds) {
    if (need.key == key) return need.meaning;
  }
  return "";
}

void add_unmet_need(std::string_view key, std::string& text) {
  const std::string_view meaning = unmet_need(key);
  if (meaning.empty()) return;
  text += text.empty() ? "; its config also asks for " : ", ";
  text += std::string(key) + " (" + std::string(meaning) + ")";
}

std::span<const Family> families() {
  static constexpr std::array<Family, 19> kFamilies = {{
      {"llama", "", "llama", "Llama 2, 3, 3.1, 3.2; SmolLM2", "softmax", read_llama_gguf,
       read_llama_folder},
      {"mistral", "", "llama", "Mistral 7B, Nemo", "softmax, sliding window", read_llama_gguf,
       read_mistral_folder},
      {"qwen2", "", "qwen2", "Qwen 1.5, 2, 2.5", "softmax, biases; window where the config says so",
       read_qwen2_gguf, read_qwen2_folder},
      {"qwen3", "", "qwen3", "Qwen 3 (dense)", "softmax, qk-norm", read_qwen3_gguf,
       read_qwen3_folder},
      {"gemma2", "", "gemma2", "Gemma 2", "sliding window and full in turn, soft-caps",
       read_gemma2_gguf, read_gemma2_folder},
      {"gemma3", "gemma3_text", "gemma3", "Gemma 3 (text)",
       "5 sliding windows to 1 full, qk-norm, two rotations", read_gemma3_gguf, read_gemma3_folder},
      {"phi3", "", "phi3", "Phi 3, 3.5, 4 mini", "softmax, sliding window, longrope",
       read_phi3_gguf, read_phi3_folder},
      {"mixtral", "", "llama", "Mixtral 8x7B, 8x22B", "softmax; experts", read_llama_gguf,
       read_mixtral_folder},
      {"olmoe", "", "olmoe", "OLMoE", "softmax, qk-norm; experts", read_olmoe_gguf,
       read_olmoe_folder},
      {"qwen2_moe", "", "qwen2moe", "Qwen 1.5 and 2 MoE", "softmax, biases; experts, shared expert",
       read_qwen2_moe_gguf, read_qwen2_moe_folder},
      {"qwen3_moe", "", "qwen3moe", "Qwen 3 MoE", "softmax, qk-norm; experts", read_qwen3_moe_gguf,
       read_qwen3_moe_folder},
      {"gpt_oss", "", "gpt-oss", "gpt-oss 20B, 120B",
       "softmax with sinks, windows in turn; experts", read_gpt_oss_gguf, read_gpt_oss_folder},
      {"minimax_text_01", "minimax_m1", "minimax-01", "MiniMax-Text-01, MiniMax-M1",
       "7 lightning to 1 softmax; experts", read_minimax_gguf, read_minimax_original_folder},
      {"minimax", "", "", "MiniMax-Text-01 in transformers' form", "lightning and softmax; experts",
       nullptr, read_minimax_folder},
      {"minicpm4", "minicpm", "minicpm", "MiniCPM 4, 4.1", "softmax, InfLLM-V2 blocks",
       read_minicpm4_gguf, read_minicpm4_folder},
      {"minicpm_sala", "", "", "MiniCPM-SALA", "lightning, InfLLM-V2 blocks", nullptr,
       read_minicpm_sala_folder},
      {"bailing_moe_linear", "", "", "Ring-linear and Ling-linear 2.0",
       "lightning and softmax; experts", nullptr, read_bailing_moe_linear_folder},
      {"transnormer", "", "", "TransNormerLLM 1, 2", "lightning, LRPE", nullptr,
       read_transnormer_folder, true},
      {"heddle", "", "", "Heddle's own format", "any mix: docs/native_format.md", nullptr,
       read_native_folder},
  }};
  return kFamilies;
}

const Family* find_family(std::string_view model_type) {
  for (const Family& family : families()) {
    if (family.name == model_type) return &family;
    if (!family.other_name.empty() && family.other_name == model_type) return &family;
  }
  return nullptr;
}

std::string family_names() {
  std::string names;
  for (const Family& family : families()) {
    if (!names.empty()) names += ", ";
    names += family.name;
    if (!family.other_name.empty()) names.append(", ").append(family.other_name);
  }
  return names;
}

std::string gguf_architectures() {
  std::string names;
  std::vector<std::string_view> known;  // llama's is mistral's and mixtral's too
  for (const Family& family : families()) {
    if (family.gguf.empty() || std::find(known.begin(), known.end(), family.gguf) != known.end()) {
      continue;
    }
    known.push_back(family.gguf);
    if (!names.empty()) names += ", ";
    names += family.gguf;
  }
  return names;
}

}  // namespace heddle
