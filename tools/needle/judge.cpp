#include "tools/needle/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/error.h"
#include "models/quote_text.h"
#include "tools/needle/blanks.h"
#include "tools/needle/scorer.h"

namespace heddle::needle {
namespace {

constexpr int kReplyTokens = 2048;  // thoughts included
constexpr std::size_t kMostAnswer = 8192;
constexpr double kTooLarge = 1e300;

std::string question_of(const BuiltPrompt& prompt, const std::string& answer) {
  std::string expected;
  for (const std::string& text : prompt.expected) expected += "- " + text + "\n";
  return fmt::format(
      "Judge an answer by what was expected of it. Say how good it is with one number:\n"
      "1: it has nothing to do with what was expected\n"
      "3: it is near to it, but says something else\n"
      "5: it has a part of it\n"
      "7: it has it, with small things missing\n"
      "10: it has all of it, whatever else it says beside\n"
      "Reply with the number alone.\n\n{}Expected:\n{}\nAnswer:\n{}\n",
      prompt.question.empty() ? "" : "Question:\n" + prompt.question + "\n\n", expected,
      answer.substr(0, kMostAnswer));
}

struct Number {
  double value = 0.0;
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// Those that stand alone: "7", "7.5", "5,934,139"; no parts of words.
std::vector<Number> numbers_of(const std::string& reply) {
  const auto digit = [&](std::size_t i) {
    return i < reply.size() && std::isdigit(static_cast<unsigned char>(reply[i])) != 0;
  };
  const auto word = [&](std::size_t i) {
    return i < reply.size() && (std::isalnum(static_cast<unsigned char>(reply[i])) != 0 ||
                                static_cast<unsigned char>(reply[i]) >= 0x80);
  };
  std::vector<Number> numbers;
  for (std::size_t at = 0; at < reply.size();) {
    std::size_t end = at;
    while (digit(end) || (end > at && (reply[end] == '.' || reply[end] == ',') && digit(end + 1))) {
      ++end;
    }
    if (end == at) {
      const bool in_word = word(at);
      while (in_word && word(at + 1)) ++at;
      ++at;
      continue;
    }
    double value = kTooLarge;
    const std::string text = reply.substr(at, end - at);
    const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
    if (read.ptr != text.data() + text.size()) value = kTooLarge;
    if (!word(end)) numbers.push_back({value, at, end});
    at = end;
  }
  return numbers;
}

/// The one number from 1 to 10, mentions of the scale ("/10", "out of 10", "1 to 10") left out;
/// nullopt: there is none, or there are several.
std::optional<double> number_of(const std::string& reply) {
  const std::vector<Number> numbers = numbers_of(reply);
  std::vector<bool> scale(numbers.size(), false);
  for (std::size_t i = 0; i + 1 < numbers.size(); ++i) {
    if (numbers[i + 1].value != 10.0) continue;
    const std::size_t begin = numbers[i].end;
    const std::string text =
        without_blanks(std::string_view(reply).substr(begin, numbers[i + 1].begin - begin));
    const bool of = text == "/" || text == "out of" || text == "of";
    const bool range = numbers[i].value <= 1.0 &&
                       (text == "to" || text == "-" || text == "\u2013" || text == "and");
    scale[i] = scale[i] || range;
    scale[i + 1] = of || range;
  }
  std::optional<double> result;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const double value = numbers[i].value;
    if (scale[i] || value < 1.0 || value > 10.0) continue;
    if (result && *result != value) return std::nullopt;
    result = value;
  }
  return result;
}

}  // namespace

double Judge::score(const BuiltPrompt& prompt, const std::string& answer) {
  const Json body{
      {"model", api_.model()},
      {"messages", Json::array({{{"role", "user"}, {"content", question_of(prompt, answer)}}})},
      {"max_tokens", kReplyTokens},
      {"temperature", 0}};
  const ServerApi::Response response = api_.call("/v1/chat/completions", body);
  if (!response.error.empty()) throw runtime_failure("the judge: " + response.error);
  const Json::json_pointer place("/choices/0/message/content");
  const bool has_text = response.body.contains(place) && response.body[place].is_string();
  const std::string reply =
      has_text ? without_thoughts(response.body[place].get<std::string>()) : std::string();
  const std::optional<double> number = number_of(reply);
  if (!number) {
    throw runtime_failure(fmt::format("the judge: not one number from 1 to 10 is its reply: {}",
                                      quote_text(reply, 80)));
  }
  return *number / 10.0;
}

}  // namespace heddle::needle
