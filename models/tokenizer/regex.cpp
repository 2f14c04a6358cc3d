#define PCRE2_CODE_UNIT_WIDTH 8
#include "models/tokenizer/regex.h"

#include <pcre2.h>

#include <utility>

#include "base/error.h"

namespace heddle {
namespace {

/// More than any honest pattern needs for one word, and less than a second.
constexpr std::uint32_t kMatchLimit = 10'000'000;

std::string pcre2_message(int code) {
  PCRE2_UCHAR buffer[256] = {};
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct CompileContextDeleter {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
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

struct Regex::Impl {
  std::string name;
  std::unique_ptr<pcre2_code, CodeDeleter> code;
  bool jit = false;
};

Regex::Regex(std::string_view pattern, std::string name, bool multiline) {
  auto impl = std::make_unique<Impl>();
  impl->name = std::move(name);
  std::unique_ptr<pcre2_compile_context, CompileContextDeleter> context(
      pcre2_compile_context_create(nullptr));
  HEDDLE_CHECK(context != nullptr);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE offset = 0;
  std::uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C;
  if (multiline) options |= PCRE2_MULTILINE;
  impl->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                 options, &code, &offset, context.get()));
  if (!impl->code) {
    throw bad_input(impl->name + ", got a pattern that does not compile at position " +
                    std::to_string(offset) + ": " + pcre2_message(code));
  }
  // Without a JIT compiler (a build of PCRE2 may lack it) the interpreter gives the same matches.
  impl->jit = pcre2_jit_compile(impl->code.get(), PCRE2_JIT_COMPLETE) == 0;
  impl_ = std::move(impl);
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

struct Regex::Matcher::Impl {
  const Regex::Impl* regex = nullptr;
  std::unique_ptr<pcre2_match_data, MatchDataDeleter> data;
  std::unique_ptr<pcre2_match_context, MatchContextDeleter> context;
  std::unique_ptr<pcre2_jit_stack, JitStackDeleter> stack;
};

Regex::Matcher::Matcher(const Regex& regex) : impl_(std::make_unique<Impl>()) {
  constexpr std::size_t kStackStart = std::size_t{32} << 10U;
  constexpr std::size_t kStackLimit = std::size_t{8} << 20U;
  impl_->regex = regex.impl_.get();
  impl_->data.reset(pcre2_match_data_create(1, nullptr));
  impl_->context.reset(pcre2_match_context_create(nullptr));
  HEDDLE_CHECK(impl_->data != nullptr && impl_->context != nullptr);
  pcre2_set_match_limit(impl_->context.get(), kMatchLimit);
  if (impl_->regex->jit) {
    impl_->stack.reset(pcre2_jit_stack_create(kStackStart, kStackLimit, nullptr));
    HEDDLE_CHECK(impl_->stack != nullptr);
    pcre2_jit_stack_assign(impl_->context.get(), nullptr, impl_->stack.get());
  }
}

Regex::Matcher::~Matcher() = default;
Regex::Matcher::Matcher(Matcher&&) noexcept = default;

std::optional<ByteRange> Regex::Matcher::find(std::string_view text, std::size_t from) {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const pcre2_code* code = impl_->regex->code.get();
  const int found = impl_->regex->jit
                        ? pcre2_jit_match(code, subject, text.size(), from, 0, impl_->data.get(),
                                          impl_->context.get())
                        : pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                                      impl_->data.get(), impl_->context.get());
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) {
    throw bad_input(impl_->regex->name + ", got a text on which it fails at byte " +
                    std::to_string(from) + " of " + std::to_string(text.size()) + ": " +
                    pcre2_message(found));
  }
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(impl_->data.get());
  HEDDLE_CHECK(range[0] <= range[1]);  // \K could break this, and is refused
  return ByteRange{range[0], range[1]};
}

}  // namespace heddle
