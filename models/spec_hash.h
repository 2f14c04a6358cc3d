#pragma once
// What of a config decides the bits of a result, as the numerics id needs it.

#include <cstddef>
#include <string>
#include <string_view>

#include "base/sha256.h"
#include "models/model_config.h"

namespace heddle {

/// SHA-256 of plain values; a length goes before every text.
class ValueHash {
 public:
  void bytes(const void* data, std::size_t n) { hash_.update(data, n); }
  template <typename T>
  void value(T v) {
    bytes(&v, sizeof v);
  }
  void text(std::string_view t) {
    value(t.size());
    bytes(t.data(), t.size());
  }
  std::string hex() const { return hash_.hex(); }

 private:
  Sha256 hash_;
};

/// Feeds every field that decides bits (sizes and factors of the model, all of every layer) and the
/// blocks in which the ops of its mixers sum. After for_context(): of two rotations, the one chosen
/// counts.
void hash_config(const ModelConfig& config, ValueHash& hash);

}  // namespace heddle
