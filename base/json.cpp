#include "base/json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
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

/// First pass: structure only, so that depth and node bounds hold before anything is allocated and
/// nothing recurses.
class Checker : public nlohmann::json_sax<Json> {
 public:
  Checker(std::string_view text, std::string_view source, JsonLimits limits)
      : text_(text), source_(source), limits_(limits) {}

  bool null() override { return node(); }
  bool boolean(bool) override { return node(); }
  bool number_integer(number_integer_t) override { return node(); }
  bool number_unsigned(number_unsigned_t) override { return node(); }
  bool number_float(number_float_t, const string_t&) override { return node(); }
  bool string(string_t&) override { return node(); }
  bool binary(binary_t&) override { return node(); }
  bool start_object(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second) {
      throw bad_input(fmt::format("{}: duplicate key '{}'", source_, name));
    }
    return node();
  }
  bool parse_error(std::size_t offset,
                   const std::string& token,
                   const nlohmann::detail::exception&) override {
    throw bad_input(fmt::format("{}:{}: not valid JSON near '{}'", source_,
                                position(text_, offset == 0 ? 0 : offset - 1),
                                token.substr(0, 40)));
  }

 private:
  bool node() {
    if (++nodes_ > limits_.nodes) {
      throw bad_input(fmt::format("{}: more than {} JSON values", source_, limits_.nodes));
    }
    return true;
  }
  bool open() {
    keys_.emplace_back();
    if (static_cast<int>(keys_.size()) > limits_.depth) {
      throw bad_input(fmt::format("{}: JSON nested deeper than {}", source_, limits_.depth));
    }
    return node();
  }
  bool close() {
    keys_.pop_back();
    return true;
  }

  std::string_view text_;
  std::string_view source_;
  JsonLimits limits_;
  std::size_t nodes_ = 0;
  std::vector<std::set<std::string>> keys_;
};

}  // namespace

Json parse_json(std::string_view text, std::string_view source, JsonLimits limits) {
  Checker checker(text, source, limits);
  Json::sax_parse(text, &checker);
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::exception& e) {
    throw bad_input(fmt::format("{}: not valid JSON: {}", source, e.what()));
  }
}

std::string json_quote(std::string_view text) {
  return Json(std::string(text)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace heddle
