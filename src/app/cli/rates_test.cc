#include "app/cli/rates.h"

#include <gtest/gtest.h>

#include "app/cli/completion.h"
#include "app/cli/console.h"
#include "app/cli/events.h"
#include "app/cli/list.h"
#include "app/cli/progress.h"

namespace rnbd::cli {
namespace {

using namespace std::chrono_literals;

Answers sample(std::uint64_t writes) {
  Answers answers;
  answers.first.daemon.program = "rnbd-client";
  answers.first.devices.push_back({.name = "rnbd0",
                                   .volume = "v",
                                   .session = "a@b",
                                   .state = "open",
                                   .writes = writes,
                                   .write_bytes = writes * 4096,
                                   .inflight = 2});
  auto& stages = answers.first.devices[0].stages;
  stages.push_back({.stage = "queue", .count = writes, .sum_us = writes * 10});
  stages.push_back(
      {.stage = "wire", .count = writes, .sum_us = writes * 40, .p50_us = 38, .p99_us = 90});
  daemon::SessionView session{.name = "a@b", .state = "connected"};
  session.paths.push_back({.number = 1, .name = "p", .state = "connected", .writes = writes});
  answers.first.sessions.push_back(session);
  return answers;
}

TEST(Rates, AreWhatCameInBetweenPerSecond) {
  const auto rates = rates_between(sample(100), sample(300), 2s);
  ASSERT_EQ(rates.size(), 3U);
  EXPECT_EQ(rates[0].kind, Target::device);
  EXPECT_DOUBLE_EQ(rates[0].writes, 100);
  EXPECT_DOUBLE_EQ(rates[0].write_bytes, 409600);
  EXPECT_EQ(rates[0].mean_us, 50U);
  EXPECT_EQ(rates[1].kind, Target::session);
  EXPECT_DOUBLE_EQ(rates[1].writes, 100);
  EXPECT_EQ(rates[2].kind, Target::path);
}

TEST(Rates, WhatIsNewCountsFromNothingAndAResetSaysNothing) {
  EXPECT_DOUBLE_EQ(rates_between({}, sample(100), 1s)[0].writes, 100);
  EXPECT_DOUBLE_EQ(rates_between(sample(100), sample(50), 1s)[0].writes, 0);
}

TEST(Rates, OneLineOfJsonIsOneSample) {
  const std::string line =
      rates_json(rates_between(sample(0), sample(100), 1s), "2026-11-22T18:00:00.000Z", 1s);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  EXPECT_TRUE(line.starts_with(
      R"({"version":1,"time":"2026-11-22T18:00:00.000Z","interval_ms":1000,"devices":[{)"))
      << line;
  EXPECT_NE(line.find(R"("iops":100)"), std::string::npos);
  EXPECT_NE(line.find(R"("p99_us":90)"), std::string::npos);
}

TEST(Rates, TheTableShowsWhatWasAskedFor) {
  const auto rates = rates_between(sample(0), sample(100), 1s);
  const std::string text = rates_text(rates, Target::any, {});
  for (const char* word : {"DEVICE", "SESSION", "PATH", "rnbd0 v", "100", "400K", "38us", "90us"})
    EXPECT_NE(text.find(word), std::string::npos) << word << "\n" << text;
  EXPECT_EQ(rates_text(rates, Target::path, {}).find("rnbd0"), std::string::npos);
}

TEST(Rates, ErrorsOfDevicesAndReconnectsOfPathsAreShown) {
  Answers now = sample(100);
  now.first.devices[0].errors = 33;
  now.first.sessions[0].reconnects = now.first.sessions[0].paths[0].reconnects = 44;
  const auto rates = rates_between(sample(0), now, 1s);
  EXPECT_EQ(rates[0].errors, 33U);
  EXPECT_EQ(rates[1].reconnects, 44U);
  EXPECT_EQ(rates[2].reconnects, 44U);
  for (const auto& [target, number] : {std::pair{Target::device, "33"}, {Target::path, "44"}})
    EXPECT_NE(rates_text(rates, target, {}).find(number), std::string::npos);
}

TEST(Rates, ATableOfBothDaemonsTellsTheirSessionsApart) {
  Answers before = sample(0), now = sample(100);
  EXPECT_EQ(rates_text(rates_between(before, now, 1s), Target::any, {}).find("(server)"),
            std::string::npos);
  for (Answers* answers : {&before, &now}) {
    answers->both = true;
    answers->server.daemon.program = "rnbd-server";
    answers->server.sessions = answers->first.sessions;
  }
  const std::string text = rates_text(rates_between(before, now, 1s), Target::any, {});
  for (const char* words : {"\na@b  ", "\na@b (server)  ", "\na@b p  ", "\na@b p (server)  "})
    EXPECT_NE(text.find(words), std::string::npos) << words << "\n" << text;
}

TEST(Rates, TimesAreRfc3339) {
  EXPECT_EQ(rfc3339(std::chrono::system_clock::time_point(1'700'000'000'123ms)),
            "2023-11-14T22:13:20.123Z");
}

TEST(Tree, SessionsHavePathsAndDevicesBelow) {
  EXPECT_EQ(tree_text(sample(0).first, {}),
            "a@b  connected  U\n|- p  connected\n`- rnbd0  v  0B    open\n");
}

TEST(Show, ANameIsADeviceItsVolumeItsSessionOrAPath) {
  for (const char* name : {"rnbd0", "/dev/rnbd0", "v", "v@a@b", "a@b", "p"}) {
    auto answer = sample(0).first;
    EXPECT_TRUE(keep_named(answer, {name, "", false})) << name;
    EXPECT_EQ(answer.sessions.size(), 1U) << name;
  }
  auto answer = sample(0).first;
  EXPECT_FALSE(keep_named(answer, {"rnbd1", "", false}));
  answer = sample(0).first;
  EXPECT_TRUE(keep_named(answer, {"v", "a@b", false}));
  EXPECT_FALSE(keep_named(answer, {"v", "x@b", false}));
}

TEST(Show, SeveralNamesKeepWhatAnyOfThemNames) {
  auto answer = sample(0).first;
  answer.devices.push_back({.name = "rnbd1", .volume = "w", .session = "c@d"});
  answer.devices.push_back({.name = "rnbd2", .volume = "x", .session = "c@d"});
  const std::vector<TargetWords> names{
      {"rnbd0", "", false}, {"rnbd2", "", false}, {"no", "", false}};
  EXPECT_TRUE(keep_named(answer, names));
  ASSERT_EQ(answer.devices.size(), 2U);
  EXPECT_EQ(answer.devices[1].name, "rnbd2");
}

TEST(Completion, KnowsEveryCommandOptionAndChoice) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const std::string script = completion_script(shell);
    for (const VerbInfo& verb : verbs())
      EXPECT_NE(script.find(verb.name), std::string::npos) << shell << " " << verb.name;
    for (const OptionInfo& option : options()) {
      EXPECT_NE(script.find(option.name.substr(2)), std::string::npos) << shell << option.name;
      for (std::string_view value : split_words(option.values))
        EXPECT_TRUE(value[0] == '<' || script.find(value) != std::string::npos)
            << shell << " " << value;
    }
    EXPECT_EQ(script.find('@' + std::string("VERBS")), std::string::npos);
  }
  EXPECT_TRUE(completion_script("tcsh").empty());
}

TEST(ExitStatus, IsOneOfTheTableOrMinusErrnoAsTheOldToolHasIt) {
  const daemon::Problem busy{daemon::ProblemCode::busy, "x", "", 0};
  EXPECT_EQ(exit_status(busy, false), 4);
  EXPECT_EQ(exit_status(busy, true), 240);
  EXPECT_EQ(exit_status({daemon::ProblemCode::usage, "x", "", 22}, true), 234);
  EXPECT_EQ(exit_status({daemon::ProblemCode::failed, "x", "", 5}, true), 251);
}

TEST(Progress, SaysWhatForHowLongOfHowLong) {
  EXPECT_EQ(progress_line("mapping vol0: connecting to ip:10.0.0.1", 3200ms, 30s),
            "mapping vol0: connecting to ip:10.0.0.1 (3 s of 30 s)");
}

TEST(Events, ALineHasTimeLevelNameAndText) {
  EXPECT_EQ(event_text({.time = "2026-11-22T18:00:00Z",
                        .level = "warning",
                        .event = "path_lost",
                        .text = "<v@a@b> lost"}),
            "2026-11-22T18:00:00Z warning path_lost            <v@a@b> lost");
}

}  // namespace
}  // namespace rnbd::cli
