#include "models/tokenizer/utf8.h"

#include <cstring>

#include "models/tokenizer/tokenizer.h"

namespace heddle {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

/// Position of the first byte >= 0x80 at or after `pos`.
std::size_t skip_ascii(std::string_view bytes, std::size_t pos) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080U;
  while (pos + sizeof(std::uint64_t) <= bytes.size()) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + pos, sizeof(word));
    if ((word & kHighBits) != 0) break;
    pos += sizeof(word);
  }
  while (pos < bytes.size() && static_cast<unsigned char>(bytes[pos]) < 0x80) ++pos;
  return pos;
}

/// The lead byte decides the length and the range of the second byte; the rest is 80..BF.
struct Lead {
  int length = 0;  // 0: begins no character
  unsigned char second_min = 0x80;
  unsigned char second_max = 0xBF;
};

Lead classify_lead(unsigned char byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};  // no overlong forms
  if (byte == 0xED) return {3, 0x80, 0x9F};  // no surrogates
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};  // up to U+10FFFF
  return {0};
}

/// Appends bytes[pos..end) with invalid parts replaced; stops before a truncated last character
/// when `keep_tail`. Returns where it stopped.
std::size_t append_lossy(std::string& out, std::string_view bytes, bool keep_tail) {
  std::size_t pos = 0;
  while (pos < bytes.size()) {
    const std::size_t ascii_end = skip_ascii(bytes, pos);
    out.append(bytes, pos, ascii_end - pos);
    pos = ascii_end;
    if (pos == bytes.size()) break;
    const Utf8Step step = utf8_step(bytes, pos);
    if (step.truncated && keep_tail) break;
    if (step.valid) {
      out.append(bytes, pos, step.length);
    } else {
      out.append(kReplacement);
    }
    pos += step.length;
  }
  return pos;
}

}  // namespace

Utf8Step utf8_step(std::string_view bytes, std::size_t pos) {
  const auto byte_at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char first = byte_at(pos);
  const Lead lead = classify_lead(first);
  if (lead.length == 1) return {first, 1, true, false};
  if (lead.length == 0) return {0, 1, false, false};
  char32_t code_point = first & (0x7FU >> lead.length);
  for (int i = 1; i < lead.length; ++i) {
    const auto length = static_cast<std::uint8_t>(i);
    if (pos + static_cast<std::size_t>(i) >= bytes.size()) return {0, length, false, true};
    const unsigned char byte = byte_at(pos + static_cast<std::size_t>(i));
    const unsigned char low = i == 1 ? lead.second_min : 0x80;
    const unsigned char high = i == 1 ? lead.second_max : 0xBF;
    if (byte < low || byte > high) return {0, length, false, false};
    code_point = (code_point << 6U) | (byte & 0x3FU);
  }
  return {code_point, static_cast<std::uint8_t>(lead.length), true, false};
}

bool is_valid_utf8(std::string_view bytes) {
  for (std::size_t pos = skip_ascii(bytes, 0); pos < bytes.size();) {
    const Utf8Step step = utf8_step(bytes, pos);
    if (!step.valid) return false;
    pos += step.length;
    if (pos < bytes.size() && static_cast<unsigned char>(bytes[pos]) < 0x80) {
      pos = skip_ascii(bytes, pos);
    }
  }
  return true;
}

void append_utf8(std::string& text, char32_t code_point) {
  const auto push = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    push(code_point);
  } else if (code_point < 0x800) {
    push(0xC0U | (code_point >> 6U));
    push(0x80U | (code_point & 0x3FU));
  } else if (code_point < 0x10000) {
    push(0xE0U | (code_point >> 12U));
    push(0x80U | ((code_point >> 6U) & 0x3FU));
    push(0x80U | (code_point & 0x3FU));
  } else {
    push(0xF0U | (code_point >> 18U));
    push(0x80U | ((code_point >> 12U) & 0x3FU));
    push(0x80U | ((code_point >> 6U) & 0x3FU));
    push(0x80U | (code_point & 0x3FU));
  }
}

std::string utf8_lossy(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  append_lossy(out, bytes, /*keep_tail=*/false);
  return out;
}

std::string utf8_lossy(std::string_view bytes, std::vector<ByteRange>& ranges) {
  std::string out;
  out.reserve(bytes.size());
  std::size_t begin_index = 0;  // the next range whose begin is still to be moved
  std::size_t end_index = 0;    // the same for its end
  std::size_t pos = 0;
  while (pos < bytes.size()) {
    const Utf8Step step = utf8_step(bytes, pos);
    const std::size_t next = pos + step.length;
    const std::size_t out_begin = out.size();
    if (step.valid) {
      out.append(bytes, pos, step.length);
    } else {
      out.append(kReplacement);
    }
    // Within a valid character the offset carries over; within a replaced part it moves outwards.
    while (begin_index < ranges.size() && ranges[begin_index].begin < next) {
      std::size_t& begin = ranges[begin_index++].begin;
      begin = step.valid ? out_begin + (begin - pos) : out_begin;
    }
    while (end_index < ranges.size() && ranges[end_index].end <= next) {
      std::size_t& end = ranges[end_index++].end;
      if (end <= pos) {
        end = out_begin;
      } else {
        end = step.valid ? out_begin + (end - pos) : out.size();
      }
    }
    pos = next;
  }
  for (; begin_index < ranges.size(); ++begin_index) ranges[begin_index].begin = out.size();
  for (; end_index < ranges.size(); ++end_index) ranges[end_index].end = out.size();
  return out;
}

std::string StreamDecoder::push(std::string_view bytes) {
  std::string out;
  if (pending_.empty()) {
    const std::size_t end = append_lossy(out, bytes, /*keep_tail=*/true);
    pending_.assign(bytes.substr(end));
    return out;
  }
  pending_.append(bytes);
  const std::size_t end = append_lossy(out, pending_, /*keep_tail=*/true);
  pending_.erase(0, end);
  return out;
}

std::string StreamDecoder::finish() {
  std::string out = utf8_lossy(pending_);
  pending_.clear();
  return out;
}

}  // namespace heddle
