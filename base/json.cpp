#include "base/json.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"

namespace heddle {
namespace {

std::string position(std::string_view text, std::size_t offset) {
  std::size_t line = 1;
  std::size_t column = 1;
  for (std::size_t i = 0; i < offset && i < text.size(); ++i) {
    column = text[i] == '\n' ? 1 : column + 1;
    line += text[i] == '\n' ? 1 : 0;
  }
  return fmt::format("{}:{}", line, column);
}

/// Reads characters and remembers how far the parser has come.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** seen) : at_(at), seen_(seen) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *seen_ = ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(const CountingIterator& a, const CountingIterator& b) {
    return a.at_ == b.at_;
  }

 private:
  const char* at_;
  const char** seen_;
};

/// A key for an error text: one line of ASCII, escaped as JSON does, cut where it is long.
std::string shown(const std::string& key) {
  constexpr std::size_t kMost = 64;
  const std::string quoted = Json(key).dump(-1, ' ', true, Json::error_handler_t::replace);
  const std::string text = quoted.substr(1, quoted.size() - 2);
  return text.size() > kMost ? text.substr(0, kMost) + "..." : text;
}

/// Builds the document while it checks depth, number of values and duplicate keys. (The library's
/// own builder searches an ordered object for every key it adds: quadratic on hostile input.)
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string_view text, std::string_view source, JsonLimits limits)
      : text_(text), source_(source), limits_(limits), seen_(text.data()) {}

  Json build() {
    // The library takes a NUL for the end and would not look at what follows it.
    const std::size_t nul = text_.find('\0');
    if (nul != std::string_view::npos) {
      throw bad_input(
          fmt::format("{}:{}: not valid JSON near a NUL byte", source_, position(text_, nul)));
    }
    Json::sax_parse(CountingIterator(text_.data(), &seen_),
                    CountingIterator(text_.data() + text_.size(), &seen_), this);
    return std::move(root_);
  }

  bool null() override { return leaf(nullptr); }
  bool boolean(bool v) override { return leaf(v); }
  bool number_integer(number_integer_t v) override { return leaf(v); }
  bool number_unsigned(number_unsigned_t v) override { return leaf(v); }
  bool number_float(number_float_t v, const string_t&) override { return leaf(v); }
  bool string(string_t& v) override { return leaf(std::move(v)); }
  bool binary(binary_t&) override { return false; }  // not in JSON text
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    count();
    if (!open_.back().keys.insert(name).second) {
      throw bad_input(fmt::format("{}:{}: duplicate key '{}'", source_,
                                  position(text_, key_begin()), shown(name)));
    }
    key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t offset,
                   const std::string& token,
                   const nlohmann::detail::exception&) override {
    const std::size_t at = offset == 0 ? 0 : offset - 1;
    const std::string near = at >= text_.size() ? "the end" : "'" + last_part(token) + "'";
    throw bad_input(
        fmt::format("{}:{}: not valid JSON near {}", source_, position(text_, at), near));
  }

 private:
  struct Level {
    Json* value = nullptr;  // stays put: a container does not grow while a child is open
    std::set<std::string> keys;
  };

  /// The end of `token`, where the error is; cut between characters, always UTF-8.
  static std::string last_part(const std::string& token) {
    std::size_t begin = token.size() > 40 ? token.size() - 40 : 0;
    while (begin < token.size() && (static_cast<unsigned char>(token[begin]) & 0xC0U) == 0x80U) {
      ++begin;
    }
    std::string part;
    for (std::size_t i = begin; i < token.size(); ++i) {
      const auto byte = static_cast<unsigned char>(token[i]);
      // The last character, of up to four bytes, may be wrong for being no UTF-8.
      if (byte < 0x20 || (byte >= 0x7f && i + 4 >= token.size())) {
        fmt::format_to(std::back_inserter(part), "\\x{:02x}", byte);
      } else {
        part += token[i];
      }
    }
    return part;
  }
  /// Offset of the opening quote of the key that was just read.
  std::size_t key_begin() const {
    const char* at = seen_ - 2;
    while (true) {
      while (*at != '"') --at;
      const char* slash = at;
      while (slash[-1] == '\\') --slash;
      if ((at - slash) % 2 == 0) return static_cast<std::size_t>(at - text_.data());
      --at;
    }
  }
  void count() {
    if (++nodes_ > limits_.nodes) {
      throw bad_input(fmt::format("{}: more than {} JSON values", source_, limits_.nodes));
    }
  }
  Json* add(Json value) {
    count();
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back().value;
    if (parent.is_array()) {
      auto& items = parent.get_ref<Json::array_t&>();
      items.push_back(std::move(value));
      return &items.back();
    }
    auto& members = parent.get_ref<Json::object_t&>();
    members.emplace_back(std::move(key_), std::move(value));
    return &members.back().second;
  }
  bool leaf(Json value) {
    add(std::move(value));
    return true;
  }
  bool open(Json container) {
    if (static_cast<int>(open_.size()) >= limits_.depth) {
      const auto at = static_cast<std::size_t>(seen_ - text_.data()) - 1;
      throw bad_input(fmt::format("{}:{}: JSON nested deeper than {}", source_, position(text_, at),
                                  limits_.depth));
    }
    open_.push_back({add(std::move(container)), {}});
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view text_;
  std::string_view source_;
  JsonLimits limits_;
  const char* seen_;
  std::size_t nodes_ = 0;
  Json root_;
  std::string key_;
  std::vector<Level> open_;
};

}  // namespace

Json parse_json(std::string_view text, std::string_view source, JsonLimits limits) {
  return Builder(text, source, limits).build();
}

std::string json_quote(std::string_view text) {
  return Json(std::string(text)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace heddle
