#pragma once
// One entry per checkpoint family: from a file's metadata and tensor names to a validated
// ModelConfig and the names that the decoder binds.

#include <span>
#include <string>
#include <string_view>

#include "models/checkpoint.h"
#include "models/config_json.h"
#include "models/gguf.h"

namespace heddle {

/// Each reader fills config and names of `checkpoint`, checks every tensor of checkpoint.weights
/// against them, and marks the known harmless ones as ignored. Throws kBadInput.
struct Family {
  std::string_view name;        // config.json's model_type, and ours
  std::string_view other_name;  // another model_type of the family, or ""
  std::string_view gguf;        // GGUF's general.architecture, or ""
  std::string_view models;      // published models, for the documentation
  std::string_view attention;   // what mixes tokens, for the documentation
  void (*read_gguf)(const GgufDirectory& file, Checkpoint& checkpoint) = nullptr;
  void (*read_folder)(const ConfigJson& config, Checkpoint& checkpoint) = nullptr;
  bool reads_bin = false;  // a folder may hold PyTorch's files: the models were published so
};

std::span<const Family> families();
/// By config.json's model_type; nullptr: none.
const Family* find_family(std::string_view model_type);
/// What config.json's model_type and GGUF's general.architecture may be: for error texts.
std::string family_names();
std::string gguf_architectures();
/// What `key` of a config.json, or of GGUF without its architecture, asks for, if no family here
/// computes it ("mixture of experts"); "" for other keys.
std::string_view unmet_need(std::string_view key);
/// Appends to `text` ("; its config also asks for KEY (MEANING), ...") if `key` has an unmet need.
void add_unmet_need(std::string_view key, std::string& text);

void read_llama_gguf(const GgufDirectory& file, Checkpoint& checkpoint);
void read_llama_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_mistral_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_qwen2_gguf(const GgufDirectory& file, Checkpoint& checkpoint);
void read_qwen2_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_qwen3_gguf(const GgufDirectory& file, Checkpoint& checkpoint);
void read_qwen3_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_gemma2_gguf(const GgufDirectory& file, Checkpoint& checkpoint);
void read_gemma2_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_gemma3_gguf(const GgufDirectory& file, Checkpoint& checkpoint);
void read_gemma3_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_phi3_gguf(const GgufDirectory& file, Checkpoint& checkpoint);
void read_phi3_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_mixtral_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_olmoe_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_qwen2_moe_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_qwen3_moe_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_minimax_original_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_minimax_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_minicpm4_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_minicpm_sala_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_bailing_moe_linear_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_transnormer_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_gpt_oss_folder(const ConfigJson& config, Checkpoint& checkpoint);
void read_olmoe_gguf(const GgufDirectory& file, Checkpoint& checkpoint);
void read_qwen2_moe_gguf(const GgufDirectory& file, Checkpoint& checkpoint);
void read_qwen3_moe_gguf(const GgufDirectory& file, Checkpoint& checkpoint);
void read_gpt_oss_gguf(const GgufDirectory& file, Checkpoint& checkpoint);
void read_minicpm4_gguf(const GgufDirectory& file, Checkpoint& checkpoint);
void read_minimax_gguf(const GgufDirectory& file, Checkpoint& checkpoint);
void read_native_folder(const ConfigJson& config, Checkpoint& checkpoint);

}  // namespace heddle
