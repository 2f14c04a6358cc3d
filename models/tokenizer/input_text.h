#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/tokenizer.h"

namespace heddle {

/// A text as given to Tokenizer::encode, made valid UTF-8, with the parts of it that are plain.
/// Refers to the text and the options. Throws kBadInput for more than 1 GiB.
class InputText {
 public:
  InputText(std::string_view text, const EncodeOptions& options);
  InputText(const InputText&) = delete;
  InputText& operator=(const InputText&) = delete;

  std::string_view text() const { return text_; }
  const AddedTokens::Scope& scope() const { return scope_; }

 private:
  std::string_view text_;
  std::string repaired_;
  std::vector<ByteRange> moved_ranges_;
  AddedTokens::Scope scope_;
};

}  // namespace heddle
