#include "engine/cache_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/sip_hash.h"

namespace heddle {
namespace {

/// Rows may take so much of the room; the rest is for tokens and hashes.
constexpr double kShareOfRows = 0.75;

/// The largest difference of two rows; infinite where one of two is no number.
double largest_difference(std::span<const float> a, std::span<const float> b) {
  double largest = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(a[i]) == std::bit_cast<std::uint32_t>(b[i])) continue;
    const double d = std::abs(static_cast<double>(a[i]) - b[i]);
    largest = std::max(largest, std::isnan(d) ? HUGE_VAL : d);
  }
  return largest;
}

double largest_magnitude(std::span<const float> row) {
  double largest = 0.0;
  for (const float x : row) largest = std::max<double>(largest, std::abs(x));
  return largest;
}

}  // namespace

std::uint64_t hash_logits(std::span<const float> logits) {
  std::uint64_t h = 0xcbf29ce484222325U;
  for (const float x : logits) h = (h ^ std::bit_cast<std::uint32_t>(x)) * 0x100000001b3U;
  return h;
}

bool CacheCheck::chooses(std::span<const std::int32_t> prompt) const {
  if (options_.fraction <= 0.0) return false;
  const std::vector<std::uint64_t> words(prompt.begin(), prompt.end());
  const Hash128 hash = sip_hash(words, {options_.seed, 0});
  return static_cast<double>(hash.low >> 11U) * 0x1p-53 < options_.fraction;
}

std::uint64_t CacheCheck::bookkeeping(const Hit& hit) {
  return hit.tokens.size() * sizeof(std::int32_t) + hit.hashes.size() * sizeof(std::uint64_t);
}

void CacheCheck::record(RequestId id, std::int64_t index, std::span<const float> logits) {
  Hit& hit = running_[id];
  hit.id = id;
  const auto at = static_cast<std::size_t>(index);
  // A row may come again: a step failed after it was seen.
  if (hit.incomplete || at > hit.hashes.size()) {
    hit.incomplete = true;
    return;
  }
  if (at == hit.hashes.size()) {
    hit.hashes.push_back(0);
    used_bytes_ += sizeof(std::uint64_t);
    const auto bytes = logits.size_bytes();
    const double room = kShareOfRows * static_cast<double>(options_.memory);
    if (at == hit.rows.size() && static_cast<double>(kept_bytes_ + bytes) <= room) {
      hit.rows.emplace_back(logits.size());  // counted once it is there, as release() counts it
      kept_bytes_ += bytes;
    }
  }
  hit.hashes[at] = hash_logits(logits);
  if (at < hit.rows.size()) hit.rows[at].assign(logits.begin(), logits.end());
}

void CacheCheck::release(const Hit& hit) {
  for (const std::vector<float>& row : hit.rows) kept_bytes_ -= row.size() * sizeof(float);
  used_bytes_ -= bookkeeping(hit);
}

void CacheCheck::forget(RequestId id) {
  const auto it = running_.find(id);
  if (it == running_.end()) return;
  release(it->second);
  running_.erase(it);
}

void CacheCheck::end(RequestId id,
                     std::span<const std::int32_t> tokens,
                     std::int64_t n_prompt,
                     std::int64_t cached_tokens) {
  const auto it = running_.find(id);
  if (it == running_.end()) return;  // it ended before its first row
  auto entry = running_.extract(it);
  Hit& hit = entry.mapped();
  const std::size_t n = static_cast<std::size_t>(n_prompt) + hit.hashes.size() - 1;
  const double room = (1.0 - kShareOfRows) * static_cast<double>(options_.memory);
  const std::uint64_t bytes = n * sizeof(std::int32_t);
  if (hit.incomplete || tokens.size() < n || static_cast<double>(used_bytes_ + bytes) > room) {
    release(hit);
    ++stats_.skipped;
    return;
  }
  try {
    std::vector<std::int32_t> text(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(n));
    waiting_.emplace_back();
    hit.tokens = std::move(text);
  } catch (...) {
    release(hit);  // it is gone, and so is what it took
    throw;
  }
  hit.n_prompt = n_prompt;
  hit.cached_tokens = cached_tokens;
  waiting_.back() = std::move(hit);
  used_bytes_ += bytes;
}

Request CacheCheck::begin() {
  HEDDLE_CHECK(!computing_ && !waiting_.empty());
  computing_ = true;
  difference_ = {};
  const Hit& hit = waiting_.front();
  return {.prompt = hit.tokens, .score = true, .logits_from = hit.n_prompt - 1, .reuse = false};
}

bool CacheCheck::wrong(const Hit& hit, std::size_t index, std::span<const float> logits) {
  if (hit.hashes[index] == hash_logits(logits)) return false;
  if (index >= hit.rows.size()) return true;
  const double largest = largest_difference(hit.rows[index], logits);
  if (options_.allowed > 0.0 && largest <= options_.allowed * largest_magnitude(logits)) {
    return false;
  }
  difference_.largest = std::max(difference_.largest.value_or(0.0), largest);
  return true;
}

void CacheCheck::compare(std::int64_t position, std::span<const float> logits) {
  HEDDLE_CHECK(computing_);
  const Hit& hit = waiting_.front();
  const auto index = static_cast<std::size_t>(position - hit.n_prompt + 1);
  HEDDLE_CHECK(index < hit.hashes.size());
  // Where bits may differ a hash says nothing.
  if (options_.allowed > 0.0 && index >= hit.rows.size()) return;
  ++difference_.rows;
  if (!wrong(hit, index, logits)) return;
  if (difference_.wrong++ == 0) difference_.first = position;
}

std::optional<std::string> CacheCheck::complete() {
  HEDDLE_CHECK(computing_);
  computing_ = false;
  const Hit hit = std::move(waiting_.front());
  waiting_.pop_front();
  release(hit);
  ++stats_.checked;
  stats_.rows += difference_.rows;
  if (difference_.wrong == 0) return std::nullopt;
  ++stats_.mismatches;
  return fmt::format(
      "request {}: {} of {} rows of logits, the first at position {}, are not those of the same "
      "prompt computed cold; {} of {} prompt tokens came from the cache, the largest difference is "
      "{}",
      hit.id, difference_.wrong, difference_.rows, difference_.first, hit.cached_tokens,
      hit.n_prompt,
      difference_.largest ? fmt::format("{:.3g}", *difference_.largest) : "in rows not kept");
}

void CacheCheck::put_back() {
  HEDDLE_CHECK(computing_);
  computing_ = false;
}

void CacheCheck::fail(const std::string& why) {
  HEDDLE_CHECK(computing_);
  computing_ = false;
  log_warning(fmt::format("request {}: its cached prefix could not be verified: {}",
                          waiting_.front().id, why));
  release(waiting_.front());
  waiting_.pop_front();
  ++stats_.skipped;
}

void CacheCheck::skip_all() {
  HEDDLE_CHECK(!computing_);
  for (const Hit& hit : waiting_) release(hit);
  stats_.skipped += static_cast<std::int64_t>(waiting_.size());
  waiting_.clear();
}

CacheCheckStats CacheCheck::stats() const {
  CacheCheckStats stats = stats_;
  stats.pending = static_cast<std::int64_t>(waiting_.size());
  return stats;
}

}  // namespace heddle
