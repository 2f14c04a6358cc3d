#pragma once
// Python's string formatting: the % operator and str.format.

#include <cstddef>
#include <string>
#include <string_view>

#include "models/tokenizer/jinja/builtins.h"
#include "models/tokenizer/jinja/runtime.h"

namespace heddle::jinja {

/// format % values. The result is untrusted if any part of an operand is.
Value format_percent(Runtime& rt, const Text& format, const Value& values);

/// format.format(...): {}, {0}, {name}, {a.b[0]}, !r, !s and the usual format specifications.
Value format_braces(Runtime& rt, const Text& format, const Arguments& arguments);

/// round(x, n) of Python: half to even on the exact binary value.
double round_half_even(double x, int n_digits);

/// Position of `what` in `text` from `from` on, or npos. Linear also where the text repeats itself.
std::size_t find_bytes(std::string_view text, std::string_view what, std::size_t from);

}  // namespace heddle::jinja
