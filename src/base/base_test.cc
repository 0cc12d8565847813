#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <vector>

#include "base/endian.h"
#include "base/error.h"
#include "base/intrusive_list.h"
#include "base/log.h"
#include "base/random.h"
#include "base/slot_table.h"
#include "base/timer_queue.h"

namespace rnbd {
namespace {

struct Item : ListNode {
  explicit Item(int v) : value(v) {}
  int value;
};

std::vector<int> values(IntrusiveList<Item>& list) {
  std::vector<int> out;
  list.for_each([&](Item& item) { out.push_back(item.value); });
  return out;
}

TEST(IntrusiveList, KeepsOrderAndUnlinksWhatIsDestroyed) {
  IntrusiveList<Item> list;
  Item a(1), c(3);
  list.push_back(a);
  {
    Item b(2);
    list.push_back(b);
    list.push_back(c);
    EXPECT_EQ(values(list), (std::vector{1, 2, 3}));
  }
  EXPECT_EQ(values(list), (std::vector{1, 3}));
  EXPECT_EQ(list.pop_front().value, 1);
  EXPECT_FALSE(a.linked());
  list.push_front(a);
  EXPECT_EQ(list.count(), 2u);
}

TEST(IntrusiveList, SurvivesItsElementsAndTheyIt) {
  Item a(1);
  {
    IntrusiveList<Item> list;
    list.push_back(a);
  }
  EXPECT_FALSE(a.linked());
}

TEST(IntrusiveList, SplicesInOrder) {
  IntrusiveList<Item> one, two;
  Item a(1), b(2), c(3);
  one.push_back(a);
  two.push_back(b);
  two.push_back(c);
  one.splice_back(two);
  EXPECT_TRUE(two.empty());
  EXPECT_EQ(values(one), (std::vector{1, 2, 3}));
}

TEST(SlotTable, StaleHandlesFindNothing) {
  SlotTable<int> table(2);
  const auto first = table.acquire(10);
  const auto second = table.acquire(20);
  EXPECT_TRUE(table.full());
  EXPECT_EQ(*table.find(first), 10);
  table.release(first);
  EXPECT_EQ(table.find(first), nullptr);
  const auto third = table.acquire(30);
  EXPECT_EQ(third.index, first.index);
  EXPECT_EQ(table.find(first), nullptr);
  EXPECT_EQ(*table.find(second), 20);
  EXPECT_EQ(table.find({99, 1}), nullptr);
}

class FakeTimers final : public Timers {
 public:
  TimePoint now() const override { return time; }
  void arm(Timer& timer, TimePoint deadline) override { queue.arm(timer, deadline); }
  void disarm(Timer& timer) override { queue.disarm(timer); }
  TimePoint time{};
  TimerQueue queue;
};

struct Recorder {
  Recorder(FakeTimers& timers, std::vector<int>& out, int id)
      : timer(Timer::of<&Recorder::fire>(timers, this)), log(out), number(id) {}
  void fire() { log.push_back(number); }
  Timer timer;
  std::vector<int>& log;
  int number;
};

TEST(TimerQueue, FiresInOrderOfDeadlineWhateverTheArmingAndDisarming) {
  SeededRandom random(7);
  FakeTimers timers;
  std::vector<int> fired;
  std::vector<std::unique_ptr<Recorder>> recorders;
  std::multimap<TimePoint, int> expected;
  for (int i = 0; i < 500; ++i) {
    recorders.push_back(std::make_unique<Recorder>(timers, fired, i));
    recorders.back()->timer.arm_at(TimePoint(Duration(random.below(1000))));
  }
  for (int i = 0; i < 500; ++i) {
    auto& timer = recorders[static_cast<std::size_t>(i)]->timer;
    if (i % 3 == 0) timer.disarm();
    if (i % 3 == 1) timer.arm_at(TimePoint(Duration(random.below(1000))));
    if (i % 7 == 0)
      recorders[static_cast<std::size_t>(i)].reset();
    else if (timer.armed())
      expected.emplace(timer.deadline(), i);
  }
  std::vector<TimePoint> deadlines;
  for (auto& [deadline, id] : expected) deadlines.push_back(deadline);
  for (int t = 0; t <= 1000; t += 10) {
    timers.time = TimePoint(Duration(t));
    timers.queue.run_due(timers.time);
  }
  ASSERT_EQ(fired.size(), expected.size());
  for (std::size_t i = 0; i < fired.size(); ++i) {
    EXPECT_EQ(recorders[static_cast<std::size_t>(fired[i])]->timer.deadline(), deadlines[i]);
  }
  EXPECT_FALSE(timers.queue.next_deadline());
}

struct Rearming {
  explicit Rearming(FakeTimers& t) : timers(t), timer(Timer::of<&Rearming::fire>(t, this)) {}
  void fire() {
    ++count;
    timer.arm_at(timers.time);
  }
  FakeTimers& timers;
  Timer timer;
  int count = 0;
};

TEST(TimerQueue, ATimerThatRearmsItselfDoesNotHoldTheLoop) {
  FakeTimers timers;
  Rearming rearming(timers);
  rearming.timer.arm_at(TimePoint{});
  EXPECT_TRUE(timers.queue.run_due(TimePoint{}));
  EXPECT_EQ(rearming.count, 1);
}

TEST(Endian, StoresTheBytesItsTypeSays) {
  le32 little = 0x01020304;
  be32 big = 0x01020304;
  EXPECT_EQ(std::memcmp(&little, "\4\3\2\1", 4), 0);
  EXPECT_EQ(std::memcmp(&big, "\1\2\3\4", 4), 0);
  EXPECT_EQ(little.value(), 0x01020304u);
  EXPECT_EQ(be64(0x1122334455667788).value(), 0x1122334455667788u);
  EXPECT_EQ(le16(0xabcd).value(), 0xabcd);
  static_assert(alignof(le64) == 1 && sizeof(le64) == 8);
}

TEST(Error, EveryErrcHasWordsAndAnErrno) {
  for (int i = 1; i <= static_cast<int>(Errc::remote_access); ++i) {
    const auto code = make_error_code(static_cast<Errc>(i));
    EXPECT_NE(code.message(), "unknown error") << i;
    EXPECT_GT(to_errno(code), 0);
    EXPECT_LT(to_errno(code), 512);
  }
  EXPECT_EQ(to_errno(from_errno(ENOENT)), ENOENT);
  EXPECT_EQ(to_errno({}), 0);
}

TEST(Random, TheSameSeedGivesTheSameNumbers) {
  SeededRandom a(42), b(42), c(43);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const auto value = a.next();
    EXPECT_EQ(value, b.next());
    differs |= value != c.next();
  }
  EXPECT_TRUE(differs);
}

TEST(Random, UuidsAreVersion4AndDiffer) {
  SystemRandom random;
  const Uuid a = random.uuid(), b = random.uuid();
  EXPECT_NE(a, b);
  EXPECT_EQ(a[6] >> 4, 4);
  EXPECT_EQ(a[8] >> 6, 2);
}

TEST(Log, PrintableEscapesAndBounds) {
  EXPECT_EQ(printable("a\nb\x1b[2J\\"), "a\\x0ab\\x1b[2J\\x5c");
  EXPECT_EQ(printable(std::string(300, 'x')).size(), 259u);
}

}  // namespace
}  // namespace rnbd
