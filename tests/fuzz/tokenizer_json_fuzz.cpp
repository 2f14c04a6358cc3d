// Any bytes as a tokenizer.json: either a clear refusal or a tokenizer that encodes and decodes.

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "models/tokenizer/json_node.h"
#include "models/tokenizer/json_tokenizer.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace heddle;
using fuzz::require;

void use(const Tokenizer& tokenizer) {
  const std::string texts[] = {"", "The caf\u00e9 isn't <s>open</s>  at 12:30\n\n",
                               "\u4f60\u597d e\u0301 \U0001F469\u200d\U0001F467 \xff\xc3 _ab",
                               std::string(200, 'a') + std::string(50, ' ')};
  for (const std::string& text : texts) {
    try {
      for (const bool special : {true, false}) {
        EncodeOptions options;
        options.add_special = options.parse_special = special;
        if (!special && text.size() > 4) options.plain = {{1, 3}};
        const std::vector<TokenId> ids = tokenizer.encode(text, options);
        DecodeState state;
        std::string streamed;
        for (const TokenId id : ids) {
          require(id >= 0 && id < tokenizer.vocab_size());
          streamed += tokenizer.next_bytes(id, state, true);
        }
        require(utf8_lossy(streamed) == tokenizer.decode(ids, true));
      }
    } catch (const Error& error) {
      require(error.kind() == ErrorKind::kBadInput);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const Json json = parse_json(text, "fuzz", {.depth = 32, .nodes = 100000});
    use(*make_json_tokenizer(JsonNode(json, "fuzz"), {}, 600));
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::kBadInput);
    require(std::string_view(error.what()).find('\n') == std::string_view::npos);
  }
  return 0;
}
