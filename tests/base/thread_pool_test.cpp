#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <string>
#include <vector>

#include "tests/support/temp_folder.h"

namespace heddle {
namespace {

class ThreadPoolOf : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolOf, testing::Values(1, 2, 3, 8));

TEST_P(ThreadPoolOf, RunsEveryTaskOnce) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.size(), GetParam());
  for (const std::int64_t n : {0, 1, 2, 7, 1000}) {
    std::vector<std::atomic<int>> runs(static_cast<std::size_t>(n));
    pool.run(n, [&](std::int64_t task, int) { ++runs[static_cast<std::size_t>(task)]; });
    for (const auto& r : runs) ASSERT_EQ(r.load(), 1);
  }
}

TEST_P(ThreadPoolOf, GivesEachWorkerANumberOfItsOwn) {
  ThreadPool pool(GetParam());
  const auto size = static_cast<std::size_t>(pool.size());
  std::vector<int> busy(size);  // not atomic: a number shared by two workers is a race
  pool.run(2000, [&](std::int64_t, int worker) {
    ASSERT_GE(worker, 0);
    ASSERT_LT(worker, pool.size());
    ++busy[static_cast<std::size_t>(worker)];
  });
  int total = 0;
  for (const int b : busy) total += b;
  EXPECT_EQ(total, 2000);
}

TEST_P(ThreadPoolOf, MakesTheTasksWritesVisibleToTheCaller) {
  ThreadPool pool(GetParam());
  std::vector<std::int64_t> out(64);
  for (std::int64_t round = 0; round < 200; ++round) {
    pool.run(64,
             [&](std::int64_t task, int) { out[static_cast<std::size_t>(task)] = round + task; });
    for (std::int64_t i = 0; i < 64; ++i) ASSERT_EQ(out[static_cast<std::size_t>(i)], round + i);
  }
}

TEST_P(ThreadPoolOf, RethrowsATasksExceptionAfterTheOthersRan) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> ran{0};
    try {
      pool.run(50, [&](std::int64_t task, int) {
        ++ran;
        if (task == 3) throw std::runtime_error("task 3");
      });
      ADD_FAILURE() << "no exception";
    } catch (const std::runtime_error& e) {
      EXPECT_STREQ(e.what(), "task 3");
    }
    EXPECT_EQ(ran.load(), 50);
  }
}

TEST_P(ThreadPoolOf, WorksAfterEveryTaskThrew) {
  ThreadPool pool(GetParam());
  EXPECT_THROW(pool.run(100, [](std::int64_t, int) { throw std::runtime_error("all"); }),
               std::runtime_error);
  EXPECT_THROW(pool.run(1, [](std::int64_t, int) { throw std::logic_error("one"); }),
               std::logic_error);
  std::atomic<int> ran{0};
  EXPECT_NO_THROW(pool.run(10, [&](std::int64_t, int) { ++ran; }));
  EXPECT_EQ(ran.load(), 10);
}

TEST(ThreadPool, RunsAHundredThousandSmallLoops) {
  ThreadPool pool(2);
  std::atomic<std::int64_t> sum{0};
  for (int i = 0; i < 100'000; ++i) {
    pool.run(2,
             [&](std::int64_t task, int) { sum.fetch_add(task + 1, std::memory_order_relaxed); });
  }
  EXPECT_EQ(sum.load(), 300'000);
}

TEST(ThreadPool, WakesWorkersThatWentToSleep) {
  ThreadPool pool(3);
  std::atomic<int> ran{0};
  for (int i = 0; i < 5; ++i) {
    // Longer than the workers spin: each round finds them asleep.
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(2);
    while (std::chrono::steady_clock::now() < until) {
    }
    pool.run(30, [&](std::int64_t, int) { ++ran; });
  }
  EXPECT_EQ(ran.load(), 150);
}

TEST(ThreadPool, IsMadeAndDestroyedIdleOrUsed) {
  for (int i = 0; i < 50; ++i) {
    ThreadPool idle(4);
    ThreadPool used(4);
    int ran = 0;
    used.run(1, [&](std::int64_t, int) { ++ran; });
    ASSERT_EQ(ran, 1);
  }
}

TEST(ThreadPool, TakesNumbersBelowOneAsOne) {
  EXPECT_EQ(ThreadPool(0).size(), 1);
  EXPECT_EQ(ThreadPool(-5).size(), 1);
}

/// Stands for "/".
using FakeRoot = test::TempFolder;

TEST(AvailableCores, AreAtLeastOneAndRespectAffinity) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_GE(available_cores(), 1);
  EXPECT_LE(available_cores(), CPU_COUNT(&before));
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(available_cores(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

TEST(AvailableCores, AreCutByAQuotaOfOurGroupOrOneAboveIt) {
  const int all = available_cores(FakeRoot().path());  // no quota files at all
  if (all < 2) GTEST_SKIP() << "one core: a quota of one changes nothing";
  for (const char* where : {"", "/slice", "/slice/job"}) {
    const FakeRoot root;
    root.write("proc/self/cgroup", "0::/slice/job\n");
    root.write("sys/fs/cgroup/cpu.max", "max 100000\n");
    root.write(std::string("sys/fs/cgroup") + where + "/cpu.max", "150000 100000\n");
    EXPECT_EQ(available_cores(root.path()), 1) << where;
  }
}

TEST(AvailableCores, TakeAQuotaThatIsAbsentWideOrUnreadableAsNone) {
  const int all = available_cores(FakeRoot().path());
  for (const char* quota : {"max 100000", "100000000 100000", "", "x y", "-5 100000", "5 0", "5"}) {
    const FakeRoot root;
    root.write("proc/self/cgroup", "1:cpu:/old\n0::/\n");
    root.write("sys/fs/cgroup/cpu.max", quota);
    EXPECT_EQ(available_cores(root.path()), all) << quota;
  }
}

TEST(AvailableCores, AreOneUnderAQuotaBelowOneCore) {
  const FakeRoot root;
  root.write("sys/fs/cgroup/cpu.max", "10000 100000\n");
  EXPECT_EQ(available_cores(root.path()), 1);
}

}  // namespace
}  // namespace heddle
