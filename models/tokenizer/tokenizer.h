#pragma once
// Text <-> token ids, exactly as the checkpoint's authors' tokenizer does it.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_range.h"

namespace heddle {

using TokenId = std::int32_t;

/// Facts of a tokenizer, as a checkpoint file states them (the GGUF loader fills this; nothing in
/// it is trusted: make_tokenizer validates all of it).
struct TokenizerSpec {
  std::string source;               // file name, for error texts
  std::string model;                // "gpt2": byte-level BPE; "llama": SentencePiece BPE
  std::string pre;                  // gpt2: pre-tokenizer name: smollm, llama-bpe, ...
  std::vector<std::string> tokens;  // per id; gpt2: normal ones in GPT-2's byte-level alphabet
  /// Per id, GGUF's kinds: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
  std::vector<std::int32_t> types;
  std::vector<std::string> merges;        // gpt2: "left right", rank = index
  std::vector<float> scores;              // llama: per id
  bool add_space_prefix = true;           // llama
  bool remove_extra_whitespaces = false;  // llama
  std::optional<TokenId> bos, eos, eot, unk, pad;
  bool add_bos = false;
  bool add_eos = false;
};

/// What a tokenizer says of itself, whatever kind of file it came from.
struct TokenizerFacts {
  std::string model;  // "gpt2", "llama", ...: the kind of file and model
  std::string pre;    // the pre-tokenizer's name, "" where the kind has none
  std::optional<TokenId> bos, eos, eot, unk, pad;
  std::vector<TokenId> prefix, suffix;  // what EncodeOptions::add_special puts around a text
  bool add_bos() const { return bos && std::count(prefix.begin(), prefix.end(), *bos) > 0; }
  bool add_eos() const { return eos && std::count(suffix.begin(), suffix.end(), *eos) > 0; }
};

struct EncodeOptions {
  bool add_special = true;  // BOS/EOS as the tokenizer is set up to add them
  /// Control tokens written in the text become their ids; false: they are plain text. User-defined
  /// tokens are not special: they are found either way.
  bool parse_special = true;
  /// Sorted, disjoint parts of the text (message content) in which no special token is recognised:
  /// an occurrence that overlaps one of them is plain text. Pre-tokenisation still runs across
  /// their borders, so a text without special-token look-alikes gives the same ids either way.
  std::vector<ByteRange> plain = {};
};

/// How far the decoding of one text has come. Some tokenizers drop a space where a text begins.
struct DecodeState {
  bool begun = false;  // a token was given
  int n_stripped = 0;  // characters dropped so far
};

/// Immutable after construction; safe to share between threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// Any byte string is accepted; bytes that are not UTF-8 are encoded as U+FFFD replacement
  /// characters, as the reference does. O(n log n) in the length of the text. Throws kBadInput for
  /// more than 1 GiB.
  virtual std::vector<TokenId> encode(std::string_view text,
                                      const EncodeOptions& options) const = 0;
  /// Bytes of one token within a text: may be a part of a UTF-8 character. Control, unknown and
  /// unused tokens give "" unless `special` is true. Throws kBadInput for an id outside the
  /// vocabulary.
  virtual std::string token_bytes(TokenId id, bool special = false) const = 0;
  /// The same for the next token of a text that is decoded from its begin.
  virtual std::string next_bytes(TokenId id, DecodeState& state, bool special) const;
  virtual std::int32_t vocab_size() const = 0;
  virtual bool is_control(TokenId id) const = 0;
  virtual std::optional<TokenId> find(std::string_view token) const = 0;  // exact token text
  virtual const TokenizerFacts& facts() const = 0;
  virtual std::string describe() const = 0;  // "byte-level BPE, 49152 tokens, pre smollm"

  /// Whole-sequence decode; invalid UTF-8 becomes U+FFFD.
  std::string decode(const std::vector<TokenId>& ids, bool special = false) const;
};

/// Validates (lengths, token types, merges naming absent tokens, special ids outside the
/// vocabulary) and builds. Throws kBadInput.
std::unique_ptr<const Tokenizer> make_tokenizer(TokenizerSpec spec);

/// Turns a stream of token bytes into text that never ends in half a code point.
class StreamDecoder {
 public:
  /// Appends bytes; returns the text that is now certain (possibly empty).
  std::string push(std::string_view bytes);
  /// End of the stream: what is pending, an incomplete character as U+FFFD.
  std::string finish();

 private:
  std::string pending_;  // an incomplete but so far valid UTF-8 sequence, at most 3 bytes
};

/// Replaces every maximal invalid part of `bytes` by U+FFFD (Unicode 3.9, "substitution of maximal
/// subparts", as Python's errors="replace").
std::string utf8_lossy(std::string_view bytes);

}  // namespace heddle
