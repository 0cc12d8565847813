#include "app/cli/command.h"

#include <gtest/gtest.h>

namespace rnbd::cli {
namespace {

using namespace std::chrono_literals;
using Words = std::vector<std::string>;

Command parsed(const Words& words) {
  auto command = parse_command(words, "");
  EXPECT_TRUE(command) << (command ? "" : command.error().text());
  return command.value_or(Command{});
}
std::string refused(const Words& words) {
  auto command = parse_command(words, "");
  EXPECT_TRUE(!command && command.error().code == daemon::ProblemCode::usage);
  return command ? "" : command.error().text();
}

TEST(Command, ModeAndTargetMayBeSaidOrLeftOutInTheSingularOrPlural) {
  for (const Words& words : {Words{"map", "x"}, Words{"client", "map", "x"},
                             Words{"client", "device", "map", "x"}, Words{"devices", "map", "x"}}) {
    EXPECT_EQ(parsed(words).verb, Verb::map);
    EXPECT_EQ(parsed(words).words, Words{"x"});
  }
  EXPECT_EQ(parsed({"server", "sessions", "list"}).side, Side::server);
  EXPECT_EQ(parsed({"server", "sessions", "list"}).target, Target::session);
  EXPECT_EQ(parsed({"list", "paths"}).target, Target::path);
}

TEST(Command, OptionsMayStandAnywhereAsWordsOrDashed) {
  Command command = parsed({"-o", "json", "--socket=/s", "list", "--no-headers", "-v"});
  EXPECT_EQ(command.output, Output::json);
  EXPECT_EQ(command.socket, "/s");
  EXPECT_FALSE(command.headers);
  EXPECT_TRUE(command.verbose);
  EXPECT_EQ(parsed({"list", "-oxml"}).output, Output::xml);
  EXPECT_EQ(parsed({"list", "--output", "csv"}).output, Output::csv);
  EXPECT_EQ(parsed({"list", "json", "noheaders", "nototals", "notree"}).output, Output::json);
  EXPECT_EQ(parsed({"ping", "--timeout=250ms"}).timeout, 250ms);
  EXPECT_TRUE(parsed({"unmap", "-nqf", "rnbd0"}).dry_run);
  EXPECT_EQ(parse_command({"list"}, "json")->output, Output::json);
}

TEST(Command, AfterTwoDashesEverythingIsAWord) {
  EXPECT_EQ(parsed({"unmap", "--", "--force"}).words, Words{"--force"});
}

TEST(Command, HelpMayBeAskedForAnywhere) {
  EXPECT_EQ(parsed({"map", "--help"}).verb, Verb::help);
  EXPECT_EQ(parsed({"map", "--help"}).words, Words{"map"});
  EXPECT_EQ(parsed({"map", "help"}).words, Words{"map"});
  EXPECT_EQ(parsed({"help", "exit-codes"}).words, Words{"exit-codes"});
  EXPECT_EQ(parsed({"-h"}).verb, Verb::help);
  EXPECT_EQ(parsed({"-V"}).verb, Verb::version);
}

TEST(Command, MistakesNameTheCulpritAndTheNearestWord) {
  EXPECT_NE(refused({"mpa"}).find("did you mean 'map'"), std::string::npos);
  EXPECT_NE(refused({"sever", "list"}).find("did you mean 'server'"), std::string::npos);
  EXPECT_NE(refused({"list", "--sokcet=x"}).find("did you mean '--socket'"), std::string::npos);
  EXPECT_NE(refused({"list", "-o", "jsn"}).find("did you mean 'json'"), std::string::npos);
  EXPECT_NE(refused({"list", "-o"}).find("needs a value"), std::string::npos);
  EXPECT_NE(refused({"list", "--force=yes"}).find("takes no value"), std::string::npos);
  EXPECT_NE(refused({"list", "--timeout", "soon"}).find("soon"), std::string::npos);
  EXPECT_NE(refused({"list", "-z"}).find("-z"), std::string::npos);
  EXPECT_NE(refused({"client"}).find("no command"), std::string::npos);
  EXPECT_NE(refused({}).find("no command"), std::string::npos);
}

TEST(MapWords, TheKernelsWordsMayBeSeparateOrOne) {
  auto separate =
      parse_map_words({"sessname=blya", "path=ip:10.50.100.66", "device_path=/dev/ram0"}, "me", 4);
  auto one = parse_map_words({"sessname=blya path=ip:10.50.100.66 device_path=/dev/ram0"}, "me", 4);
  ASSERT_TRUE(separate && one);
  EXPECT_EQ(*separate, *one);
  EXPECT_EQ(separate->session, "blya");
}

TEST(MapWords, AUriWithoutSessionGetsOneNamedAfterBothEnds) {
  EXPECT_EQ(parse_map_words({"rnbd://10.0.0.1/v"}, "me.example", 4)->session, "me@10-0-0-1");
  EXPECT_EQ(parse_map_words({"rnbd://10.0.0.1/v?sess=a"}, "me", 4)->session, "a");
}

TEST(MapWords, AVolumeFromAServerInPlainWords) {
  auto request = parse_map_words({"vol0", "from", "10.0.0.1", "store2", "ro"}, "me", 4);
  ASSERT_TRUE(request) << request.error().text();
  EXPECT_EQ(request->device_path, "vol0");
  EXPECT_EQ(request->access_mode, "ro");
  ASSERT_EQ(request->paths.size(), 2U);
  EXPECT_EQ(request->paths[0].destination, "ip:10.0.0.1");
  EXPECT_EQ(request->paths[1].destination, "host:store2");
}

TEST(MapWords, WhatIsNotUnderstoodIsSaid) {
  for (const Words& words :
       {Words{}, Words{"vol0"}, Words{"vol0", "from"}, Words{"vol0", "from", "ro"},
        Words{"vol0", "from", "a/b"}, Words{"rnbd://h/v", "ro"}, Words{"sessname=a"}})
    EXPECT_FALSE(parse_map_words(words, "me", 4));
}

TEST(TargetWords, WhateverMapsUnmaps) {
  for (const Words& words :
       {Words{"sessname=a", "path=ip:1.2.3.4", "device_path=v"},
        Words{"sessname=a path=ip:1.2.3.4 device_path=v"}, Words{"rnbd://1.2.3.4/v?sess=a"}}) {
    auto target = parse_target_words(words, "me", 4);
    ASSERT_TRUE(target);
    EXPECT_EQ(target->target, "v");
    EXPECT_EQ(target->session, "a");
  }
  EXPECT_EQ(parse_target_words({"vol0", "from", "1.2.3.4"}, "me", 4)->session, "me@1-2-3-4");
  EXPECT_EQ(parse_target_words({"rnbd0"}, "me", 4)->target, "rnbd0");
  EXPECT_EQ(parse_target_words({"nbd+unix:///v?socket=/s"}, "me", 4)->target,
            "nbd+unix:///v?socket=/s");
  EXPECT_TRUE(parse_target_words({"rnbd0", "force"}, "me", 4)->force);
  EXPECT_FALSE(parse_target_words({"rnbd0", "normal"}, "me", 4)->force);
  EXPECT_FALSE(parse_target_words({"rnbd0", "rnbd1"}, "me", 4));
  EXPECT_FALSE(parse_target_words({}, "me", 4));
}

TEST(Command, ChangesMayNameTheirTargetBeforeOrAfterTheVerb) {
  for (const Words& words : {Words{"add", "path", "s", "p"}, Words{"path", "add", "s", "p"},
                             Words{"add", "s", "p"}, Words{"client", "path", "add", "s", "p"}}) {
    EXPECT_EQ(parsed(words).verb, Verb::add);
    EXPECT_EQ(parsed(words).words, (Words{"s", "p"}));
  }
  EXPECT_EQ(parsed({"delete", "path", "s", "p"}).verb, Verb::remove);
  EXPECT_EQ(parsed({"session", "disconnect", "s"}).words, Words{"s"});
  EXPECT_NE(refused({"reconect", "s"}).find("'reconnect'"), std::string::npos);
}

}  // namespace
}  // namespace rnbd::cli
