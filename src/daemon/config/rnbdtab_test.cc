#include "daemon/config/rnbdtab.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

namespace rnbd::daemon {
namespace {

using ::testing::HasSubstr;

Outcome<Rnbdtab> parse(std::string_view text) { return parse_rnbdtab(text, "tab", 4); }

std::string problem_of(std::string_view text) {
  const auto table = parse(text);
  return table ? "none" : table.error().text();
}

TEST(Rnbdtab, TakesUrisAndMapLinesWithOptions) {
  const auto table = parse(
      "# volumes of this machine\n"
      "\n"
      "db    rnbd://10.0.0.1/db   hold=5m,nofail,_netdev\n"
      "  logs\tsessname=a@b path=ip:10.0.0.1 path=ip:10.0.0.2 device_path=/logs ro,frontend=loop # "
      "old\n"
      "bare  rnbd+tcp://host.example:1235/x/y?sess=s\n");
  ASSERT_TRUE(table) << table.error().text();
  ASSERT_EQ(table->entries.size(), 3U);
  const RnbdtabEntry& db = table->entries[0];
  EXPECT_EQ(db.name, "db");
  EXPECT_EQ(db.map.device_path, "db");
  EXPECT_EQ(db.map.session, "");
  EXPECT_EQ(db.hold, "5m");
  EXPECT_TRUE(db.nofail);
  EXPECT_EQ(db.line, 3U);
  const RnbdtabEntry& logs = table->entries[1];
  EXPECT_EQ(logs.map.session, "a@b");
  EXPECT_EQ(logs.map.paths.size(), 2U);
  EXPECT_EQ(logs.map.access_mode, "ro");
  EXPECT_EQ(logs.map.frontend, "loop");
  EXPECT_EQ(table->find("bare")->map.session, "s");
  EXPECT_EQ(table->find("nothing"), nullptr);
}

TEST(Rnbdtab, SettingsOfTheSessionAreKeptAsTheyAreSet) {
  const auto table =
      parse("a rnbd://h/a once,noauto,policy=RR,max_reconnect_attempts=-1,policy=min-latency\n");
  ASSERT_TRUE(table) << table.error().text();
  const RnbdtabEntry& entry = table->entries[0];
  EXPECT_TRUE(entry.once);
  EXPECT_TRUE(entry.noauto);
  EXPECT_EQ(entry.session_settings,
            (std::vector<Setting>{{"max_reconnect_attempts", "-1"}, {"policy", "min-latency"}}));
}

TEST(Rnbdtab, OptionsAreStrongerThanTheUri) {
  EXPECT_EQ(parse("a rnbd://h/a?mode=ro rw\n")->entries[0].map.access_mode, "rw");
  EXPECT_EQ(parse("a rnbd://h/a?mode=ro\n")->entries[0].map.access_mode, "ro");
}

TEST(Rnbdtab, NothingIsAnEmptyTable) {
  EXPECT_TRUE(parse("")->entries.empty());
  EXPECT_TRUE(parse("\n \t\n# name uri\n   #\r\n")->entries.empty());
}

TEST(Rnbdtab, SaysFileAndLineOfWhatIsWrong) {
  EXPECT_THAT(problem_of("\na rnbd://h/a romm\n"), HasSubstr("tab:2: unknown option 'romm'"));
  EXPECT_THAT(problem_of("a rnbd://h/a nofial\n"), HasSubstr("did you mean 'nofail'"));
  EXPECT_THAT(problem_of("a\n"), HasSubstr("tab:1: 'a' names no volume"));
  EXPECT_THAT(problem_of("a ro\n"), HasSubstr("'ro' is neither a URI nor"));
  EXPECT_THAT(problem_of("-a rnbd://h/a\n"), HasSubstr("'-a' is no name"));
  EXPECT_THAT(problem_of("a/b rnbd://h/a\n"), HasSubstr("is no name"));
  EXPECT_THAT(problem_of("a rnbd://h/a ro rw\n"), HasSubstr("'rw' is one word too many"));
  EXPECT_THAT(problem_of("a rnbd://h/a hold=0\n"), HasSubstr("hold cannot be '0'"));
  EXPECT_THAT(problem_of("a rnbd://h/a hold=fail\n"), HasSubstr("hold cannot be 'fail'"));
  EXPECT_THAT(problem_of("a rnbd://h/a policy=best\n"), HasSubstr("unknown policy 'best'"));
  EXPECT_THAT(problem_of("a rnbd://h/a frontend=tape\n"), HasSubstr("unknown frontend"));
  EXPECT_THAT(problem_of("a rnbd://h/a ro=1\n"), HasSubstr("unknown option 'ro=1'"));
  EXPECT_THAT(problem_of("a sessname=x path=ip:1.2.3.4\n"), HasSubstr("device_path= is missing"));
  EXPECT_EQ(parse("a\n").error().code, ProblemCode::config);
}

TEST(Rnbdtab, NamesAndVolumesAreThereOnce) {
  EXPECT_THAT(problem_of("a rnbd://h/a\na rnbd://h/b\n"),
              HasSubstr("tab:2: the name 'a' is there already (see line 1)"));
  EXPECT_THAT(problem_of("a rnbd://h/a\nb rnbd://h/a ro\n"), HasSubstr("the same volume"));
  EXPECT_TRUE(parse("a rnbd://h/a\nb rnbd://g/a\nc rnbd://h/a?sess=s\n"));
}

TEST(Rnbdtab, IsBounded) {
  EXPECT_THAT(problem_of("#" + std::string(kRnbdtabLineMax, 'x') + "\n"),
              HasSubstr("the line is too long"));
  EXPECT_THAT(problem_of(std::string(kRnbdtabBytesMax + 1, '\n')), HasSubstr("file is too long"));
  std::string many;
  for (std::size_t i = 0; i <= kRnbdtabEntriesMax; ++i)
    many += fmt::format("n{0} rnbd://h/{0}\n", i);
  EXPECT_THAT(problem_of(many), HasSubstr("too many entries"));
}

TEST(Rnbdtab, AMissingFileIsEmptyUnlessItWasNamed) {
  EXPECT_TRUE(load_rnbdtab("/nonexistent/rnbdtab", false, 4)->entries.empty());
  const auto named = load_rnbdtab("/nonexistent/rnbdtab", true, 4);
  ASSERT_FALSE(named);
  EXPECT_THAT(named.error().text(), HasSubstr("cannot read /nonexistent/rnbdtab"));
}

}  // namespace
}  // namespace rnbd::daemon
