#include "models/tokenizer/input_text.h"

#include "base/error.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30U;  // positions fit in 32 bits

void check_plain_ranges(const std::vector<ByteRange>& ranges, std::size_t text_bytes) {
  std::size_t last_end = 0;
  for (const ByteRange& range : ranges) {
    HEDDLE_CHECK(range.begin >= last_end && range.begin <= range.end && range.end <= text_bytes);
    last_end = range.end;
  }
}

}  // namespace

InputText::InputText(std::string_view text, const EncodeOptions& options)
    : text_(text), scope_{.parse_special = options.parse_special, .plain = &options.plain} {
  if (text.size() > kMaxTextBytes) {
    throw bad_input("text has " + std::to_string(text.size()) + " bytes, allowed: up to " +
                    std::to_string(kMaxTextBytes));
  }
  check_plain_ranges(options.plain, text.size());
  if (is_valid_utf8(text)) return;
  moved_ranges_ = options.plain;
  repaired_ = utf8_lossy(text, moved_ranges_);
  scope_.plain = &moved_ranges_;
  text_ = repaired_;
}

}  // namespace heddle
