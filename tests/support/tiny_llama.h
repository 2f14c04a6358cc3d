#pragma once
// A valid llama checkpoint of a few kilobytes: 2 layers, hidden 8, 2 heads on 1, FFN 12, 6 tokens.

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/gguf_writer.h"

namespace heddle::test {

inline std::vector<float> counting(std::uint64_t n, float first) {
  std::vector<float> values(n);
  for (std::uint64_t i = 0; i < n; ++i) values[i] = first + static_cast<float>(i) / 64.0F;
  return values;
}

inline GgufDoc tiny_llama() {
  GgufDoc doc;
  doc.set_text("general.architecture", "llama");
  doc.set_text("general.name", "tiny");
  doc.set<std::uint32_t>("llama.block_count", 2);
  doc.set<std::uint32_t>("llama.context_length", 64);
  doc.set<std::uint32_t>("llama.embedding_length", 8);
  doc.set<std::uint32_t>("llama.feed_forward_length", 12);
  doc.set<std::uint32_t>("llama.attention.head_count", 2);
  doc.set<std::uint32_t>("llama.attention.head_count_kv", 1);
  doc.set<float>("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  doc.set<float>("llama.rope.freq_base", 10000.0F);
  doc.set<std::uint32_t>("llama.rope.dimension_count", 4);
  doc.set<std::uint32_t>("llama.vocab_size", 6);
  doc.set_text("tokenizer.ggml.model", "gpt2");
  doc.set_text("tokenizer.ggml.pre", "smollm");
  doc.set_texts("tokenizer.ggml.tokens", {"<s>", "</s>", "a", "b", "ab", "c"});
  doc.set_array<std::int32_t>("tokenizer.ggml.token_type", {3, 3, 1, 1, 1, 1});
  doc.set_texts("tokenizer.ggml.merges", {"a b"});
  doc.set<std::uint32_t>("tokenizer.ggml.bos_token_id", 0);
  doc.set<std::uint32_t>("tokenizer.ggml.eos_token_id", 1);
  doc.set<bool>("tokenizer.ggml.add_bos_token", false);
  doc.set_text("tokenizer.chat_template", "{{ messages[0].content }}");

  float first = -3.0F;
  const auto add = [&](const std::string& name, const std::vector<std::uint64_t>& dims) {
    std::uint64_t n = 1;
    for (const std::uint64_t dim : dims) n *= dim;
    doc.add_f32(name, dims, counting(n, first));
    first += 0.25F;
  };
  add("token_embd.weight", {8, 6});
  for (const std::string& block : {std::string("blk.0."), std::string("blk.1.")}) {
    add(block + "attn_norm.weight", {8});
    add(block + "attn_q.weight", {8, 8});
    add(block + "attn_k.weight", {8, 4});
    add(block + "attn_v.weight", {8, 4});
    add(block + "attn_output.weight", {8, 8});
    add(block + "ffn_norm.weight", {8});
    add(block + "ffn_gate.weight", {8, 12});
    add(block + "ffn_up.weight", {8, 12});
    add(block + "ffn_down.weight", {12, 8});
  }
  add("output_norm.weight", {8});
  return doc;
}

}  // namespace heddle::test
