#pragma once
// An object of a format that is ours: every key must be one that was asked for.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/config_json.h"

namespace heddle {

/// A ConfigJson that remembers which keys it was asked for. done() refuses the others. Errors as
/// ConfigJson's.
class StrictObject {
 public:
  explicit StrictObject(ConfigJson object) : object_(std::move(object)) {}

  bool has(std::string_view key) const { return asked(key).has(key); }
  /// A whole number in the range, or `otherwise` where the key is absent.
  int integer(std::string_view key, IntegerRange range, int otherwise) const;
  int require_integer(std::string_view key, IntegerRange range) const;
  /// A number in [least, most].
  double real(std::string_view key, double least, double most, double otherwise) const;
  bool boolean(std::string_view key, bool otherwise) const;
  std::string text(std::string_view key, std::string_view otherwise) const;
  std::string require_text(std::string_view key) const;
  std::optional<std::vector<double>> reals(std::string_view key) const;
  std::optional<ConfigJson> object(std::string_view key) const;
  std::optional<std::vector<ConfigJson>> objects(std::string_view key) const;
  /// One of the names; `names` are the values in the order of an enumeration, "" for those that
  /// have none here. The index of the one that stands there, or of `otherwise`.
  std::size_t choice(std::string_view key,
                     const std::vector<std::string_view>& names,
                     std::string_view otherwise) const;

  Error error(std::string_view key, std::string_view got, std::string_view allowed) const {
    return object_.error(key, got, allowed);
  }
  Error missing(std::string_view key, std::string_view allowed = "") const {
    return object_.missing(key, allowed);
  }
  /// Throws kBadInput for a key that none of the calls named: "KEY, got an unknown key, allowed
  /// ...".
  void done() const;

 private:
  const ConfigJson& asked(std::string_view key) const;

  ConfigJson object_;
  mutable std::vector<std::string> known_;
};

}  // namespace heddle
