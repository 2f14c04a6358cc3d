#include "tools/needle/tasks/facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/error.h"
#include "tools/needle/words.h"

namespace heddle::needle {
namespace {

// Names are a begin, a middle and an end: 15360 towns, as many rivers, and people without number.
constexpr auto kBegins = std::to_array<std::string_view>(
    {"Bal", "Bren", "Cal", "Cor", "Dar", "Del", "Er",  "Fal", "Gar", "Hal",  "Hel",
     "Ior", "Jas",  "Kel", "Lor", "Mal", "Mer", "Nor", "Or",  "Pel", "Quil", "Ras",
     "Sel", "Tam",  "Tor", "Ul",  "Var", "Ves", "Wil", "Yar", "Zan", "Zor"});
constexpr auto kMiddles = std::to_array<std::string_view>(
    {"a",  "ac", "ad", "al", "an", "ar", "e",  "ed", "el", "en", "er", "i",
     "id", "il", "in", "ir", "o",  "od", "ol", "on", "or", "u",  "ul", "un"});
constexpr auto kTownEnds = std::to_array<std::string_view>(
    {"bury", "dale",  "don",  "ford",  "garth", "gate",   "ham", "hurst", "leigh", "mark",
     "mere", "mouth", "port", "stead", "stow",  "thorpe", "ton", "vale",  "wick",  "worth"});
constexpr auto kRiverEnds = std::to_array<std::string_view>(
    {"ber", "bra", "dra", "gel",  "ka",  "len", "mar", "na",  "nis", "per",
     "ra",  "rel", "sa",  "ster", "tis", "va",  "ven", "wen", "zel", "zo"});
constexpr auto kFirstEnds = std::to_array<std::string_view>(
    {"bert", "da", "do", "fa", "la", "len", "lin", "mund", "na", "ric", "ris", "ta", "vin", "wen"});
constexpr auto kLastEnds =
    std::to_array<std::string_view>({"by", "ker", "lo", "man", "mas", "ner", "sen", "ser", "ska",
                                     "son", "sted", "tan", "ter", "vic"});
constexpr auto kTrades = std::to_array<std::string_view>(
    {"baker", "bookbinder", "carpenter", "clockmaker", "gardener", "glazier", "mason", "miller",
     "painter", "potter", "printer", "saddler", "shipwright", "surveyor", "tanner", "weaver"});
constexpr auto kGoods =
    std::to_array<std::string_view>({"baskets", "butter", "candles", "cheese", "honey", "leather",
                                     "linen", "mushrooms", "pottery", "salt", "soap", "wool"});

std::string invented(Random& random, std::span<const std::string_view> ends) {
  const std::string_view begin = random.pick(kBegins);
  const std::string_view middle = random.pick(kMiddles);
  return fmt::format("{}{}{}", begin, middle, random.pick(ends));
}

}  // namespace

template <typename Make>
std::string FactMaker::fresh(const Make& make) {
  constexpr int kMostDraws = 10'000;
  for (int i = 0; i < kMostDraws; ++i) {
    std::string text = make();
    const bool is_kept = std::any_of(kept_.begin(), kept_.end(), [&](const std::string& kept) {
      return kept.find(text) != std::string::npos || text.find(kept) != std::string::npos;
    });
    if (!is_kept && used_.insert(text).second) return text;
  }
  throw bad_input("no name is left for another document: the prompt is too long for this task");
}

std::string FactMaker::river() {
  return fresh([&] { return invented(random_, kRiverEnds); });
}

std::string FactMaker::town_name() {
  return fresh([&] { return invented(random_, kTownEnds); });
}

std::string FactMaker::person_name() {
  return fresh([&] {
    const std::string first = invented(random_, kFirstEnds);
    return fmt::format("{} {}", first, invented(random_, kLastEnds));
  });
}

std::string FactMaker::legacy() {
  return fresh([&] {
    const std::string_view first = random_.pick(adjectives());
    return fmt::format("{} {}", first, random_.pick(nouns()));
  });
}

Town FactMaker::town() {
  Town town;
  town.name = town_name();
  town.river = river();
  return town;
}

Person FactMaker::person(const std::string& town) {
  Person person;
  person.name = person_name();
  person.town = town;
  person.legacy = legacy();
  return person;
}

std::string FactMaker::document(const Town& town) {
  const std::uint64_t year = 1100 + random_.below(500);
  const std::uint64_t people = 2 + random_.below(90);
  const std::string_view goods = random_.pick(kGoods);
  return fmt::format(
      "{0} is a town on the river {1}. It was founded in {2} and has about {3},000 people, most "
      "of whom live off the trade in {4}. A stone bridge leads across the {1}, and the old part "
      "of {0} lies on the northern bank. Every {5} years the town holds a fair.",
      town.name, town.river, year, people, goods, 2 + random_.below(8));
}

std::string FactMaker::document(const Person& person) {
  const std::string_view trade = random_.pick(kTrades);
  const std::uint64_t born = 1600 + random_.below(300);
  const std::uint64_t apprentices = 2 + random_.below(30);
  return fmt::format(
      "{0} was a {1}, born in {2} in {3}. As a child {0} learned the trade from an uncle and "
      "taught it to {4} apprentices later on. {0} is best known for making the {5}, which took "
      "{6} years and is shown to visitors to this day.",
      person.name, trade, person.town, born, apprentices, person.legacy, 2 + random_.below(20));
}

}  // namespace heddle::needle
