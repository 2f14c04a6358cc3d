#pragma once
// Typed reading of config.json and its like: a value is given out only if its kind and range are
// what the caller asked for. The twin of gguf_keys.h.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "models/gguf_keys.h"

namespace heddle {

/// One object of a JSON document, which it shares. A key whose value is null counts as absent.
/// Every error is kBadInput and reads "FILE: AREA: KEY, got X, allowed Y", where KEY is the way
/// from the document's root ("rope_scaling.factor"), quoted where it needs it. Copyable.
class ConfigJson {
 public:
  /// Throws kBadInput: "SOURCE: AREA:LINE:COLUMN: WHAT" if `text` is no JSON object.
  static ConfigJson parse(std::string_view text, std::string source, std::string area);

  bool has(std::string_view key) const { return find(key) != nullptr; }
  /// The key is there and its value is null: some configs say "none" so where absence says
  /// "as usual".
  bool is_null(std::string_view key) const;
  /// The value as errors show it; nullopt where it is absent, null, false, 0 or empty, which is how
  /// configs say that they ask for nothing.
  std::optional<std::string> asked(std::string_view key) const;
  std::optional<std::int64_t> integer(std::string_view key, IntegerRange range) const;
  std::int64_t require_integer(std::string_view key, IntegerRange range) const;
  /// One integer, or an array of some (eos_token_id).
  std::optional<std::vector<std::int64_t>> one_or_more_integers(std::string_view key,
                                                                IntegerRange range) const;
  std::optional<std::vector<std::int64_t>> integers(std::string_view key, IntegerRange range) const;
  std::optional<double> real(std::string_view key) const;  // integers too; finite
  std::optional<std::vector<double>> reals(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string> text(std::string_view key) const;
  std::optional<std::vector<std::string>> texts(std::string_view key) const;
  std::optional<ConfigJson> object(std::string_view key) const;
  /// The way of its elements is "KEY[0]".
  std::optional<std::vector<ConfigJson>> objects(std::string_view key) const;
  /// In the file's order, null values among them.
  std::vector<std::string> keys() const;

  Error error(std::string_view key, std::string_view got, std::string_view allowed) const;
  /// `allowed`: what it may be, "" where the key's name says it.
  Error missing(std::string_view key, std::string_view allowed = "") const;
  const std::string& source() const { return source_; }

 private:
  ConfigJson() = default;
  const Json* find(std::string_view key) const;
  std::string shown_key(std::string_view key) const;
  const Json* find_array(std::string_view key, std::string_view allowed) const;
  std::int64_t bounded(const std::string& key, const Json& value, IntegerRange range) const;
  double finite(const std::string& key, const Json& value) const;

  std::shared_ptr<const Json> document_;
  const Json* object_ = nullptr;  // in *document_
  std::string source_, area_;
  std::string path_;  // "" or "rope_scaling."
};

}  // namespace heddle
