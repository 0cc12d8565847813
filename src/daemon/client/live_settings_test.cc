#include "daemon/client/live_settings.h"

#include <gtest/gtest.h>

namespace rnbd::daemon {
namespace {

using namespace std::chrono_literals;

TEST(LiveSettings, AHoldIsForEverATimeOrTheEndOfWaiting) {
  EXPECT_EQ(*parse_hold("forever"), Hold{});
  EXPECT_EQ(*parse_hold("90s"), (Hold{.fail_now = false, .timeout = 90s}));
  EXPECT_EQ(*parse_hold("1500ms"), (Hold{.fail_now = false, .timeout = 1500ms}));
  EXPECT_TRUE(parse_hold("fail")->fail_now);
  EXPECT_EQ(hold_text(parse_hold("forever")->timeout), "forever");
  EXPECT_EQ(hold_text(parse_hold("90s")->timeout), "90s");
}

TEST(LiveSettings, AHoldThatCouldMeanTwoThingsIsRefusedWithWhatWouldBeRight) {
  for (const char* text : {"0", "0s", "", "-1", "never", "25h", "10 x", "1e3", "forever "}) {
    const auto hold = parse_hold(text);
    ASSERT_FALSE(hold) << text;
    EXPECT_EQ(hold.error().code, ProblemCode::usage);
    EXPECT_NE(hold.error().hint.find("forever"), std::string::npos);
  }
}

TEST(LiveSettings, EveryPolicyHasItsNameAndItsLetters) {
  for (auto policy : {rtrs::PathPolicy::round_robin, rtrs::PathPolicy::min_inflight,
                      rtrs::PathPolicy::min_latency})
    EXPECT_EQ(parse_path_policy(path_policy_name(policy)), policy);
  EXPECT_EQ(parse_path_policy("RR"), rtrs::PathPolicy::round_robin);
  EXPECT_EQ(parse_path_policy("ML"), rtrs::PathPolicy::min_latency);
  EXPECT_NE(parse_path_policy("min-latenzy").error().hint.find("'min-latency'"), std::string::npos);
}

TEST(LiveSettings, ReconnectAttemptsAreBoundedOrEndless) {
  EXPECT_EQ(*parse_reconnect_attempts("-1"), -1);
  EXPECT_EQ(*parse_reconnect_attempts("0"), 0);
  EXPECT_EQ(*parse_reconnect_attempts("9999"), 9999);
  for (const char* text : {"-2", "10000", "", "x", "99999999999999999999"})
    EXPECT_FALSE(parse_reconnect_attempts(text)) << text;
}

}  // namespace
}  // namespace rnbd::daemon
