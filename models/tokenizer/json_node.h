#pragma once
// Strict reading of a tokenizer's JSON document: every value with its place, every member either
// read or refused.

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json.h"

namespace heddle {

/// One value of a document that outlives it. Every error is kBadInput and reads
/// "FILE: tokenizer: POINTER, got X, allowed Y".
class JsonNode {
 public:
  JsonNode(const Json& value, std::string source)
      : JsonNode(value, std::make_shared<const std::string>(std::move(source)), "") {}

  bool is_null() const;
  bool is_string() const;
  bool is_array() const;
  bool is_object() const;
  std::size_t size() const;  // of an array or object

  /// The member of an object; has() false: absent. A null member is absent for has_value().
  bool has(std::string_view key) const;
  bool has_value(std::string_view key) const;
  JsonNode operator[](std::string_view key) const;  // must be there
  JsonNode at(std::size_t index) const;             // of an array
  std::vector<std::string> keys() const;

  const std::string& text() const;
  bool boolean() const;
  double number() const;
  std::int64_t integer(std::int64_t least, std::int64_t most) const;
  bool boolean_or(std::string_view key, bool otherwise) const;

  /// Refuses what is no object or has a member that is not listed.
  void only(std::initializer_list<std::string_view> keys) const;
  void expect_array() const;

  const Json& value() const { return *value_; }
  const std::string& source() const { return *source_; }
  std::string name() const;   // "FILE: tokenizer: POINTER"
  std::string shown() const;  // the value as an error shows it
  Error error(std::string_view got, std::string_view allowed) const;
  Error wrong(std::string_view allowed) const { return error(shown(), allowed); }

 private:
  JsonNode(const Json& value, std::shared_ptr<const std::string> source, std::string pointer)
      : value_(&value), source_(std::move(source)), pointer_(std::move(pointer)) {}
  const Json* find(std::string_view key) const;
  std::string quote_pointer() const;

  const Json* value_;
  std::shared_ptr<const std::string> source_;
  std::string pointer_;
};

}  // namespace heddle
