#include "tools/needle/tasks/magic.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "tools/needle/tasks/parts.h"

namespace heddle::needle {
namespace {

struct Item {
  std::string key;
  std::string value;
  double depth = 0.0;
};

std::string needle_text(ValueKind kind, const std::string& key, const std::string& value) {
  return fmt::format("One of the special magic {}s for {} is: {}.", name(kind), key, value);
}

std::string preamble_text(ValueKind kind, bool singular) {
  const std::string what = fmt::format("{}{}", name(kind), singular ? "" : "s");
  return fmt::format(
      "{} special magic {} {} hidden within the following text. Make sure to memorize it. I will "
      "quiz you about the {} afterwards.",
      singular ? "A" : "Some", what, singular ? "is" : "are", what);
}

void ask(Draft& draft, ValueKind kind, const std::string& keys, bool singular) {
  const std::string of = fmt::format("for {} mentioned in the provided text", keys);
  draft.question = fmt::format("What {} the special magic {}{} {}?", singular ? "is" : "are all",
                               name(kind), singular ? "" : "s", of);
  draft.answer_prefix = fmt::format("The special magic {}{} {} {}", name(kind), singular ? "" : "s",
                                    of, singular ? "is" : "are");
}

/// One text in 16 is kept for needles that are asked for: lines of a haystack cannot know which
/// those are, for they are the same at every depth.
bool is_kept(std::string_view text) {
  return Random(0, text).below(16) == 0;
}

/// A haystack of needles, made as far as it was asked for.
class NeedleLines {
 public:
  NeedleLines(const MagicForm& form, Random random) : form_(form), random_(random) {}

  std::string line(std::int64_t i) {
    HEDDLE_CHECK(i >= 0);
    while (std::cmp_less_equal(lines_.size(), i)) {
      const std::string key = fresh(form_.keys);
      lines_.push_back(needle_text(form_.values, key, fresh(form_.values)));
    }
    return lines_[static_cast<std::size_t>(i)];
  }

 private:
  std::string fresh(ValueKind kind) {
    constexpr int kMostDraws = 10'000;
    for (int i = 0; i < kMostDraws; ++i) {
      std::string text = value_of(kind, random_);
      if (!is_kept(text) && used_.insert(text).second) return text;
    }
    throw bad_input(
        fmt::format("no {} is left beside {} needles: the prompt is too long for this task",
                    name(kind), lines_.size()));
  }

  MagicForm form_;
  Random random_;
  std::unordered_set<std::string> used_;
  std::vector<std::string> lines_;
};

std::string kept_value(ValueKind kind, Random& random, std::vector<std::string>& used) {
  for (;;) {
    std::string text = value_of(kind, random);
    if (!is_kept(text)) continue;
    used.push_back(text);
    return text;
  }
}

/// Keys and values; the first is asked for.
std::vector<Item> items_of(const MagicForm& form,
                           const CellKey& key,
                           std::vector<std::string>& used) {
  std::vector<Item> items(1);
  Random others = draw(key, "other needles", Same::kDepths);
  for (int i = 1; i < form.n_keys; ++i) {
    Item& item = items.emplace_back();
    item.key = fresh_value(form.keys, others, used);
    item.value = fresh_value(form.values, others, used);
  }
  Random asked = draw(key, "asked needle", Same::kNone);
  const auto pick = [&](ValueKind kind) {
    return form.hay == Hay::kLines ? kept_value(kind, asked, used) : fresh_value(kind, asked, used);
  };
  items[0].key = pick(form.keys);
  items[0].value = pick(form.values);
  for (int i = 1; i < form.n_values; ++i) items.push_back({items[0].key, pick(form.values)});
  return items;
}

/// RULER's: different ones of 40 even points in prose, anywhere else.
void place_anywhere(std::vector<Item>& items, const MagicForm& form, const CellKey& key) {
  constexpr std::size_t kPoints = 40;
  Random random = draw(key, "depths", Same::kNone);
  std::vector<double> points(kPoints);
  for (std::size_t i = 0; i < kPoints; ++i) {
    points[i] = std::round(100.0 * static_cast<double>(i) / (kPoints - 1));
  }
  random.shuffle(points);
  HEDDLE_CHECK(items.size() <= points.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    items[i].depth = form.hay == Hay::kProse ? points[i] : random.uniform(0.0, 100.0);
  }
}

void place(std::vector<Item>& items, const MagicForm& form, const CellKey& key) {
  if (!key.depth) {
    place_anywhere(items, form, key);
  } else {
    const bool behind = form.n_values > 1;
    Random random = draw(key, "depths", behind ? Same::kNone : Same::kDepths);
    items[0].depth = *key.depth;
    for (std::size_t i = 1; i < items.size(); ++i) {
      items[i].depth = random.uniform(behind ? *key.depth : 0.0, 100.0);
    }
  }
  // Values of one key are expected in the order of the text.
  const auto before = [](const Item& a, const Item& b) { return a.depth < b.depth; };
  if (form.n_values > 1) std::stable_sort(items.begin(), items.end(), before);
}

}  // namespace

Draft magic_draft(const MagicForm& form, const CellKey& key, Wording wording) {
  HEDDLE_CHECK(form.n_queries <= form.n_keys && (form.n_keys == 1 || form.n_values == 1));
  HEDDLE_CHECK(form.hay != Hay::kLines || (form.n_keys == 1 && form.n_values == 1));
  std::vector<std::string> used;
  std::vector<Item> items = items_of(form, key, used);
  place(items, form, key);
  Draft draft;
  draft.hay = form.hay;
  lay_out(draft, wording, form.hay != Hay::kProse);
  for (const Item& item : items) {
    draft.needles.push_back({needle_text(form.values, item.key, item.value), item.depth});
  }
  std::vector<std::string> asked;
  // One key has several values, or each asked key has one.
  const auto n_answers = static_cast<std::size_t>(std::max(form.n_queries, form.n_values));
  Random wrong = draw(key, "wrong answers", Same::kNone);
  for (std::size_t i = 0; i < n_answers; ++i) {
    if (form.n_values == 1 || i == 0) asked.push_back(items[i].key);
    draft.expected.push_back(items[i].value);
    draft.wrong.push_back(fresh_value(form.values, wrong, used));
  }
  const bool singular = n_answers == 1;
  draft.preamble = preamble_text(form.values, singular && wording == Wording::kRuler);
  ask(draft, form.values, joined(asked, wording), singular);
  if (form.hay == Hay::kLines) {
    const auto lines = std::make_shared<NeedleLines>(form, draw(key, "lines", Same::kLengths));
    draft.line = [lines](std::int64_t i) { return lines->line(i); };
  }
  return draft;
}

}  // namespace heddle::needle
