#include "tools/needle/judge.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/quote_text.h"
#include "tools/needle/scorer.h"

namespace heddle::needle {
namespace {

constexpr int kReplyTokens = 2048;  // thoughts included
constexpr std::size_t kMostAnswer = 8192;

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
      "Reply with the number alone.\n\nExpected:\n{}\nAnswer:\n{}\n",
      expected, answer.substr(0, kMostAnswer));
}

/// The last one, for some speak of the scale first; 0: none from 1 to 10.
int number_of(const std::string& reply) {
  const std::size_t last = reply.find_last_of("0123456789");
  if (last == std::string::npos) return 0;
  const std::size_t before = reply.find_last_not_of("0123456789", last);
  const std::size_t begin = before == std::string::npos ? 0 : before + 1;
  const std::string digits = reply.substr(begin, last - begin + 1);
  const int number = digits.size() > 2 ? 0 : std::stoi(digits);
  return number <= 10 ? number : 0;
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
  const int number = number_of(reply);
  if (number == 0) {
    throw runtime_failure(
        fmt::format("the judge: no number from 1 to 10 in its reply: {}", quote_text(reply, 80)));
  }
  return number / 10.0;
}

}  // namespace heddle::needle
