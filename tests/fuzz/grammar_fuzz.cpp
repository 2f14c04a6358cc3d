// Grammars: a letter for the language (s schema, r regex, e GBNF, c choices by line), the source,
// NUL and a seed. What compiles is walked along its masks: every mask agrees with accept(), none is
// empty but at the end, and a text that is complete is one of the grammar's. Only heddle::Error may
// escape.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/grammar/grammar.h"
#include "engine/grammar/token_masker.h"
#include "tests/fuzz/fuzz.h"

namespace {

using heddle::fuzz::require;

constexpr heddle::TokenId kEnd = 256;

std::vector<std::string> vocabulary() {
  std::vector<std::string> texts;
  for (int b = 0; b < 256; ++b) texts.emplace_back(1, static_cast<char>(b));
  texts.emplace_back();
  for (const char* text : {"{\"", "\": ", "\", \"", "\"}",      "}}",       "]]",  "[[[[[[[[",
                           ", ",  "\n  ", "null",   "true",     "12",       "0.",  "1e",
                           "ab",  "aaaa", "\\u",    "\xe2\x82", "\x82\xac", "\"\""}) {
    texts.emplace_back(text);
  }
  return texts;
}

heddle::GrammarPtr compile(char language, std::string_view source) {
  const heddle::GrammarLimits limits{
      .source_bytes = 4096, .states = 20'000, .memory_bytes = 4U << 20U, .seconds = 20.0};
  if (language == 's') return heddle::json_schema_grammar(source, limits);
  if (language == 'r') return heddle::regex_grammar(source, limits);
  if (language == 'e') return heddle::ebnf_grammar(source, limits);
  std::vector<std::string> choices;
  for (std::size_t begin = 0; begin <= source.size();) {
    const std::size_t end = std::min(source.find('\n', begin), source.size());
    choices.emplace_back(source.substr(begin, end - begin));
    begin = end + 1;
  }
  return heddle::choice_grammar(choices, limits);
}

void walk(const heddle::TokenMasker& masker, const heddle::GrammarPtr& grammar, unsigned seed) {
  constexpr int kSteps = 24;
  constexpr auto kMostTime = std::chrono::milliseconds(500);  // of ambiguous grammars
  const auto start = std::chrono::steady_clock::now();
  heddle::fuzz::Rng rng(seed);
  heddle::GrammarMatcher matcher(masker, grammar);
  heddle::TokenMask mask(masker.vocab());
  std::string text;
  for (int step = 0; step < kSteps && !matcher.finished(); ++step) {
    if (std::chrono::steady_clock::now() - start > kMostTime) break;
    matcher.fill(mask);
    require(mask.test(kEnd) == matcher.complete());
    std::vector<heddle::TokenId> allowed;
    for (heddle::TokenId t = 0; t < masker.vocab(); ++t) {
      if (t == kEnd) continue;
      if (mask.test(t)) {
        allowed.push_back(t);
      } else if (step % 8 == 0) {
        require(!matcher.accept(t));
      }
    }
    require(!allowed.empty());
    const heddle::TokenId token = allowed[heddle::fuzz::pick(rng, allowed.size())];
    require(matcher.accept(token));
    text += masker.trie().text(token);
  }
  require(grammar->matches(text) == matcher.complete());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const heddle::TokenMasker masker(vocabulary(), std::vector<heddle::TokenId>{kEnd},
                                          std::size_t{1} << 20U);
  if (size == 0) return 0;
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const std::size_t end = std::min(all.find('\0'), all.size());
  const std::string_view source = all.substr(1, std::max<std::size_t>(end, 1) - 1);
  unsigned seed = 1;
  for (const char c : all.substr(end)) seed = seed * 31 + static_cast<unsigned char>(c);
  heddle::GrammarPtr grammar;
  try {
    grammar = compile(all[0], source);
  } catch (const heddle::Error& error) {
    require(error.kind() == heddle::ErrorKind::kBadInput);
    require(std::string_view(error.what()).find('\n') == std::string_view::npos);
    return 0;
  }
  try {
    walk(masker, grammar, seed);
  } catch (const heddle::Error& error) {  // too ambiguous, or no room
    require(std::string_view(error.what()).substr(0, 9) == "grammar: ");
  }
  return 0;
}
