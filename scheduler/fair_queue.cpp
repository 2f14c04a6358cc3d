#include "scheduler/fair_queue.h"

#include <algorithm>

#include "base/error.h"

namespace heddle {
namespace {

/// Ids count arrivals, so later requests of a better priority overtake only so many places.
std::int64_t place(SequenceId id, int priority) {
  return id + priority * FairQueue::kPriorityRequests;
}

int priority_of(const std::pair<std::int64_t, SequenceId>& entry) {
  return static_cast<int>((entry.first - entry.second) / FairQueue::kPriorityRequests);
}

}  // namespace

FairQueue::Client& FairQueue::enter(const std::string& client) {
  const auto found = clients_.find(client);
  if (found != clients_.end() && found->second.n_live > 0) {
    ++found->second.n_live;
    return found->second;
  }
  if (n_away_ > kRemembered) forget();
  // So add() has room for it.
  if (waiting_.capacity() <= clients_.size()) waiting_.reserve(2 * clients_.size() + 8);
  const auto [it, is_new] = clients_.try_emplace(client);
  if (!is_new) --n_away_;
  it->second.n_live = 1;
  share_ = 1.0 / static_cast<double>(n_clients());
  return it->second;
}

void FairQueue::leave(Client& client) {
  HEDDLE_CHECK(client.n_live > 0);
  if (--client.n_live > 0) return;
  HEDDLE_CHECK(client.waiting.empty());
  ++n_away_;
  share_ = 1.0 / static_cast<double>(std::max<std::size_t>(1, n_clients()));
}

/// Those away that would gain nothing by it; if these are few, half of the others too.
void FairQueue::forget() {
  std::vector<double> counters;
  for (const auto& [name, client] : clients_) {
    if (client.n_live == 0) counters.push_back(client.counter);
  }
  const auto middle = counters.begin() + static_cast<std::ptrdiff_t>(counters.size() / 2);
  std::nth_element(counters.begin(), middle, counters.end());
  const double bound = std::max(now_, *middle);
  n_away_ -= std::erase_if(clients_, [&](const auto& entry) {
    return entry.second.n_live == 0 && entry.second.counter <= bound;
  });
}

void FairQueue::add(Client& client, SequenceId id, int priority) {
  if (client.waiting.empty()) client.counter = std::max(client.counter, now_);
  HEDDLE_CHECK(client.waiting.emplace(place(id, priority), id).second);
  if (client.waiting.size() == 1) waiting_.push_back(&client);
  ++n_waiting_;
}

void FairQueue::remove(Client& client, SequenceId id, int priority) {
  if (preempted_.erase(id) > 0 || client.waiting.erase({place(id, priority), id}) == 0) return;
  --n_waiting_;
  if (client.waiting.empty()) std::erase(waiting_, &client);
}

void FairQueue::clear() {
  for (auto& [name, client] : clients_) client.waiting.clear();
  waiting_.clear();
  preempted_.clear();
  n_waiting_ = 0;
}

std::optional<SequenceId> FairQueue::front() const {
  if (!preempted_.empty()) return *preempted_.begin();
  std::optional<SequenceId> best;
  std::pair<double, SequenceId> least;
  for (const Client* client : waiting_) {
    const auto& head = *client->waiting.begin();
    const double offset = static_cast<double>(priority_of(head) * kPriorityTokens);
    const std::pair rank(client->counter + offset, head.second);
    if (best && rank > least) continue;
    best = head.second;
    least = rank;
  }
  return best;
}

}  // namespace heddle
