#include "tools/needle/prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "base/error.h"
#include "engine/chat_prompt.h"
#include "models/quote_text.h"
#include "models/tokenizer/utf8.h"
#include "tools/needle/random.h"

namespace heddle::needle {
namespace {

constexpr int kMostTries = 60;            // of a prompt, until its length is right
constexpr std::size_t kFragmentsOf = 24;  // sentences looked at for a part that fits
constexpr std::size_t kMostDropped = 3;   // whole sentences given up for parts that fit
constexpr std::size_t kMostCounts = 200'000;
constexpr std::size_t kLongestPart = 4096;  // bytes of a part of a sentence
constexpr std::size_t kMostParts = 64;      // of different lengths that are put together
constexpr std::ptrdiff_t kNearCuts = 16;    // of a word, looked at around the best

/// Of scripts that have no spaces between words.
bool is_ideograph(char32_t c) {
  return (c >= 0x3040 && c <= 0x30FF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x20000 && c <= 0x3FFFF);
}

/// Where a sentence may be cut: at spaces, behind ideographs, both not far from its begin, and at
/// its end.
std::vector<std::size_t> word_ends(const std::string& sentence) {
  std::vector<std::size_t> ends;
  for (std::size_t at = 0; at < std::min(sentence.size(), kLongestPart);) {
    const Utf8Step step = utf8_step(sentence, at);
    if (sentence[at] == ' ') ends.push_back(at);
    at += step.length;
    const bool cut = step.valid && is_ideograph(step.code_point);
    if (cut && at < sentence.size() && sentence[at] != ' ') ends.push_back(at);
  }
  ends.push_back(sentence.size());
  return ends;
}

/// The words of a sentence before `end`, as one.
std::string first_words(const std::string& sentence, std::size_t end) {
  if (end == sentence.size()) return sentence;
  std::string words = sentence.substr(0, end);
  while (!words.empty() &&
         std::string_view(",;:-.?!\"'(").find(words.back()) != std::string::npos) {
    words.pop_back();
  }
  return words + (sentence[end] == ' ' ? "." : "\u3002");
}

std::string joined(std::initializer_list<std::string_view> parts, std::string_view between) {
  std::string text;
  for (const std::string_view part : parts) {
    if (part.empty()) continue;
    if (!text.empty()) text += between;
    text += part;
  }
  return text;
}

}  // namespace

// ---- LocalEncoder

EncodedPrompt LocalEncoder::encode(std::string text, std::string prefix) {
  EncodedPrompt prompt{.text = std::move(text), .prefix = std::move(prefix)};
  if (chat_template_ == nullptr) {
    const std::string all = joined({prompt.text, prompt.prefix}, " ");
    prompt.tokens = tokenizer_.encode(all, {.add_special = false, .parse_special = false});
    const std::vector<TokenId>& begin = tokenizer_.facts().prefix;
    prompt.tokens.insert(prompt.tokens.begin(), begin.begin(), begin.end());
  } else {
    const std::vector<ChatMessage> messages = {
        {.role = "user", .content = prompt.text, .extra_json = ""}};
    RenderedPrompt rendered = render_messages(*chat_template_, tokenizer_, messages, true);
    if (!prompt.prefix.empty()) {
      rendered.untrusted.push_back(
          {rendered.text.size(), rendered.text.size() + prompt.prefix.size()});
      rendered.text += prompt.prefix;
    }
    prompt.tokens = encode_rendered(tokenizer_, rendered);
  }
  prompt.n_tokens = static_cast<std::int64_t>(prompt.tokens.size());
  return prompt;
}

std::int64_t LocalEncoder::count_piece(const std::string& piece) {
  const EncodeOptions options{.add_special = false, .parse_special = false};
  static const std::string kBefore = "It was so.";
  return static_cast<std::int64_t>(tokenizer_.encode(kBefore + piece, options).size() -
                                   tokenizer_.encode(kBefore, options).size());
}

// ---- PromptBuilder

struct PromptBuilder::Source {
  std::function<std::string(std::size_t)> piece;  // for every i
  std::string between = " ";                      // them
  bool cut = true;  // the last ones may be cut; else noise fills what they leave
};

PromptBuilder::Source PromptBuilder::noise_source(const std::string& between) {
  return {
      [sentences = noise_sentences()](std::size_t i) { return sentences[i % sentences.size()]; },
      between};
}

PromptBuilder::PromptBuilder(PromptEncoder& encoder,
                             const Haystack& haystack,
                             PromptOptions options)
    : encoder_(encoder), haystack_(haystack), options_(std::move(options)) {}

std::int64_t PromptBuilder::count(const std::string& piece) {
  if (counts_.size() > kMostCounts) counts_.clear();
  const auto [it, is_new] = counts_.try_emplace(piece, 0);
  if (is_new) it->second = encoder_.count_piece(piece);
  return it->second;
}

std::int64_t PromptBuilder::room(const TaskSpec& task) const {
  return options_.answer_tokens > 0 ? options_.answer_tokens : task.answer_tokens;
}

std::string PromptBuilder::prefix(const Draft& draft) const {
  return options_.task_prefix ? draft.answer_prefix : options_.prefix;
}

/// The needles stand behind the piece whose end is nearest to their depth.
EncodedPrompt PromptBuilder::encode(const Draft& draft, const std::vector<Piece>& hay) {
  std::vector<std::int64_t> ends = {0};
  for (const Piece& piece : hay) ends.push_back(ends.back() + piece.tokens);
  std::multimap<std::size_t, const std::string*> needles;
  for (const Needle& needle : draft.needles) {
    const double wanted = static_cast<double>(ends.back()) * needle.depth / 100.0;
    const auto above = std::lower_bound(ends.begin(), ends.end(), wanted, [](auto end, double at) {
      return static_cast<double>(end) < at;
    });
    std::size_t best = static_cast<std::size_t>(above - ends.begin());
    if (best == ends.size()) --best;
    if (best > 0 &&
        wanted - static_cast<double>(ends[best - 1]) <= static_cast<double>(ends[best]) - wanted) {
      --best;
    }
    needles.emplace(best, &needle.text);
  }
  std::string text;
  const auto add = [&](const std::string& piece) {
    if (!text.empty()) text += draft.inner;
    text += piece;
  };
  for (std::size_t i = 0; i <= hay.size(); ++i) {
    if (i > 0) add(hay[i - 1].text);
    const auto [first, last] = needles.equal_range(i);
    for (auto it = first; it != last; ++it) add(*it->second);
  }
  return encoder_.encode(joined({draft.preamble, text, draft.question}, draft.outer),
                         prefix(draft));
}

EncodedPrompt PromptBuilder::encode_body(const Draft& draft,
                                         std::int64_t n,
                                         const std::vector<Piece>& padding) {
  std::string before;
  for (const Piece& piece : padding) before += (before.empty() ? "" : " ") + piece.text;
  return encoder_.encode(
      joined({before, draft.preamble, draft.body(n), draft.question}, draft.outer), prefix(draft));
}

EncodedPrompt PromptBuilder::smallest(const Draft& draft) {
  return draft.hay == Hay::kBody ? encode_body(draft, draft.least_units, {}) : encode(draft, {});
}

void PromptBuilder::check_draft(const TaskSpec& task, const CellKey& key, const Draft& draft) {
  const std::int64_t needed = smallest(draft).n_tokens + room(task);
  if (needed > key.length) {
    throw bad_input(
        fmt::format("--lengths: {}: the text without haystack and the room for the answer "
                    "(--answer-tokens {}) take {} tokens",
                    text_of(key), room(task), needed));
  }
  if (draft.hay != Hay::kProse) return;
  for (const std::string& expected : draft.expected) {
    if (!haystack_.contains(expected)) continue;
    throw bad_input(fmt::format("--haystack: {}: the answer {} stands in the haystack itself",
                                text_of(key), quote_text(expected)));
  }
}

void PromptBuilder::check(const TaskSpec& task, const CellKey& key) {
  check_draft(task, key, task.draft(task, key, options_.draft));
}

/// One or two parts of sentences that have so many tokens; `shorter` gets parts with fewer, each
/// length once.
std::vector<PromptBuilder::Piece> PromptBuilder::fragments(const Source& source,
                                                           std::size_t from,
                                                           std::int64_t n_tokens,
                                                           std::size_t variant,
                                                           std::vector<Piece>& shorter) {
  for (std::size_t i = from; i < from + kFragmentsOf; ++i) {
    const std::string sentence = source.piece(i);
    for (const std::size_t end : word_ends(sentence)) {
      const std::string words = first_words(sentence, end);
      const std::int64_t tokens = count(source.between + words);
      if (tokens == n_tokens && variant-- == 0) return {{words, tokens}};
      if (tokens >= n_tokens) break;
      const bool known = std::any_of(shorter.begin(), shorter.end(),
                                     [&](const Piece& piece) { return piece.tokens == tokens; });
      if (!known && tokens > 0) shorter.push_back({words, tokens});
    }
  }
  for (const Piece& first : shorter) {
    for (const Piece& second : shorter) {
      if (first.tokens + second.tokens == n_tokens && variant-- == 0) return {first, second};
    }
  }
  return {};
}

/// The begin of a sentence with so many tokens, cut between any two characters; empty: none has.
std::vector<PromptBuilder::Piece> PromptBuilder::begin_of(const Source& source,
                                                          std::size_t i,
                                                          std::int64_t n_tokens,
                                                          std::size_t variant) {
  const std::string sentence = source.piece(i);
  std::vector<std::size_t> ends;
  for (std::size_t at = 0; at < std::min(sentence.size(), kLongestPart);) {
    at += utf8_step(sentence, at).length;
    ends.push_back(at);
  }
  const auto tokens_of = [&](std::size_t end) {
    return count(source.between + sentence.substr(0, end) + ".");
  };
  // Counts rise with the length but for a token here and there: near the first that has enough.
  const auto enough = std::partition_point(
      ends.begin(), ends.end(), [&](std::size_t end) { return tokens_of(end) < n_tokens; });
  auto end = enough - std::min(enough - ends.begin(), kNearCuts);
  const auto last = enough + std::min(ends.end() - enough, kNearCuts);
  for (; end != last; ++end) {
    if (tokens_of(*end) != n_tokens || variant-- > 0) continue;
    return {{sentence.substr(0, *end) + ".", n_tokens}};
  }
  return {};
}

/// As few of the parts as have so many tokens, each as often as it takes; none: there is no way.
std::vector<PromptBuilder::Piece> PromptBuilder::change(const std::vector<Piece>& parts,
                                                        std::int64_t n_tokens) {
  std::vector<std::size_t> n_parts(static_cast<std::size_t>(n_tokens) + 1, SIZE_MAX);
  std::vector<const Piece*> last(n_parts.size(), nullptr);
  n_parts[0] = 0;
  for (std::size_t sum = 1; sum < n_parts.size(); ++sum) {
    for (const Piece& part : parts) {
      const auto tokens = static_cast<std::size_t>(part.tokens);
      if (tokens > sum || n_parts[sum - tokens] == SIZE_MAX) continue;
      if (n_parts[sum - tokens] + 1 >= n_parts[sum]) continue;
      n_parts[sum] = n_parts[sum - tokens] + 1;
      last[sum] = &part;
    }
  }
  std::vector<Piece> pieces;
  for (auto sum = n_parts.size() - 1; last[sum] != nullptr;) {
    pieces.push_back(*last[sum]);
    sum -= static_cast<std::size_t>(last[sum]->tokens);
  }
  return pieces;
}

/// Ends `pieces` with parts of sentences: one or two, else as many as it takes, else one that is
/// cut within a word.
void PromptBuilder::end_with_parts(const Source& source,
                                   std::int64_t left,
                                   std::size_t variant,
                                   std::vector<Piece>& pieces) {
  const std::size_t most_dropped = std::min(kMostDropped, pieces.size());
  enum class Parts { kFew, kMany, kCutWord };
  for (const Parts kind : {Parts::kFew, Parts::kMany, Parts::kCutWord}) {
    std::size_t n = pieces.size();
    std::int64_t room = left;
    for (std::size_t dropped = 0; dropped <= most_dropped; ++dropped) {
      if (dropped > 0) room += pieces[--n].tokens;
      if (room <= 0) continue;
      std::vector<Piece> shorter;
      std::vector<Piece> parts;
      if (kind == Parts::kCutWord) {
        parts = begin_of(source, n, room, variant / 4);
      } else {
        parts = fragments(source, n, room, variant / 4, shorter);
      }
      if (kind == Parts::kMany) {
        // Another variant does without another part.
        if (variant > 0 && !shorter.empty()) {
          shorter.erase(shorter.begin() + static_cast<std::ptrdiff_t>(variant % shorter.size()));
        }
        shorter.resize(std::min(shorter.size(), kMostParts));
        parts = change(shorter, room);
      }
      if (parts.empty() || dropped < variant % 4) continue;
      // A whole sentence is the last, for a needle may stand behind it.
      pieces.resize(n);
      pieces.insert(pieces.end() - (n > 0 ? 1 : 0), parts.begin(), parts.end());
      return;
    }
  }
  pieces.resize(pieces.size() - most_dropped);
}

/// Ends `pieces` with noise, also in the place of the last ones where it cannot fill what they
/// leave.
void PromptBuilder::end_with_noise(const std::string& between,
                                   std::int64_t left,
                                   std::size_t variant,
                                   std::vector<Piece>& pieces) {
  std::size_t n = pieces.size();
  const std::size_t least = n - std::min(kMostDropped, n);
  std::vector<Piece> noise;
  for (;;) {
    noise = fill(noise_source(between), left, variant);
    std::int64_t sum = 0;
    for (const Piece& piece : noise) sum += piece.tokens;
    const bool exact = sum == left && (left > 0 || variant == 0);
    if (exact || n == least) break;
    left += pieces[--n].tokens;
  }
  pieces.resize(n);
  pieces.insert(pieces.end(), noise.begin(), noise.end());
}

/// Pieces of so many tokens by their counts; fewer where no parts fit. Another `variant` ends in
/// other parts.
std::vector<PromptBuilder::Piece> PromptBuilder::fill(const Source& source,
                                                      std::int64_t n_tokens,
                                                      std::size_t variant) {
  std::vector<Piece> pieces;
  std::int64_t left = n_tokens;
  for (std::size_t i = 0; left > 0; ++i) {
    std::string text = source.piece(i);
    const std::int64_t tokens = count(source.between + text);
    if (tokens > left) break;
    pieces.push_back({std::move(text), std::max<std::int64_t>(tokens, 1)});
    left -= pieces.back().tokens;
  }
  if (!source.cut) {
    end_with_noise(source.between, left, variant, pieces);
  } else if (left > 0 || variant > 0) {
    end_with_parts(source, left, variant, pieces);
  }
  return pieces;
}

/// `encode` of as many pieces as give n_tokens in all. Tokens of neighbours may melt together, so
/// the sum of the pieces is corrected by what the whole shows.
template <typename Encode>
EncodedPrompt PromptBuilder::fit(const Source& source,
                                 std::int64_t n_tokens,
                                 std::int64_t n_fixed,
                                 const Encode& encode) {
  std::int64_t wanted = n_tokens - n_fixed;
  std::map<std::int64_t, std::size_t> variants;  // tried of each number of tokens
  std::int64_t nearest = 0;
  for (int i = 0; i < kMostTries; ++i) {
    EncodedPrompt prompt =
        encode(fill(source, std::max<std::int64_t>(wanted, 0), variants[wanted]++));
    const std::int64_t missing = n_tokens - prompt.n_tokens;
    if (missing == 0) return prompt;
    nearest = prompt.n_tokens;
    // A sum that was tried is tried in another form.
    if (wanted + missing >= 0 && variants[wanted + missing] < kMostDropped * 4) wanted += missing;
  }
  throw runtime_failure(
      fmt::format("no prompt of exactly {} tokens was found, the last had {}", n_tokens, nearest));
}

EncodedPrompt PromptBuilder::fit_body(const Draft& draft, std::int64_t n_tokens) {
  std::int64_t fits = draft.least_units;
  std::int64_t too_many = draft.most_units + 1;
  while (too_many - fits > 1) {
    const std::int64_t n = fits + (too_many - fits) / 2;
    (encode_body(draft, n, {}).n_tokens <= n_tokens ? fits : too_many) = n;
  }
  for (; fits >= draft.least_units; --fits) {
    const EncodedPrompt bare = encode_body(draft, fits, {});
    if (bare.n_tokens == n_tokens) return bare;
    try {
      return fit(noise_source(" "), n_tokens, bare.n_tokens, [&](const std::vector<Piece>& pieces) {
        return encode_body(draft, fits, pieces);
      });
    } catch (const Error&) {
      if (fits == draft.least_units) throw;  // a unit less leaves more to pad
    }
  }
  HEDDLE_CHECK(false);
}

BuiltPrompt PromptBuilder::build(const TaskSpec& task, const CellKey& key) {
  const Draft draft = task.draft(task, key, options_.draft);
  check_draft(task, key, draft);
  const std::int64_t n_tokens = key.length - room(task);
  BuiltPrompt built{.key = key,
                    .prompt = {},
                    .answer_tokens = room(task),
                    .expected = draft.expected,
                    .wrong = draft.wrong,
                    .match = draft.match,
                    .question = draft.question};
  if (options_.stop_is_given || !draft.dotted) built.stop = options_.stop;
  const std::vector<std::string>& sentences = haystack_.sentences();
  Source source;
  std::size_t start = 0;
  switch (draft.hay) {
    case Hay::kBody:
      built.prompt = fit_body(draft, n_tokens);
      return built;
    case Hay::kNoise:
      source = noise_source(draft.inner);
      break;
    case Hay::kLines:
      source = {[&](std::size_t i) { return draft.line(static_cast<std::int64_t>(i)); },
                draft.inner, false};
      break;
    case Hay::kProse:
      // The first sample reads from the begin; it is the same for all lengths and depths, which
      // share what they have in common.
      if (key.sample > 0) {
        start = Random(key.seed, fmt::format("start {}", key.sample)).below(sentences.size());
      }
      source.between = draft.inner;
      source.piece = [&](std::size_t i) { return sentences[(start + i) % sentences.size()]; };
      break;
  }
  built.prompt = fit(source, n_tokens, encode(draft, {}).n_tokens,
                     [&](const std::vector<Piece>& pieces) { return encode(draft, pieces); });
  return built;
}

}  // namespace heddle::needle
