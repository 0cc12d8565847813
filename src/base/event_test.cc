#include "base/event.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <thread>

#include "base/error.h"
#include "base/event_limit.h"

namespace rnbd {
namespace {

using namespace std::chrono_literals;

TEST(EventLine, HasSubjectTextAndWhatTheTextDoesNotSay) {
  const std::string_view path = "ip:10.0.0.2@ip:10.0.0.1";
  EXPECT_EQ(event_line({.name = "path_lost",
                        .session = "a@b",
                        .path = path,
                        .error = from_errno(ENOTCONN),
                        .since = 2100ms},
                       "lost"),
            "<a@b> lost path=ip:10.0.0.2@ip:10.0.0.1 err=ENOTCONN errno=107 since=2.1s");
  EXPECT_EQ(event_line({.name = "x", .volume = "v", .session = "s", .path = path},
                       "path ip:10.0.0.2@ip:10.0.0.1 is up"),
            "<v@s> path ip:10.0.0.2@ip:10.0.0.1 is up");
  EXPECT_EQ(event_line({.name = "x", .error = Errc::heartbeat_lost}, "gone"),
            "gone err=" + std::string(strerrorname_np(to_errno(Errc::heartbeat_lost))) +
                " errno=" + std::to_string(to_errno(Errc::heartbeat_lost)));
}

TEST(EventLine, IsOneLineWhateverAPeerCallsItself) {
  EXPECT_EQ(event_line({.name = "x", .volume = "a\nb", .session = "\x1b[31m"}, "seen"),
            "<a\\x0ab@\\x1b[31m> seen");
}

TEST(EventMessageId, IsOfTheNameAndNeverChanges) {
  EXPECT_EQ(event_message_id("path_lost").size(), 32U);
  EXPECT_NE(event_message_id("path_lost"), event_message_id("path_connected"));
  EXPECT_EQ(event_message_id(""), "cbf29ce48422232584222325cbf29ce4");
}

TEST(EventLimit, SaysAFewThenCountsAndTellsTheCountOnce) {
  EventLimit limit;
  const TimePoint start{};
  for (std::uint32_t i = 0; i < EventLimit::kSaidMost; ++i) {
    EXPECT_TRUE(limit.over(start).empty());
    EXPECT_TRUE(limit.may_say("flaps", start));
  }
  for (int i = 0; i < 57; ++i) EXPECT_FALSE(limit.may_say("flaps", start + 1s));
  EXPECT_TRUE(limit.may_say("another", start + 1s));
  EXPECT_TRUE(limit.over(start + 9s).empty());
  const auto over = limit.over(start + EventLimit::kWhile);
  ASSERT_EQ(over.size(), 1U);
  EXPECT_EQ(over[0].key, "flaps");
  EXPECT_EQ(over[0].times, 57U);
  EXPECT_TRUE(limit.may_say("flaps", start + EventLimit::kWhile));
  EXPECT_TRUE(limit.over(start + EventLimit::kWhile).empty());
}

TEST(EventLimit, ManyDifferentOnesTakeNoMoreRoomThanAFew) {
  EventLimit limit;
  std::size_t told = 0;
  for (int i = 0; i < 2000; ++i) {
    const std::string key = "key " + std::to_string(i);
    told += limit.over(TimePoint{}).size();
    for (std::uint32_t n = 0; n <= EventLimit::kSaidMost; ++n) limit.may_say(key, TimePoint{});
  }
  EXPECT_GE(told, 2000 - EventLimit::kKeysMost);
}

TEST(EventLimit, PeersWithEndlessNamesAreBoundTogetherAndNothingElseIs) {
  EventLimit limit;
  const TimePoint start{};
  std::uint32_t said = 0;
  for (int i = 0; i < 5000; ++i) {
    EXPECT_TRUE(limit.over(start).empty());
    said += limit.may_say_of_peer("path_connected", "<" + std::to_string(i) + ">", start) ? 1U : 0U;
  }
  for (int i = 0; i < 70; ++i) EXPECT_FALSE(limit.may_say_of_peer("open_refused", "<x>", start));
  EXPECT_EQ(said, EventLimit::kSaidMostOfPeers);
  EXPECT_TRUE(limit.may_say("flush_failed", start));
  ASSERT_EQ(limit.due(), start + EventLimit::kWhile);
  const auto over = limit.over(start + EventLimit::kWhile);
  ASSERT_EQ(over.size(), 2U);
  EXPECT_EQ(over[0].key, "open_refused");
  EXPECT_EQ(over[0].times, 70U);
  EXPECT_EQ(over[1].key, "path_connected");
  EXPECT_EQ(over[1].times, 5000U - EventLimit::kSaidMostOfPeers);
  EXPECT_TRUE(limit.may_say_of_peer("open_refused", "<x>", start + EventLimit::kWhile));
  EXPECT_FALSE(limit.due());
}

TEST(EventLimit, APeerThatRepeatsItselfTakesNothingFromOthers) {
  EventLimit limit;
  for (int i = 0; i < 5000; ++i) limit.may_say_of_peer("open_refused", "<a>", TimePoint{});
  EXPECT_TRUE(limit.may_say_of_peer("open_refused", "<b>", TimePoint{}));
}

TEST(EventLimit, NothingCountedIsNeverDue) {
  EventLimit limit;
  EXPECT_FALSE(limit.due());
  limit.may_say("once", TimePoint{});
  limit.may_say_of_peer("once", "<a> once", TimePoint{});
  EXPECT_FALSE(limit.due());
}

TEST(EventSubscription, HearsWhatTheLogIsTooQuietFor) {
  set_log_options({.program = "test", .level = LogLevel::off});
  EXPECT_FALSE(event_wanted(LogLevel::error));
  std::vector<Event> heard;
  {
    EventSubscription subscription([&](const Event& event) { heard.push_back(event); });
    log_event({.name = "path_lost", .level = LogLevel::warning, .session = "s", .path = "p"},
              "path {} lost", "p");
  }
  log_event({.name = "path_lost", .session = "s"}, "nobody hears this");
  ASSERT_EQ(heard.size(), 1U);
  EXPECT_EQ(heard[0].name, "path_lost");
  EXPECT_EQ(heard[0].level, LogLevel::warning);
  EXPECT_EQ(heard[0].session, "s");
  EXPECT_EQ(heard[0].path, "p");
  EXPECT_EQ(heard[0].text, "<s> path p lost");
  set_log_options({});
}

TEST(EventSubscription, MayComeAndGoWhileThingsHappen) {
  set_log_options({.program = "test", .level = LogLevel::off});
  std::atomic<bool> stop{false};
  std::thread teller([&] {
    while (!stop) log_event({.name = "path_lost"}, "again");
  });
  for (int i = 0; i < 200; ++i) EventSubscription subscription([](const Event&) {});
  stop = true;
  teller.join();
  set_log_options({});
}

}  // namespace
}  // namespace rnbd
