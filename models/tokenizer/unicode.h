#pragma once
// Properties of characters, as the tokenizers' reference implementations ask for them. Unicode 15
// (utf8proc 2.8).

namespace heddle {

bool is_white_space(char32_t c);  // the property White_Space
/// What \w means: Alphabetic, marks, decimal digits, connecting punctuation, joiners.
bool is_word_character(char32_t c);
bool is_nonspacing_mark(char32_t c);  // category Mn

}  // namespace heddle
