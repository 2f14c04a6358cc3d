#define PCRE2_CODE_UNIT_WIDTH 8
#include "models/tokenizer/pretokenize.h"

#include <pcre2.h>

#include "base/error.h"

namespace heddle {
namespace {

// The patterns of the families' own tokenizers, rewritten where PCRE2 reads them differently:
// - \s is spelled \t-\r \x{85} \p{Z}, because with UCP it would match U+180E too; \S accordingly.
// - SmolLM2 first makes every digit (\p{N}) a word of its own and then cuts the rest with GPT-2's
//   pattern. In one pattern: digits are an alternative, and a run of white space ends at a digit as
//   it does at the end of the text.
#define HEDDLE_SPACE R"(\t-\r\x{85}\p{Z})"

constexpr std::string_view kSmolLm =
    R"('(?:[sdmt]|ll|ve|re)|\p{N}| ?\p{L}+| ?[^\p{L}\p{N})" HEDDLE_SPACE R"(]+|[)" HEDDLE_SPACE
    R"(]+(?![^\p{N})" HEDDLE_SPACE R"(])|[)" HEDDLE_SPACE R"(]+)";

// Llama 3 and Qwen 2 differ in the number of digits that make a word.
#define HEDDLE_LLAMA_PATTERN(digits)                                                            \
  R"((?i:'(?:[sdmt]|ll|ve|re))|[^\r\n\p{L}\p{N}]?\p{L}+|)" digits                               \
  R"(| ?[^\p{L}\p{N})" HEDDLE_SPACE R"(]+[\r\n]*|[)" HEDDLE_SPACE R"(]*[\r\n]+|[)" HEDDLE_SPACE \
  R"(]+(?![^)" HEDDLE_SPACE R"(])|[)" HEDDLE_SPACE R"(]+)"

constexpr std::string_view kLlama3 = HEDDLE_LLAMA_PATTERN(R"(\p{N}{1,3})");
constexpr std::string_view kQwen2 = HEDDLE_LLAMA_PATTERN(R"(\p{N})");

#undef HEDDLE_LLAMA_PATTERN
#undef HEDDLE_SPACE

constexpr PretokenizerKind kKinds[] = {
    {"smollm", kSmolLm, false, false}, {"llama-bpe", kLlama3, true, false},
    {"llama3", kLlama3, true, false},  {"llama-v3", kLlama3, true, false},
    {"qwen2", kQwen2, false, true},
};

std::string pcre2_message(int code) {
  PCRE2_UCHAR buffer[256] = {};
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct MatchContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct JitStackDeleter {
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

}  // namespace

const PretokenizerKind* find_pretokenizer_kind(std::string_view name) {
  for (const PretokenizerKind& kind : kKinds) {
    if (kind.name == name) return &kind;
  }
  return nullptr;
}

std::string pretokenizer_names() {
  std::string names;
  for (const PretokenizerKind& kind : kKinds) {
    if (!names.empty()) names += ", ";
    names += kind.name;
  }
  return names;
}

struct Pretokenizer::Impl {
  std::unique_ptr<pcre2_code, CodeDeleter> code;
  bool jit = false;
};

Pretokenizer::Pretokenizer(std::string_view pattern) {
  auto impl = std::make_unique<Impl>();
  int code = 0;
  PCRE2_SIZE offset = 0;
  const std::uint32_t options =
      PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C;
  impl->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                 options, &code, &offset, nullptr));
  if (!impl->code) {
    throw runtime_failure("pre-tokenizer pattern, position " + std::to_string(offset) + ": " +
                          pcre2_message(code));
  }
  // Without a JIT compiler (a build of PCRE2 may lack it) the interpreter gives the same words.
  impl->jit = pcre2_jit_compile(impl->code.get(), PCRE2_JIT_COMPLETE) == 0;
  impl_ = std::move(impl);
}

Pretokenizer::~Pretokenizer() = default;
Pretokenizer::Pretokenizer(Pretokenizer&&) noexcept = default;
Pretokenizer& Pretokenizer::operator=(Pretokenizer&&) noexcept = default;

struct Pretokenizer::Cursor::Impl {
  const Pretokenizer::Impl* pattern = nullptr;
  std::unique_ptr<pcre2_match_data, MatchDataDeleter> data;
  std::unique_ptr<pcre2_match_context, MatchContextDeleter> context;
  std::unique_ptr<pcre2_jit_stack, JitStackDeleter> stack;
};

Pretokenizer::Cursor::Cursor(const Pretokenizer& pretokenizer) : impl_(std::make_unique<Impl>()) {
  constexpr std::size_t kStackStart = std::size_t{32} << 10U;
  constexpr std::size_t kStackLimit = std::size_t{8} << 20U;
  impl_->pattern = pretokenizer.impl_.get();
  impl_->data.reset(pcre2_match_data_create(1, nullptr));
  impl_->context.reset(pcre2_match_context_create(nullptr));
  HEDDLE_CHECK(impl_->data != nullptr && impl_->context != nullptr);
  if (impl_->pattern->jit) {
    impl_->stack.reset(pcre2_jit_stack_create(kStackStart, kStackLimit, nullptr));
    HEDDLE_CHECK(impl_->stack != nullptr);
    pcre2_jit_stack_assign(impl_->context.get(), nullptr, impl_->stack.get());
  }
}

Pretokenizer::Cursor::~Cursor() = default;

void Pretokenizer::Cursor::reset(std::string_view text) {
  text_ = text;
  pos_ = match_begin_ = match_end_ = 0;
}

bool Pretokenizer::Cursor::next(std::string_view& word) {
  if (pos_ == text_.size()) return false;
  if (match_end_ <= pos_) {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text_.data());
    const pcre2_code* code = impl_->pattern->code.get();
    const int found = impl_->pattern->jit
                          ? pcre2_jit_match(code, subject, text_.size(), pos_, 0, impl_->data.get(),
                                            impl_->context.get())
                          : pcre2_match(code, subject, text_.size(), pos_, PCRE2_NO_UTF_CHECK,
                                        impl_->data.get(), impl_->context.get());
    if (found == PCRE2_ERROR_NOMATCH) {
      match_begin_ = match_end_ = text_.size();
    } else if (found < 0) {
      throw runtime_failure("pre-tokenizer failed at byte " + std::to_string(pos_) + " of " +
                            std::to_string(text_.size()) + ": " + pcre2_message(found));
    } else {
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(impl_->data.get());
      match_begin_ = range[0];
      match_end_ = range[1];
      HEDDLE_CHECK(match_end_ > match_begin_);  // no pattern of ours matches the empty text
    }
  }
  // What the pattern skips is a word too.
  const std::size_t end = match_begin_ > pos_ ? match_begin_ : match_end_;
  word = text_.substr(pos_, end - pos_);
  pos_ = end;
  return true;
}

}  // namespace heddle
