#pragma once
// Tokenizers of several kinds that read any text, for tests of the needle's prompts. Needs the
// definition HEDDLE_SOURCE_DIR.

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/checkpoint.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/sentencepiece_tokenizer.h"
#include "models/tokenizer/tokenizer.h"

namespace heddle::test {

/// Pieces of English: beginnings of words, whole words and ends.
inline std::vector<std::string> english_pieces() {
  return {" the", " and", " of",    " to",    " a",     " in",     " that",   " it",  " was",
          " is",  " for", " magic", " text",  " were",  " he",     " number", " key", " with",
          "ing",  "ed",   " said",  " water", " so",    "er",      "es",      "ion",  "ly",
          "ness", "-ha",  " One",   " The",   " It",    " be",     " as",     "on",   "ar",
          "st",   "ent",  "12",     "45",     " green", " special"};
}

inline constexpr std::string_view kChatMl =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Bytes, pieces of English by merges, and ChatML's special tokens. No text begins with one.
inline std::unique_ptr<const Tokenizer> byte_level_tokenizer() {
  TokenizerSpec spec;
  spec.source = "tiny.gguf";
  spec.model = "gpt2";
  spec.pre = "smollm";
  const auto add = [&](const std::string& token, std::int32_t type) {
    for (const std::string& other : spec.tokens) {
      if (other == token) return;
    }
    spec.tokens.push_back(token);
    spec.types.push_back(type);
  };
  for (const char* special : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) add(special, 3);
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    add(encode_byte_level({&text, 1}), 1);
  }
  std::vector<std::string> merges;
  for (const std::string& piece : english_pieces()) {
    for (std::size_t n = 2; n <= piece.size(); ++n) {
      const std::string left = encode_byte_level(piece.substr(0, n - 1));
      const std::string right = encode_byte_level(piece.substr(n - 1, 1));
      merges.push_back(left + " " + right);
      add(left + right, 1);
    }
  }
  for (const std::string& merge : merges) {
    bool known = false;
    for (const std::string& other : spec.merges) known = known || other == merge;
    if (!known) spec.merges.push_back(merge);
  }
  spec.bos = 0;
  spec.eos = 2;
  return make_tokenizer(spec);
}

/// A piece with SentencePiece's sign for a space.
inline std::string underlined(const std::string& piece) {
  std::string text;
  for (const char c : piece) text += c == ' ' ? std::string("\u2581") : std::string(1, c);
  return text;
}

struct ScoredPiece {
  std::string text;
  std::int32_t type = 1;
  float score = 0.0F;
};

/// <unk>, <s>, </s>, all bytes, the printable characters and pieces of English with what leads to
/// them.
inline std::vector<ScoredPiece> sentence_pieces() {
  std::vector<ScoredPiece> pieces = {{"<unk>", 2}, {"<s>", 3}, {"</s>", 3}};
  const auto add = [&](const std::string& text, std::int32_t type, float score) {
    for (const ScoredPiece& other : pieces) {
      if (other.text == text) return;
    }
    pieces.push_back({text, type, score});
  };
  for (int byte = 0; byte < 256; ++byte) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    const auto high = static_cast<std::size_t>(byte / 16);
    const auto low = static_cast<std::size_t>(byte % 16);
    add(std::string("<0x") + kDigits[high] + kDigits[low] + ">", 6, 0.0F);
  }
  float score = -1.0F;
  for (const std::string& piece : english_pieces()) {
    for (std::size_t n = 2; n <= piece.size(); ++n) {
      add(underlined(piece.substr(0, n)), 1, score -= 0.125F);
    }
  }
  for (char c = ' '; c <= '~'; ++c) add(underlined(std::string(1, c)), 1, score -= 0.125F);
  return pieces;
}

/// GGUF's kind "llama"; texts begin with <s> and a space.
inline std::unique_ptr<const Tokenizer> spm_tokenizer() {
  TokenizerSpec spec;
  spec.source = "tiny.gguf";
  spec.model = "llama";
  for (const ScoredPiece& piece : sentence_pieces()) {
    spec.tokens.push_back(piece.text);
    spec.types.push_back(piece.type);
    spec.scores.push_back(piece.score);
  }
  spec.unk = 0;
  spec.bos = 1;
  spec.eos = 2;
  spec.add_bos = true;
  return make_tokenizer(spec);
}

/// The same pieces as a unigram model of libsentencepiece, by its protobuf.
inline std::unique_ptr<const Tokenizer> unigram_tokenizer() {
  const auto varint = [](std::uint64_t value) {
    std::string out;
    for (; value >= 0x80; value >>= 7U) out.push_back(static_cast<char>(value | 0x80U));
    out.push_back(static_cast<char>(value));
    return out;
  };
  const auto number = [&](std::uint64_t field, std::uint64_t value) {
    return varint(field << 3U) + varint(value);
  };
  const auto bytes = [&](std::uint64_t field, const std::string& value) {
    return varint(field << 3U | 2U) + varint(value.size()) + value;
  };
  std::string file;
  for (const ScoredPiece& piece : sentence_pieces()) {
    std::string score(sizeof(float), '\0');
    std::memcpy(score.data(), &piece.score, sizeof(float));
    file += bytes(1, bytes(1, piece.text) + varint(2U << 3U | 5U) + score +
                         number(3, static_cast<std::uint64_t>(piece.type)));
  }
  file += bytes(2, number(3, 1) + number(35, 1));         // unigram, byte_fallback
  file += bytes(3, bytes(1, "identity") + number(4, 0));  // no white space is dropped
  return make_sentencepiece_tokenizer(file, "tokenizer.model", {}, 1000);
}

/// configs/models/needle-hybrid: SentencePiece BPE.
inline std::unique_ptr<const Tokenizer> needle_hybrid_tokenizer() {
  return open_checkpoint(HEDDLE_SOURCE_DIR "/configs/models/needle-hybrid").tokenizer;
}

}  // namespace heddle::test
