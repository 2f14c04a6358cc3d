#include "tools/needle/report/html.h"

#include "tools/needle/report/text.h"

namespace heddle::needle {
namespace {

// The picture is drawn for a light page, so the page stays light.
constexpr std::string_view kStyle = R"(
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #1f242b;
  font: 15px/1.5 system-ui, Helvetica, Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px; }
h1 { font-size: 26px; margin: 0 0 12px; }
h2 { font-size: 18px; margin: 32px 0 8px; }
svg { max-width: 100%; height: auto; }
figure { margin: 16px 0; overflow-x: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; margin: 0; }
dt { color: #5c636e; }
dd { margin: 0; overflow-wrap: anywhere; }
pre { background: #f3f4f6; padding: 10px 12px; border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 10px; border-bottom: 1px solid #e3e5e9; text-align: right;
  vertical-align: top; white-space: nowrap; }
th { color: #5c636e; font-weight: 600; }
.left { text-align: left; }
table.texts { width: 100%; }
table.texts td { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 60px; }
summary { cursor: pointer; margin: 24px 0 8px; font-size: 18px; font-weight: 600; }
)";

void append_cells(std::string& html,
                  const std::vector<std::string>& fields,
                  std::string_view tag,
                  std::size_t n_left) {
  html += "<tr>";
  for (std::size_t i = 0; i < fields.size(); ++i) {
    html += "<";
    html += tag;
    html += i < n_left ? " class=\"left\">" : ">";
    html += escaped(fields[i]) + "</";
    html += tag;
    html += ">";
  }
  html += "</tr>\n";
}

}  // namespace

std::string html_page(std::string_view title, std::string_view body) {
  std::string html =
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
      "style-src 'unsafe-inline'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n<title>";
  html += escaped(title) + "</title>\n<style>";
  html += kStyle;
  html += "</style>\n</head>\n<body>\n<main>\n<h1>" + escaped(title) + "</h1>\n";
  html += body;
  return html + "</main>\n</body>\n</html>\n";
}

std::string html_heading(std::string_view text) {
  return "<h2>" + escaped(text) + "</h2>\n";
}

std::string html_paragraph(std::string_view text) {
  return "<p>" + escaped(text) + "</p>\n";
}

std::string html_code(std::string_view text) {
  return "<pre>" + escaped(text) + "</pre>\n";
}

std::string html_facts(const std::vector<std::pair<std::string, std::string>>& facts) {
  std::string html = "<dl>\n";
  for (const auto& [name, value] : facts) {
    html += "<dt>" + escaped(name) + "</dt><dd>" + escaped(value) + "</dd>\n";
  }
  return html + "</dl>\n";
}

std::string html_table(const HtmlTable& table) {
  std::string html = table.texts ? "<div class=\"scroll\"><table class=\"texts\">\n<thead>"
                                 : "<div class=\"scroll\"><table>\n<thead>";
  append_cells(html, table.head, "th", table.n_left);
  html += "</thead>\n<tbody>\n";
  for (const auto& line : table.lines) append_cells(html, line, "td", table.n_left);
  return html + "</tbody>\n</table></div>\n";
}

std::string html_details(std::string_view summary, std::string_view body) {
  return "<details><summary>" + escaped(summary) + "</summary>\n" + std::string(body) +
         "</details>\n";
}

}  // namespace heddle::needle
