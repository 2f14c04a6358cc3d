// config.json against the typed getters and every family's reader, over a file without tensors:
// whatever the config says, a family must have refused it or asked for its first tensor. Beyond "no
// crash": nothing but heddle::Error escapes, in one line. The mutator puts one odd value into a
// config that is one.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "models/config_json.h"
#include "models/families/families.h"
#include "models/gguf_weights.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/gguf_writer.h"

namespace heddle {
namespace {

using fuzz::only_our_errors;
using fuzz::pick;
using fuzz::replace_input;
using fuzz::require;
using fuzz::Rng;

void read_every_key(const ConfigJson& config, int depth) {
  const IntegerRange any = {INT64_MIN, INT64_MAX};
  std::size_t n = 0;
  for (const std::string& key : config.keys()) {
    if (++n > 64) break;  // looking up a key takes as long as there are keys
    only_our_errors([&] { config.integer(key, any); });
    only_our_errors([&] { config.integers(key, {-9, 9}); });
    only_our_errors([&] { config.one_or_more_integers(key, any); });
    only_our_errors([&] { config.real(key); });
    only_our_errors([&] { config.reals(key); });
    only_our_errors([&] { config.boolean(key); });
    only_our_errors([&] { config.text(key); });
    only_our_errors([&] { config.texts(key); });
    only_our_errors([&] {
      const std::optional<ConfigJson> nested = config.object(key);
      if (nested && depth < 64) read_every_key(*nested, depth + 1);
    });
  }
}

// --- mutation

Json odd_value(Rng& rng) {
  static const std::vector<Json> kOdd = {nullptr,
                                         true,
                                         0,
                                         1,
                                         -1,
                                         3,
                                         64,
                                         1'000'000'000,
                                         2147483648U,
                                         4294967296U,
                                         18446744073709551615U,
                                         INT64_MIN,
                                         0.0,
                                         -1.5,
                                         1e-300,
                                         1e300,
                                         "",
                                         "silu",
                                         "yarn",
                                         "longrope",
                                         "full_attention",
                                         Json::array(),
                                         Json::array({1, 2.5, "x"}),
                                         Json::object(),
                                         Json::object({{"rope_type", "llama3"}, {"factor", 8.0}})};
  return kOdd[pick(rng, kOdd.size())];
}

void change(Rng& rng, Json& value) {
  if (!value.is_structured() || value.empty() || pick(rng, 4) == 0) {
    value = odd_value(rng);
    return;
  }
  auto child = value.begin();
  std::advance(child, static_cast<std::ptrdiff_t>(pick(rng, value.size())));
  if (value.is_object() && pick(rng, 8) == 0) {
    value.erase(child);
  } else if (child->is_structured() && pick(rng, 2) == 0) {
    change(rng, *child);
  } else {
    *child = odd_value(rng);
  }
}

}  // namespace
}  // namespace heddle

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace heddle;
  static const std::string empty = test::GgufDoc().serialise();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::optional<ConfigJson> config;
  only_our_errors([&] { config = ConfigJson::parse(text, "x", "config"); });
  if (!config) return 0;
  read_every_key(*config, 0);
  for (const Family& family : families()) {
    if (family.read_folder == nullptr) continue;
    const bool accepted = only_our_errors([&] {
      Checkpoint checkpoint;
      checkpoint.weights = GgufWeights::over(std::as_bytes(std::span(empty)), "x");
      family.read_folder(*config, checkpoint);
    });
    require(!accepted);  // there is no tensor
  }
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data,
                                               std::size_t size,
                                               std::size_t max_size,
                                               unsigned int seed) {
  using namespace heddle;
  Rng rng(seed);
  if (pick(rng, 4) == 0) return LLVMFuzzerMutate(data, size, max_size);
  std::string text(reinterpret_cast<const char*>(data), size);
  try {
    Json config = parse_json(text, "x");
    if (!config.is_object()) return LLVMFuzzerMutate(data, size, max_size);
    for (std::size_t n = 1 + pick(rng, 3); n > 0 && config.is_object(); --n) change(rng, config);
    text = config.dump(-1, ' ', false, Json::error_handler_t::replace);
  } catch (const Error&) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  return replace_input(data, size, max_size, text);
}
