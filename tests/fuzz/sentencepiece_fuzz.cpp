// Any bytes as a tokenizer.model: either a clear refusal or a tokenizer that encodes and decodes.
// libsentencepiece itself is not instrumented; what it reads out of bounds may go unseen here,
// which is why the file is checked before it is handed over.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "models/tokenizer/sentencepiece_tokenizer.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace heddle;
using fuzz::require;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  try {
    const auto tokenizer = make_sentencepiece_tokenizer(file, "fuzz", {}, 2000);
    for (const std::string_view text :
         {"", "The caf\u00e9 isn't <s>open</s>  at 12:30\n\n",
          "\u4f60\u597d e\u0301 \U0001F469\u200d\U0001F467 \xff\xc3 \u2581ab \uff21\ufb01 "}) {
      const std::vector<TokenId> ids = tokenizer->encode(text, {});
      for (const TokenId id : ids) require(id >= 0 && id < tokenizer->vocab_size());
      tokenizer->decode(ids, true);
    }
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::kBadInput);
    require(std::string_view(error.what()).find('\n') == std::string_view::npos);
  }
  return 0;
}
