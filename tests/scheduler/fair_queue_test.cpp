#include "scheduler/fair_queue.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace heddle {
namespace {

TEST(FairQueue, OneClientIsServedInOrder) {
  FairQueue queue;
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
  FairQueue queue;
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
  FairQueue queue;
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
  FairQueue queue;
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
  FairQueue queue;
  FairQueue::Client& a = queue.enter("a");
  queue.leave(queue.enter("b"));
  queue.charge(a, 1000);
  FairQueue::Client& b = queue.enter("b");
  queue.add(a, 1, 0);
  queue.add(b, 2, 0);
  EXPECT_EQ(queue.front(), 1) << "both begin at what the least of those present had";
  queue.charge(b, 1);
  EXPECT_EQ(queue.front(), 1);
}

TEST(FairQueue, WhoGoesAndComesAgainGainsNothing) {
  FairQueue queue;
  FairQueue::Client& a = queue.enter("a");
  FairQueue::Client& b = queue.enter("b");
  queue.charge(b, 1000);
  queue.leave(b);
  FairQueue::Client& again = queue.enter("b");
  queue.add(again, 1, 0);
  queue.add(a, 2, 0);
  EXPECT_EQ(queue.front(), 2);
}

TEST(FairQueue, ClientsThatAreAwayAreForgottenInTheEnd) {
  FairQueue queue;
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
