#pragma once
// Which waiting sequence is admitted next: fair between clients, by priority, nobody waits forever.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/batch_plan.h"

namespace heddle {

/// Token counters, one for each client: tokens computed for it, as in "Fairness in Serving Large
/// Language Models" (Sheng et al., 2024). The client that got least goes first. Beside them runs a
/// virtual time, as in weighted fair queueing (Demers et al., 1989): of each token that is computed
/// it rises by one part in as many as there are clients present, so it says what each would have
/// had of equal shares. A client of which nothing waits has saved nothing up: when it asks, it
/// begins no lower than there. Nor does it owe more than `most_owed` tokens beyond there. So
/// however many others come and go, each begins higher than the one before it, and passes what
/// waits only until then: while a client waits, others get at most so many tokens for each that is
/// present as it owed, and its priority is worth.
///
/// A step of priority is worth kPriorityTokens tokens of the counter between clients, and
/// kPriorityRequests places between requests of one client: each request that comes later ages what
/// waits. Sequences that were preempted come before all that never ran, oldest first. Owned by the
/// Scheduler; one thread.
class FairQueue {
 public:
  static constexpr std::int64_t kPriorityTokens = 4096;
  static constexpr std::int64_t kPriorityRequests = 16;

  struct Client {
    double counter = 0.0;     // tokens
    std::int64_t n_live = 0;  // its sequences between enter() and leave()
    std::set<std::pair<std::int64_t, SequenceId>> waiting = {};  // place, id
  };

  explicit FairQueue(std::int64_t most_owed) : most_owed_(static_cast<double>(most_owed)) {}

  /// A client's sequence comes; the reference is good until that sequence leaves.
  Client& enter(const std::string& client);
  void leave(Client& client);
  /// Tokens that are computed for it.
  void charge(Client& client, std::int64_t n_tokens) {
    const auto n = static_cast<double>(n_tokens);
    now_ += n * share_;
    client.counter = std::min(client.counter + n, now_ + most_owed_);
  }

  /// `priority`: lower goes first.
  void add(Client& client, SequenceId id, int priority);
  void add_preempted(SequenceId id) { preempted_.insert(id); }
  /// Takes out one that waits, whether preempted or not.
  void remove(Client& client, SequenceId id, int priority);
  std::optional<SequenceId> front() const;
  void clear();  // nobody waits; clients stay

  bool empty() const { return n_waiting_ == 0 && preempted_.empty(); }
  std::size_t size() const { return n_waiting_ + preempted_.size(); }
  std::size_t n_clients() const { return clients_.size() - n_away_; }  // present
  std::size_t n_remembered() const { return n_away_; }

 private:
  static constexpr std::size_t kRemembered = 1024;  // clients that are away
  void forget();

  std::map<std::string, Client> clients_;
  std::vector<Client*> waiting_;  // those that wait, in no order
  std::set<SequenceId> preempted_;
  std::size_t n_waiting_ = 0;
  std::size_t n_away_ = 0;
  double most_owed_;
  double now_ = 0.0;    // virtual time, in tokens
  double share_ = 1.0;  // of each token: one part in as many as are present
};

}  // namespace heddle
