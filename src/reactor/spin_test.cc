#include "reactor/spin.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace rnbd {
namespace {

using namespace std::chrono_literals;

// Plays idle gaps of a given true length to a Spin; sleeping adds what waking up costs.
struct Player {
  explicit Player(Duration most) : spin(most) {}
  void gap(Duration length, Duration wake_latency = 30us) {
    ++gaps;
    const Duration budget = spin.budget();
    if (budget >= length) {
      burnt += length;
      ++hits;
      spin.found(length);
      return;
    }
    burnt += budget;
    spin.missed(budget, length + wake_latency);
  }
  Spin spin;
  Duration burnt{0};
  int hits = 0;
  int gaps = 0;
};

TEST(Spin, NeverSpinsWhenSwitchedOff) {
  Player player(0us);
  for (int i = 0; i < 1000; ++i) player.gap(5us);
  EXPECT_EQ(player.burnt, 0ns);
}

TEST(Spin, LearnsWithinAFewGapsThatWorkComesSoon) {
  Player player(50us);
  for (int i = 0; i < 1000; ++i) player.gap(10us);
  EXPECT_GE(player.hits, 990);
  EXPECT_LE(player.spin.budget(), 50us);
}

TEST(Spin, BurnsNothingWhenWorkComesRarely) {
  Player player(50us);
  for (int i = 0; i < 10000; ++i) player.gap(1ms);
  EXPECT_EQ(player.burnt, 0ns);
}

TEST(Spin, StopsSoonAfterTheWorkStops) {
  Player player(50us);
  for (int i = 0; i < 1000; ++i) player.gap(10us);
  player.burnt = 0ns;
  for (int i = 0; i < 1000; ++i) player.gap(5s);
  EXPECT_LE(player.burnt, 50us * 8);
}

TEST(Spin, HardlyTriesWhenTryingNeverPays) {
  Player player(50us);
  for (int i = 0; i < 100000; ++i) player.gap(80us);
  EXPECT_EQ(player.hits, 0);
  EXPECT_LE(player.burnt, 80us * 100000 / 500);  // at most 0.2 % of the time
}

TEST(Spin, BreaksOutOfTwoSleepersWaitingForEachOther) {
  // Each side sees the other's wake-up in its own gap; the gap shrinks once this side stops
  // sleeping.
  Player player(50us);
  for (int i = 0; i < 1000; ++i) player.gap(player.spin.on() ? 45us : 75us);
  EXPECT_GE(player.hits, 950);
}

TEST(Spin, GivesUpWhenSomebodyElseNeedsTheCpu) {
  Player player(50us);
  for (int i = 0; i < 1000; ++i) player.gap(10us);
  for (int i = 0; i < 10; ++i) player.spin.preempted();
  EXPECT_FALSE(player.spin.on());
}

TEST(Spin, KeepsSpinningThroughAnOccasionalLongGap) {
  Player player(50us);
  SeededRandom random(1);
  for (int i = 0; i < 10000; ++i) player.gap(random.below(20) == 0 ? 300us : 10us);
  EXPECT_GE(player.hits, 9000);
}

TEST(Spin, ShortensTheBudgetToWhatWorkNeeds) {
  Player player(50us);
  for (int i = 0; i < 1000; ++i) player.gap(2us);
  EXPECT_LE(player.spin.budget(), 20us);
  for (int i = 0; i < 1000; ++i) player.gap(40us);  // and lengthens it again
  EXPECT_GE(player.spin.budget(), 40us);
}

}  // namespace
}  // namespace rnbd
