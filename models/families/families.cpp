#include "models/families/families.h"

#include <array>

namespace heddle {

std::span<const Family> families() {
  static constexpr std::array<Family, 7> kFamilies = {{
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
  }};
  return kFamilies;
}

std::string family_names() {
  std::string names;
  for (const Family& family : families()) {
    if (!names.empty()) names += ", ";
    names += family.name;
  }
  return names;
}

std::string gguf_architectures() {
  std::string names;
  std::string_view last;
  for (const Family& family : families()) {
    if (family.gguf == last) continue;  // llama's is mistral's too
    last = family.gguf;
    if (!names.empty()) names += ", ";
    names += family.gguf;
  }
  return names;
}

}  // namespace heddle
