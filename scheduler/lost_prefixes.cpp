#include "scheduler/lost_prefixes.h"

#include <algorithm>
#include <iterator>
#include <tuple>

namespace heddle {

bool LostPrefixes::Run::operator<(const Run& other) const {
  return std::tie(before.low, before.high, group, tokens) <
         std::tie(other.before.low, other.before.high, other.group, other.tokens);
}

void LostPrefixes::add(const Hash128& before, std::int64_t group, std::span<const Token> tokens) {
  const auto [run, is_new] = runs_.insert({before, group, {tokens.begin(), tokens.end()}});
  if (!is_new) return;
  order_.push_back(run);
  bytes_ += bytes_of(tokens.size());
  while (bytes_ > most_bytes_) {
    bytes_ -= bytes_of(order_.front()->tokens.size());
    runs_.erase(order_.front());
    order_.pop_front();
  }
}

std::int64_t LostPrefixes::common(const Hash128& before,
                                  std::int64_t group,
                                  std::span<const Token> tokens) const {
  if (runs_.empty()) return -1;
  const Run wanted{before, group, {tokens.begin(), tokens.end()}};
  std::int64_t most = -1;
  const auto consider = [&](const Run& run) {
    if (!run.beside(wanted)) return;
    const auto ends = std::ranges::mismatch(run.tokens, wanted.tokens);
    most = std::max<std::int64_t>(most, ends.in1 - run.tokens.begin());
  };
  const auto behind = runs_.lower_bound(wanted);
  if (behind != runs_.end()) consider(*behind);
  if (behind != runs_.begin()) consider(*std::prev(behind));
  return most;
}

void LostPrefixes::clear() {
  runs_.clear();
  order_.clear();
  bytes_ = 0;
}

}  // namespace heddle
