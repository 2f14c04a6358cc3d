#pragma once
// What every operation of one render needs: storage, the budgets, and the place to blame.

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "models/tokenizer/chat_template.h"
#include "models/tokenizer/jinja/value.h"

namespace heddle::jinja {

/// "line 12, column 7: text" for the byte `offset` of `source`; control characters of `text`
/// become spaces and a long text is cut, since part of it may come from a template or a prompt.
Error error_at(std::string_view source, std::size_t offset, std::string_view text);

/// A name as it may appear in an error: cut after 60 characters.
std::string quoted(std::string_view name);

class Runtime {
 public:
  Runtime(std::string_view source, const TemplateLimits& limits, std::int64_t now_unix_seconds);
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  [[noreturn]] void fail(std::string_view text) const;

  /// Spends `n` steps, for `n` nodes, iterations, comparisons or list items.
  void charge(std::int64_t n = 1) {
    steps_ += n;
    if (steps_ >= next_check_) check_budget();
  }
  /// Spends the steps of `n` produced bytes: one for each sixteen.
  void charge_bytes(std::size_t n) { charge(1 + static_cast<std::int64_t>(n / 16)); }
  /// Refuses a product of sizes before memory is taken for it.
  void charge_product(std::int64_t a, std::int64_t b);

  Value text(std::string bytes, bool untrusted);
  Value text(TextBuilder& builder);
  Value text(Text text);
  /// The part [begin, end) of `text` in bytes.
  Value slice(const Text& text, std::size_t begin, std::size_t end);
  Value undefined(std::string why);
  Value list(std::vector<Value> items, Type type = Type::kList);
  Value tuple(const Value& a, const Value& b);
  /// Insertion in order; a key that is there already keeps its place and gets the new value.
  void insert(Dict& dict, const Value& key, const Value& value);
  const Value* find(const Dict& dict, const Value& key);
  Value dict(Dict* dict);

  const TemplateLimits& limits() const { return limits_; }
  std::int64_t now() const { return now_; }

  Heap heap;
  std::uint32_t at = 0;  // offset in the source of what is being evaluated

 private:
  void check_budget();
  int depth_of(const Value& value) const;
  int nested(int depth) const;

  std::string_view source_;
  const TemplateLimits& limits_;
  std::int64_t now_;
  std::int64_t steps_ = 0;
  std::int64_t next_check_ = 0;
  std::chrono::steady_clock::time_point deadline_;
};

}  // namespace heddle::jinja
