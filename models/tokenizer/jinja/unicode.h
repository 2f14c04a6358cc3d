#pragma once
// Character properties and case mapping of Python's str, from Unicode 14 (the tables are
// generated).

#include <string>
#include <string_view>

namespace heddle::jinja {

bool is_space(char32_t c);      // str.isspace, str.strip, regular expression \s
bool is_alpha(char32_t c);      // str.isalpha
bool is_digit(char32_t c);      // str.isdigit
bool is_decimal(char32_t c);    // str.isdecimal
bool is_numeric(char32_t c);    // str.isnumeric
bool is_printable(char32_t c);  // str.isprintable: what repr() does not escape
bool is_cased(char32_t c);
bool is_case_ignorable(char32_t c);
bool is_upper(char32_t c);  // the property Uppercase
bool is_lower(char32_t c);  // the property Lowercase

/// Full case mappings of valid UTF-8, with the final-sigma rule.
std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string to_title(std::string_view text);        // str.title
std::string to_capitalized(std::string_view text);  // str.capitalize
std::string swap_case(std::string_view text);

}  // namespace heddle::jinja
