#include "tools/needle/scorer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "models/tokenizer/jinja/unicode.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/utf8.h"

namespace heddle::needle {
namespace {

using Texts = std::vector<std::string>;

std::string lower(std::string_view text) {
  return jinja::to_lower(utf8_lossy(text));
}

/// As Python's str.strip().
std::string_view stripped(std::string_view text) {
  std::size_t begin = text.size();
  std::size_t end = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    if (!step.valid || !jinja::is_space(step.code_point)) {
      begin = std::min(begin, at);
      end = at + step.length;
    }
    at += step.length;
  }
  return end == 0 ? std::string_view() : text.substr(begin, end - begin);
}

std::string cleaned(std::string_view answer) {
  std::string text(answer);
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = '\n';
  }
  return std::string(stripped(text));
}

double contained(const Texts& expected, std::string_view answer, bool any) {
  const std::string text = lower(answer);
  const auto found = std::count_if(expected.begin(), expected.end(), [&](const std::string& one) {
    return text.find(lower(one)) != std::string::npos;
  });
  if (any) return found > 0 ? 1.0 : 0.0;
  return static_cast<double>(found) / static_cast<double>(expected.size());
}

/// The digits of the first integer without leading zeros; "": there is none.
std::string first_integer(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789";
  const std::size_t begin = text.find_first_of(kDigits);
  if (begin == std::string_view::npos) return "";
  const std::size_t end = std::min(text.find_first_not_of(kDigits, begin), text.size());
  const std::string_view digits = text.substr(begin, end - begin);
  const std::size_t zeros = std::min(digits.find_first_not_of('0'), digits.size() - 1);
  return std::string(digits.substr(zeros));
}

std::map<std::string, int> words_of(std::string_view text) {
  const std::string low = lower(text);
  std::map<std::string, int> words;
  std::string word;
  for (std::size_t at = 0; at <= low.size();) {
    if (at < low.size()) {
      const Utf8Step step = utf8_step(low, at);
      const char32_t c = step.code_point;
      at += step.length;
      if (step.valid && (jinja::is_alpha(c) || jinja::is_decimal(c))) {
        word.append(low, at - step.length, step.length);
        continue;
      }
    } else {
      ++at;
    }
    if (!word.empty()) ++words[word];
    word.clear();
  }
  return words;
}

int total(const std::map<std::string, int>& words) {
  int n = 0;
  for (const auto& [word, count] : words) n += count;
  return n;
}

double rouge1(std::string_view expected, std::string_view answer) {
  const std::map<std::string, int> wanted = words_of(expected);
  const std::map<std::string, int> given = words_of(answer);
  int common = 0;
  for (const auto& [word, count] : wanted) {
    const auto it = given.find(word);
    if (it != given.end()) common += std::min(count, it->second);
  }
  // 2 P R / (P + R) with P = common / given, R = common / wanted.
  return common == 0 ? 0.0 : 2.0 * common / (total(wanted) + total(given));
}

std::string bare(std::string_view text) {
  std::string_view rest = stripped(text);
  if (rest.ends_with('.')) rest = stripped(rest.substr(0, rest.size() - 1));
  return lower(rest);
}

double exact(std::string_view expected, std::string_view answer) {
  return bare(expected) == bare(answer) ? 1.0 : 0.0;
}

/// Of the expected texts as one or, by `any`, of the best of them.
double compared(double (*compare)(std::string_view, std::string_view),
                const Texts& expected,
                const std::string& separator,
                std::string_view answer,
                bool any) {
  if (!any) return compare(fmt::format("{}", fmt::join(expected, separator)), answer);
  double best = 0.0;
  for (const std::string& one : expected) best = std::max(best, compare(one, answer));
  return best;
}

}  // namespace

double score(Scorer scorer, Match match, std::string_view answer, const Texts& expected) {
  if (expected.empty()) return 0.0;
  const std::string text = cleaned(answer);
  const bool any = match == Match::kAny;
  switch (scorer) {
    case Scorer::kTask:
      if (match == Match::kFirstInteger) {
        const std::string value = first_integer(text);
        return !value.empty() && value == first_integer(expected[0]) ? 1.0 : 0.0;
      }
      return contained(expected, text, any);
    case Scorer::kContain:
      return contained(expected, text, any);
    case Scorer::kRouge1:
      return compared(rouge1, expected, " ", text, any);
    case Scorer::kExact:
      return compared(exact, expected, ", ", text, any);
  }
  HEDDLE_CHECK(false);
}

std::string without_thoughts(std::string_view text) {
  constexpr std::string_view kBegin = "<think>";
  constexpr std::string_view kEnd = "</think>";
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = std::min(text.find(kBegin, at), text.size());
    std::size_t end = text.find(kEnd, at);
    if (end < begin) {  // nothing opened it
      result.clear();
      at = end + kEnd.size();
      continue;
    }
    result += text.substr(at, begin - at);
    end = text.find(kEnd, begin);
    at = end == std::string_view::npos ? text.size() : end + kEnd.size();
  }
  return result;
}

}  // namespace heddle::needle
