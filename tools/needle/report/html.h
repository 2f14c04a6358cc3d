#pragma once
// Pieces of a self-contained page: no script, nothing fetched, every text escaped here.

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace heddle::needle {

/// The whole document; `body` is HTML.
std::string html_page(std::string_view title, std::string_view body);
/// <h2>
std::string html_heading(std::string_view text);
std::string html_paragraph(std::string_view text);
/// Text as it is, in a box: a command line.
std::string html_code(std::string_view text);
/// Names and values, one below the other.
std::string html_facts(const std::vector<std::pair<std::string, std::string>>& facts);

struct HtmlTable {
  std::vector<std::string> head = {};
  std::vector<std::vector<std::string>> lines = {};
  std::size_t n_left = 1;  // columns of text; the others are numbers
  bool texts = false;      // long texts that wrap
};
std::string html_table(const HtmlTable& table);
/// Closed until a reader opens it; `body` is HTML.
std::string html_details(std::string_view summary, std::string_view body);

}  // namespace heddle::needle
