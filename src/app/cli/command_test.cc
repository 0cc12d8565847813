#include "app/cli/command.h"

#include <gtest/gtest.h>

#include "app/cli/fields.h"
#include "app/cli/verbs.h"

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

TEST(Command, AKindAloneIsListed) {
  const Command command = parsed({"server", "sessions", "-o", "json"});
  EXPECT_EQ(command.verb, Verb::list);
  EXPECT_EQ(command.side, Side::server);
  EXPECT_EQ(command.target, Target::session);
  EXPECT_EQ(parsed({"path"}).verb, Verb::list);
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

TEST(Command, ATargetThatIsTheOnlyWordLeftIsAName) {
  EXPECT_EQ(parsed({"unmap", "path"}).words, Words{"path"});
  EXPECT_EQ(parsed({"unmap", "path"}).target, Target::any);
  EXPECT_EQ(parsed({"unmap", "device", "rnbd0"}).words, Words{"rnbd0"});
  EXPECT_EQ(parsed({"show", "session", "s"}).target, Target::session);
}

TEST(Command, AModeOrTargetACommandIsNotForIsRefused) {
  EXPECT_NE(refused({"server", "map", "x"}).find("client's"), std::string::npos);
  EXPECT_NE(refused({"server", "add", "path", "s", "p"}).find("client's"), std::string::npos);
  EXPECT_NE(refused({"client", "close", "v"}).find("server's"), std::string::npos);
  EXPECT_NE(refused({"device", "disconnect", "rnbd0"}).find("session"), std::string::npos);
  EXPECT_NE(refused({"session", "map", "x"}).find("device"), std::string::npos);
  EXPECT_EQ(parsed({"server", "session", "disconnect", "s"}).side, Side::server);
}

TEST(Command, FieldsAndUnitsAreWordsOfAList) {
  const Command command = parsed({"list", "sessname,devname", "+size", "-state", "M"});
  EXPECT_EQ(command.fields, (Words{"sessname,devname", "+size", "-state"}));
  EXPECT_EQ(command.unit, 'M');
  EXPECT_EQ(parsed({"list", "all"}).fields, Words{"all"});
  EXPECT_EQ(parsed({"list", "--fields=name,size"}).fields, Words{"name,size"});
  // What is shown is a name first; then come fields.
  EXPECT_EQ(parsed({"show", "M"}).words, Words{"M"});
  EXPECT_EQ(parsed({"show", "name", "name"}).fields, Words{"name"});
  EXPECT_EQ(parsed({"unmap", "all"}).words, Words{"all"});
}

TEST(Command, NoFieldCanBeMistakenForShortOptions) {
  for (bool server : {false, true})
    for (Target target : {Target::device, Target::session, Target::path})
      for (std::string_view name : field_names(target, server)) {
        bool options_only = true;
        for (char c : name) options_only = options_only && find_option(c) != nullptr;
        EXPECT_FALSE(options_only) << name;
        EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_0123456789"),
                  std::string_view::npos)
            << name;
        const std::string less = "-" + std::string(name);
        EXPECT_EQ(parsed({"list", less}).fields, Words{less});
      }
}

TEST(Command, ABareFormatIsTheOldToolsShapeAndADashedOneIsOurs) {
  EXPECT_TRUE(parsed({"list", "json"}).old_shape);
  EXPECT_FALSE(parsed({"list", "-o", "json"}).old_shape);
  EXPECT_FALSE(parse_command({"list"}, "json")->old_shape);
  EXPECT_EQ(parsed({"list", "-o", "yaml"}).output, Output::yaml);
  EXPECT_EQ(parsed({"unmap", "json"}).words, Words{"json"});
  EXPECT_EQ(parsed({"unmap", "rnbd0", "json"}).output, Output::json);
}

TEST(Command, OptionsSaidAsWordsFollowTheFirstArgument) {
  EXPECT_TRUE(parsed({"unmap", "rnbd0", "force"}).force);
  EXPECT_EQ(parsed({"unmap", "force"}).words, Words{"force"});
  const Command resize = parsed({"client", "device", "resize", "rnbd0", "512", "M", "verbose"});
  EXPECT_EQ(resize.words, (Words{"rnbd0", "512", "M"}));
  EXPECT_TRUE(resize.verbose);
  EXPECT_EQ(parsed({"attr", "set", "x", "force"}).words, (Words{"set", "x", "force"}));
  EXPECT_FALSE(parsed({"list", "nototals"}).totals);
  EXPECT_FALSE(parsed({"list", "notree"}).tree);
}

TEST(Command, OfTopAnNIsHowOften) {
  EXPECT_EQ(parsed({"top", "-n", "3"}).count, 3U);
  EXPECT_EQ(parsed({"top", "-n3", "-d", "100ms", "--batch"}).interval, 100ms);
  EXPECT_TRUE(parsed({"unmap", "x", "-n"}).dry_run);
  EXPECT_NE(refused({"top", "-n", "0"}).find("'0'"), std::string::npos);
}

TEST(Help, EveryCommandHasOneAndItsAliasesAreKnown) {
  for (const VerbInfo& verb : verbs()) {
    EXPECT_FALSE(help_text(std::string(verb.name)).empty()) << verb.name;
    EXPECT_EQ(find_verb(verb.name)->verb, verb.verb);
    for (std::string_view alias : split_words(verb.aliases))
      EXPECT_EQ(find_verb(alias)->verb, verb.verb);
  }
  for (const OptionInfo& option : options())
    EXPECT_NE(help_text("").find(option.name), std::string::npos) << option.name;
  for (std::string_view topic : help_topics())
    EXPECT_FALSE(help_text(std::string(topic)).empty()) << topic;
  EXPECT_TRUE(help_text("nonsense").empty());
}

}  // namespace
}  // namespace rnbd::cli
