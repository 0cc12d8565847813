#include "rtrs/server/permits.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace rnbd::rtrs::server {
namespace {

using Outcome = Permits::Outcome;

struct Granted final : PermitWaiter {
  void on_permit_granted(std::uint32_t permit) override { permits.push_back(permit); }
  std::vector<std::uint32_t> permits;
};

struct TestPath {
  TestPath() { gate.try_open(); }
  Outcome acquire(Permits& permits, std::uint32_t permit) {
    return permits.acquire(permit, gate, granted);
  }
  AcceptGate gate;
  Granted granted;
};

TEST(Permits, R2_APermitThePathHasAlreadyIsBusyUntilItIsReleased) {
  Permits permits(4);
  TestPath a;
  EXPECT_EQ(a.acquire(permits, 3), Outcome::taken);
  EXPECT_EQ(a.acquire(permits, 3), Outcome::busy);
  EXPECT_EQ(a.acquire(permits, 2), Outcome::taken);
  permits.release(3, a.gate);
  EXPECT_EQ(a.acquire(permits, 3), Outcome::taken);
  EXPECT_TRUE(a.gate.open());
}

TEST(Permits, R4_APermitOfAnotherPathEndsThatPathAndIsWaitedFor) {
  Permits permits(4);
  TestPath a;
  TestPath b;
  ASSERT_EQ(a.acquire(permits, 1), Outcome::taken);
  EXPECT_EQ(b.acquire(permits, 1), Outcome::waits);
  EXPECT_TRUE(a.gate.shut());
  EXPECT_TRUE(b.gate.open());
  EXPECT_EQ(b.acquire(permits, 1), Outcome::busy);  // R2 holds while it waits
  EXPECT_TRUE(b.granted.permits.empty());
  permits.release(1, a.gate);
  EXPECT_EQ(b.granted.permits, std::vector<std::uint32_t>{1});
  EXPECT_EQ(b.acquire(permits, 1), Outcome::busy);
  permits.release(1, b.gate);
  EXPECT_EQ(b.acquire(permits, 1), Outcome::taken);
}

TEST(Permits, R4_AChainOfPathsGetsThePermitInOrderAndOnlyTheLastIsNotGivenUp) {
  Permits permits(1);
  TestPath a;
  TestPath b;
  TestPath c;
  ASSERT_EQ(a.acquire(permits, 0), Outcome::taken);
  ASSERT_EQ(b.acquire(permits, 0), Outcome::waits);
  ASSERT_EQ(c.acquire(permits, 0), Outcome::waits);
  EXPECT_TRUE(a.gate.shut());
  EXPECT_TRUE(b.gate.shut());
  EXPECT_TRUE(c.gate.open());
  permits.release(0, a.gate);
  EXPECT_EQ(b.granted.permits.size(), 1U);
  EXPECT_TRUE(c.granted.permits.empty());
  permits.release(0, b.gate);
  EXPECT_EQ(c.granted.permits.size(), 1U);
}

TEST(Permits, OneThatWaitsMayTakeItBackUntilItIsGranted) {
  Permits permits(1);
  TestPath a;
  TestPath b;
  TestPath c;
  ASSERT_EQ(a.acquire(permits, 0), Outcome::taken);
  ASSERT_EQ(b.acquire(permits, 0), Outcome::waits);
  ASSERT_EQ(c.acquire(permits, 0), Outcome::waits);
  EXPECT_TRUE(permits.take_back(0, b.gate));
  EXPECT_FALSE(permits.take_back(0, b.gate));
  permits.release(0, a.gate);
  EXPECT_TRUE(b.granted.permits.empty());
  EXPECT_EQ(c.granted.permits.size(), 1U);
  EXPECT_FALSE(permits.take_back(0, c.gate));
}

TEST(Permits, APermitThatAllTookBackIsFree) {
  Permits permits(1);
  TestPath a;
  TestPath b;
  TestPath c;
  ASSERT_EQ(a.acquire(permits, 0), Outcome::taken);
  ASSERT_EQ(b.acquire(permits, 0), Outcome::waits);
  EXPECT_TRUE(permits.take_back(0, b.gate));
  permits.release(0, a.gate);
  EXPECT_EQ(c.acquire(permits, 0), Outcome::taken);
}

TEST(Permits, R4_APathThatIsGivenUpEndsNoOther) {
  Permits permits(2);
  TestPath a;
  TestPath b;
  ASSERT_EQ(a.acquire(permits, 0), Outcome::taken);
  ASSERT_EQ(b.acquire(permits, 1), Outcome::taken);
  ASSERT_EQ(b.acquire(permits, 0), Outcome::waits);
  EXPECT_EQ(a.acquire(permits, 1), Outcome::given_up);  // a late frame of the path that is over
  EXPECT_TRUE(b.gate.open());
}

// Threads that fail over to path after path, each owner of a permit believing to be the only one.
struct Racer final : PermitWaiter {
  void on_permit_granted(std::uint32_t) override { granted.store(true); }
  std::atomic<bool> granted{false};
};

TEST(Permits, NeverHasTwoOwnersHoweverManyThreadsCollide) {
  constexpr std::uint32_t kPermits = 2;
  constexpr int kThreads = 4;
  constexpr int kRounds = 3000;
  Permits permits(kPermits);
  std::array<std::atomic<int>, kPermits> owners{};
  std::atomic<int> mistakes{0};
  std::atomic<int> collisions{0};
  const auto race = [&](std::uint32_t seed) {
    for (std::uint32_t round = 0; round < kRounds; ++round) {
      AcceptGate gate;  // a new path each time
      gate.try_open();
      Racer racer;
      const std::uint32_t permit = (round + seed) % kPermits;
      const Outcome outcome = permits.acquire(permit, gate, racer);
      if (outcome == Outcome::waits) {
        ++collisions;
        if (round % 3 == 0 && permits.take_back(permit, gate)) continue;
        while (!racer.granted.load()) std::this_thread::yield();
      } else if (outcome != Outcome::taken) {
        ++mistakes;
        continue;
      }
      if (owners[permit].fetch_add(1) != 0) ++mistakes;
      if (round % 5 == 0) std::this_thread::yield();
      owners[permit].fetch_sub(1);
      permits.release(permit, gate);
    }
  };
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < kThreads; ++i) threads.emplace_back(race, i);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(mistakes.load(), 0);
  TestPath last;
  for (std::uint32_t permit = 0; permit < kPermits; ++permit)
    EXPECT_EQ(last.acquire(permits, permit), Outcome::taken);
}

}  // namespace
}  // namespace rnbd::rtrs::server
