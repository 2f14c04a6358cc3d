#pragma once
// A random llama checkpoint that an engine can run: 2 layers, hidden 128, 8 query heads on 2 KV
// heads of 16, FFN 512 (4-bit segments: 4 and 8), byte tokens plus a few words. Context 512. Types
// with blocks of 256: hidden 256, heads of 32.

#include <string>
#include <string_view>
#include <vector>

#include "tests/support/gguf_writer.h"
#include "tests/support/temp_folder.h"
#include "tests/support/weights.h"

namespace heddle::test {

inline GgufDoc small_llama(DType dtype, std::uint64_t seed, bool tied = true) {
  const std::uint64_t hidden = info(dtype).block_elements == 256 ? 256 : 128;
  constexpr std::uint64_t kFfn = 512;
  GgufDoc doc;
  doc.set_text("general.architecture", "llama");
  doc.set_text("general.name", "small");
  doc.set<std::uint32_t>("llama.block_count", 2);
  doc.set<std::uint32_t>("llama.context_length", 512);
  doc.set("llama.embedding_length", static_cast<std::uint32_t>(hidden));
  doc.set<std::uint32_t>("llama.feed_forward_length", kFfn);
  doc.set<std::uint32_t>("llama.attention.head_count", 8);
  doc.set<std::uint32_t>("llama.attention.head_count_kv", 2);
  doc.set<float>("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  doc.set<float>("llama.rope.freq_base", 10000.0F);
  doc.set("llama.rope.dimension_count", static_cast<std::uint32_t>(hidden / 8));

  // The printable ASCII bytes are their own byte-level symbols; enough for tests.
  std::vector<std::string> tokens = {"<s>", "</s>", "<|note|>"};
  std::vector<std::int32_t> types = {3, 3, 3};
  for (char c = '!'; c <= '~'; ++c) tokens.emplace_back(1, c);
  tokens.insert(tokens.end(), {"\xc4\xa0", "\xc4\x8a", "th", "the"});  // space, newline, two merges
  types.resize(tokens.size(), 1);
  doc.set<std::uint32_t>("llama.vocab_size", static_cast<std::uint32_t>(tokens.size()));
  doc.set_text("tokenizer.ggml.model", "gpt2");
  doc.set_text("tokenizer.ggml.pre", "smollm");
  doc.set_texts("tokenizer.ggml.tokens", tokens);
  doc.set_array<std::int32_t>("tokenizer.ggml.token_type", types);
  doc.set_texts("tokenizer.ggml.merges", {"t h", "th e"});
  doc.set<std::uint32_t>("tokenizer.ggml.bos_token_id", 0);
  doc.set<std::uint32_t>("tokenizer.ggml.eos_token_id", 1);
  doc.set<bool>("tokenizer.ggml.add_bos_token", false);
  doc.set_text("tokenizer.chat_template",
               "{% for m in messages %}<s>{{ m['role'] }}:{{ m['content'] }}</s>{% endfor %}"
               "{% if add_generation_prompt %}<s>assistant:{% endif %}");

  Random rng(seed);
  const auto matrix = [&](const std::string& name, std::uint64_t in, std::uint64_t out) {
    const Weights w =
        random_weights(dtype, static_cast<std::int64_t>(out), static_cast<std::int64_t>(in), rng);
    doc.add_tensor(name, {in, out}, dtype,
                   {reinterpret_cast<const char*>(w.bytes.data()), w.bytes.size()});
  };
  const auto norm = [&](const std::string& name) {
    std::vector<float> values(hidden);
    for (float& v : values) v = rng.uniform(0.5F, 1.5F);
    doc.add_f32(name, {hidden}, values);
  };
  matrix("token_embd.weight", hidden, tokens.size());
  for (const std::string block : {"blk.0.", "blk.1."}) {
    norm(block + "attn_norm.weight");
    matrix(block + "attn_q.weight", hidden, hidden);
    matrix(block + "attn_k.weight", hidden, hidden / 4);
    matrix(block + "attn_v.weight", hidden, hidden / 4);
    matrix(block + "attn_output.weight", hidden, hidden);
    norm(block + "ffn_norm.weight");
    matrix(block + "ffn_gate.weight", hidden, kFfn);
    matrix(block + "ffn_up.weight", hidden, kFfn);
    matrix(block + "ffn_down.weight", kFfn, hidden);
  }
  norm("output_norm.weight");
  if (!tied) matrix("output.weight", hidden, tokens.size());
  return doc;
}

/// A file that lives as long as the object.
class TemporaryFile {
 public:
  TemporaryFile(const std::string& suffix, std::string_view bytes)
      : path_(folder_.write("file" + suffix, bytes)) {}
  const std::string& path() const { return path_; }

 private:
  TempFolder folder_;
  std::string path_;
};

}  // namespace heddle::test
