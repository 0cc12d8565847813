#include "fabric/sim/world.h"

#include <gtest/gtest.h>

#include <string>

#include "fabric/sim/fabric.h"

namespace rnbd::fabric::sim {
namespace {

using namespace std::chrono_literals;

TEST(World, TimePassesOnlyFromEventToEvent) {
  World world;
  std::vector<Duration> seen;
  world.at(5ms, [&] { seen.push_back(world.elapsed()); });
  world.at(1h, [&] { seen.push_back(world.elapsed()); });
  world.at(5ms, [&] { seen.push_back(world.elapsed() + 1ns); });  // equal times: in order
  EXPECT_TRUE(world.run_until([&] { return seen.size() == 3; }, 2h));
  EXPECT_EQ(seen, (std::vector<Duration>{5ms, 5ms + 1ns, 1h}));
  EXPECT_EQ(world.elapsed(), 1h);
}

TEST(World, RunUntilGivesUpAtItsLimitAndSaysTheSeed) {
  World world({.seed = 4711});
  testing::internal::CaptureStderr();
  EXPECT_FALSE(world.run_until([] { return false; }, 3s));
  EXPECT_NE(testing::internal::GetCapturedStderr().find("RNBD_SIM_SEED=4711"), std::string::npos);
  EXPECT_EQ(world.elapsed(), 3s);
}

TEST(World, AnAbortSaysTheSeed) {
  EXPECT_DEATH(
      {
        const World world({.seed = 815});
        RNBD_ASSERT(false);
      },
      "RNBD_SIM_SEED=815");
}

TEST(World, SeedsAreManyOrTheOneAskedFor) {
  if (std::getenv("RNBD_SIM_SEED") != nullptr || std::getenv("RNBD_SIM_SEEDS") != nullptr)
    GTEST_SKIP();
  EXPECT_EQ(seeds(3, 10), (std::vector<std::uint64_t>{10, 11, 12}));
  ::setenv("RNBD_SIM_SEED", "0x20", 1);
  EXPECT_EQ(seeds(3, 10), (std::vector<std::uint64_t>{32}));
  EXPECT_EQ(seed_from_environment(), 32U);
  ::unsetenv("RNBD_SIM_SEED");
}

TEST(SimLoop, FiresTimersInOrderAndNotWhenDisarmed) {
  World world;
  SimLoop& loop = world.make_loop();
  std::vector<std::pair<int, Duration>> fired;
  struct Alarm {
    Alarm(World& w, SimLoop& l, std::vector<std::pair<int, Duration>>& f, int n)
        : world(w), fired(f), number(n), timer(Timer::of<&Alarm::ring>(l, this)) {}
    void ring() { fired.emplace_back(number, world.elapsed()); }
    World& world;
    std::vector<std::pair<int, Duration>>& fired;
    int number;
    Timer timer;
  };
  Alarm one(world, loop, fired, 1);
  Alarm two(world, loop, fired, 2);
  Alarm three(world, loop, fired, 3);
  one.timer.arm_after(3ms);
  two.timer.arm_after(1ms);
  three.timer.arm_after(2ms);
  three.timer.disarm();
  world.run_for(2ms);
  one.timer.arm_after(5ms);
  world.run_for(1s);
  EXPECT_EQ(fired, (std::vector<std::pair<int, Duration>>{{2, 1ms}, {1, 7ms}}));
}

TEST(SimLoop, DeferredTasksRunRightAfterTheEventAndBeforeAllOthers) {
  World world;
  SimLoop& loop = world.make_loop();
  std::string order;
  struct Later {
    void run() {
      order += "t";
      if (--again > 0) loop.defer(task);
    }
    SimLoop& loop;
    std::string& order;
    int again;
    Task task = Task::of<&Later::run>(this);
  } later{loop, order, 3};
  world.at(
      1ms,
      [&] {
        loop.defer(later.task);
        loop.defer(later.task);
        order += "a";
      },
      &loop);
  world.at(
      1ms, [&] { order += "b"; }, &loop);
  world.run_for(2ms);
  EXPECT_EQ(order, "atttb");
  loop.defer(later.task);  // outside of all loops: as soon as the world runs
  EXPECT_EQ(order, "atttb");
  world.run_for(0ms);
  EXPECT_EQ(order, "atttbt");
}

TEST(SimLoop, PostsOfOneLoopArriveInOrderLaterAndOnTheRightLoop) {
  World world;
  SimLoop& from = world.make_loop();
  SimLoop& to = world.make_loop();
  std::vector<int> order;
  world.at(
      1ms,
      [&] {
        EXPECT_TRUE(from.on_this_thread());
        EXPECT_FALSE(to.on_this_thread());
        for (int i = 0; i < 20; ++i) {
          to.post([&, i] {
            EXPECT_TRUE(to.on_this_thread());
            order.push_back(i);
          });
        }
        EXPECT_TRUE(order.empty());
      },
      &from);
  world.run_for(1s);
  ASSERT_EQ(order.size(), 20U);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(SimLoop, NothingHappensOnAFrozenHostUntilItThaws) {
  World world;
  Host& host = world.add_host("host");
  SimLoop& loop = host.add_loop();
  SimLoop& other = world.make_loop();
  std::vector<std::pair<char, Duration>> seen;
  for (const auto time : {1ms, 20ms, 30ms}) {
    world.at(
        time, [&] { seen.emplace_back('f', world.elapsed()); }, &loop);
    world.at(
        time, [&] { seen.emplace_back('o', world.elapsed()); }, &other);
  }
  world.at(10ms, [&] { host.freeze(50ms); });
  world.run_for(1s);
  EXPECT_EQ(seen, (std::vector<std::pair<char, Duration>>{
                      {'f', 1ms}, {'o', 1ms}, {'o', 20ms}, {'o', 30ms}, {'f', 60ms}, {'f', 60ms}}));
}

}  // namespace
}  // namespace rnbd::fabric::sim
