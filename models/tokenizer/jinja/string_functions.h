#pragma once
// What filters and methods of strings share.

#include <cstdint>
#include <utility>
#include <vector>

#include "models/tokenizer/jinja/runtime.h"

namespace heddle::jinja {

enum class Side : std::uint8_t { kLeft, kRight, kBoth };

/// strip(): `chars` null means white space.
Value strip(Runtime& rt, const Text& text, const Text* chars, Side side);
/// replace(): at most `count` times, all if negative. Untrusted as a whole if any operand is.
Value replace(Runtime& rt, const Text& text, const Text& from, const Text& to, std::int64_t count);
/// Padded with `fill` to `width` characters; Side::kLeft keeps the text at the left.
Value pad(Runtime& rt, const Text& text, std::int64_t width, const Text& fill, Side side);
/// markupsafe.escape(): markup as it is, else str(v) with entities for & < > " '.
Value escaped(Runtime& rt, const Value& v);
/// The string `v` as markup.
Value as_markup(Runtime& rt, const Value& v);
/// a + b of two strings, of which one may be markup.
Value joined(Runtime& rt, const Value& a, const Value& b);
/// Byte ranges of the lines without their ends, as splitlines().
std::vector<std::pair<std::size_t, std::size_t>> lines_of(const Text& text, bool keep_ends);

}  // namespace heddle::jinja
