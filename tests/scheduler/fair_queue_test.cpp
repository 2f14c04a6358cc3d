#include "scheduler/fair_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

namespace heddle {
namespace {

constexpr std::int64_t kMostOwed = 8192;

TEST(FairQueue, OneClientIsServedInOrder) {
  FairQueue queue(kMostOwed);
  FairQueue::Client& client = queue.enter("");
  for (const SequenceId id : {3, 1, 2}) queue.add(client, id, 0);
  for (const SequenceId id : {1, 2, 3}) {
    EXPECT_EQ(queue.front(), id);
    queue.remove(client, id, 0);
  }
  EXPECT_EQ(queue.front(), std::nullopt);
  EXPECT_TRUE(queue.empty());
}

TEST(FairQueue, PreemptedOnesComeFirst) {
  FairQueue queue(kMostOwed);
  FairQueue::Client& client = queue.enter("");
  queue.add(client, 1, -100);
  queue.add_preempted(7);
  queue.add_preempted(5);
  EXPECT_EQ(queue.front(), 5);
  queue.remove(client, 5, 0);
  EXPECT_EQ(queue.front(), 7);
  queue.remove(client, 7, 0);
  EXPECT_EQ(queue.front(), 1);
  EXPECT_EQ(queue.size(), 1U);
}

TEST(FairQueue, TheClientThatGotLeastGoesFirst) {
  FairQueue queue(kMostOwed);
  FairQueue::Client& a = queue.enter("a");
  FairQueue::Client& b = queue.enter("b");
  queue.add(a, 1, 0);
  queue.add(b, 2, 0);
  queue.charge(a, 10);
  EXPECT_EQ(queue.front(), 2);
  queue.charge(b, 11);
  EXPECT_EQ(queue.front(), 1);
}

TEST(FairQueue, APriorityIsWorthSoManyTokens) {
  FairQueue queue(kMostOwed);
  FairQueue::Client& a = queue.enter("a");
  FairQueue::Client& b = queue.enter("b");
  queue.add(a, 1, 1);
  queue.add(b, 2, 0);
  EXPECT_EQ(queue.front(), 2);
  queue.charge(b, FairQueue::kPriorityTokens);
  EXPECT_EQ(queue.front(), 1) << "of equals the older";
  queue.charge(a, 1);
  EXPECT_EQ(queue.front(), 2);
}

TEST(FairQueue, WhoWasAwayHasSavedNothingUp) {
  FairQueue queue(kMostOwed);
  FairQueue::Client& a = queue.enter("a");
  queue.leave(queue.enter("b"));
  queue.charge(a, 1000);
  FairQueue::Client& b = queue.enter("b");
  queue.add(a, 1, 0);
  queue.add(b, 2, 0);
  EXPECT_EQ(queue.front(), 1) << "both begin at what each present would have got";
  queue.charge(b, 1);
  EXPECT_EQ(queue.front(), 1);
}

TEST(FairQueue, WhoGoesAndComesAgainGainsNothing) {
  FairQueue queue(kMostOwed);
  FairQueue::Client& a = queue.enter("a");
  FairQueue::Client& b = queue.enter("b");
  queue.charge(b, 1000);
  queue.leave(b);
  FairQueue::Client& again = queue.enter("b");
  queue.add(again, 1, 0);
  queue.add(a, 2, 0);
  EXPECT_EQ(queue.front(), 2);
}

TEST(FairQueue, WhoRunsAndAsksForNothingSavesNothingUp) {
  FairQueue queue(kMostOwed);
  FairQueue::Client& a = queue.enter("a");
  FairQueue::Client& runs = queue.enter("runs");  // one sequence, which generates
  queue.charge(a, 2000);
  queue.charge(runs, 10);
  queue.add(a, 1, 0);
  queue.add(runs, 2, 0);
  EXPECT_EQ(queue.front(), 2) << "a has had twice its part";
  queue.charge(runs, 996);
  EXPECT_EQ(queue.front(), 1) << "and no more than that";
}

TEST(FairQueue, NobodyOwesMoreThanSoMuch) {
  FairQueue queue(kMostOwed);
  FairQueue::Client& alone = queue.enter("alone");
  FairQueue::Client& small = queue.enter("small");
  queue.charge(alone, 1'000'000);  // small wanted nothing of it
  queue.add(alone, 1, 0);
  queue.add(small, 2, 0);
  EXPECT_EQ(queue.front(), 2);
  queue.charge(small, kMostOwed + 1);
  EXPECT_EQ(queue.front(), 1);
}

/// One after the other is served, and in its place comes a client that nobody has seen before.
/// `new_priority` is theirs. How many are served before the client that has waited from the begin
/// on.
int served_before(FairQueue& queue, FairQueue::Client& waits, SequenceId first, int new_priority) {
  struct Visitor {
    FairQueue::Client* client;
    SequenceId id;
  };
  std::deque<Visitor> visitors;
  SequenceId next = first;
  const auto come = [&] {
    FairQueue::Client& client = queue.enter("visitor " + std::to_string(next));
    queue.add(client, next, new_priority);
    visitors.push_back({&client, next++});
  };
  come();
  come();
  for (int served = 0; served < 1'000'000; ++served) {
    const SequenceId id = queue.front().value();
    const auto it = std::ranges::find(visitors, id, &Visitor::id);
    if (it == visitors.end()) {
      EXPECT_GT(waits.waiting.size(), 0U);
      return served;
    }
    queue.remove(*it->client, id, new_priority);
    queue.charge(*it->client, 16);
    queue.leave(*it->client);
    visitors.erase(it);
    come();
  }
  return -1;
}

TEST(FairQueue, NewNamesWithoutEndDoNotPassAPriorityForever) {
  for (const int priority : {0, 1, 2}) {
    FairQueue queue(kMostOwed);
    FairQueue::Client& x = queue.enter("x");
    queue.add(x, 1, priority);
    const int served = served_before(queue, x, 2, 0);
    // Three are present: its step is due once each of them would have got as much.
    const int most = priority * 3 * static_cast<int>(FairQueue::kPriorityTokens) / 16 + 3;
    EXPECT_GE(served, priority == 0 ? 0 : most - 6);
    EXPECT_LE(served, most);
  }
}

TEST(FairQueue, NewNamesWithoutEndDoNotPassForeverWhoHasHadMuch) {
  for (const bool pinned : {false, true}) {
    FairQueue queue(kMostOwed);
    FairQueue::Client& x = queue.enter("x");
    if (pinned) queue.add(queue.enter("low"), 1, 100);
    queue.charge(x, 4000);
    queue.add(x, 2, 0);
    const int served = served_before(queue, x, 3, 0);
    EXPECT_GE(served, 0);
    EXPECT_LE(served, 4 * 4000 / 16);
  }
}

TEST(FairQueue, ClientsThatAreAwayAreForgottenInTheEnd) {
  FairQueue queue(kMostOwed);
  FairQueue::Client& stays = queue.enter("stays");
  for (int i = 0; i < 100000; ++i) {
    FairQueue::Client& client = queue.enter("client " + std::to_string(i));
    queue.charge(client, i % 977);
    queue.leave(client);
  }
  EXPECT_EQ(queue.n_clients(), 1U);
  EXPECT_LE(queue.n_remembered(), 2048U);
  queue.add(stays, 1, 0);
  EXPECT_EQ(queue.front(), 1);
}

}  // namespace
}  // namespace heddle
