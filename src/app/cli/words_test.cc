#include "app/cli/words.h"

#include <gtest/gtest.h>

namespace rnbd::cli {
namespace {

using Words = std::vector<std::string>;

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

TEST(MapWords, AServerInPlainWordsMayHaveAPort) {
  auto request = parse_map_words(
      {"v", "from", "10.0.0.1:5000", "[fd00::1]:5001", "fd00::2", "store:5002"}, "me", 4);
  ASSERT_TRUE(request) << request.error().text();
  ASSERT_EQ(request->paths.size(), 4U);
  EXPECT_EQ(request->paths[0], (daemon::PathSpec{"", "ip:10.0.0.1", 5000}));
  EXPECT_EQ(request->paths[1], (daemon::PathSpec{"", "ip:fd00::1", 5001}));
  EXPECT_EQ(request->paths[2], (daemon::PathSpec{"", "ip:fd00::2", 1234}));
  EXPECT_EQ(request->paths[3], (daemon::PathSpec{"", "host:store", 5002}));
  EXPECT_EQ(request->session, "me@10-0-0-1:5000");  // as a URI names it
  EXPECT_EQ(request->session, parse_map_words({"rnbd://10.0.0.1:5000/v"}, "me", 4)->session);
}

TEST(MapWords, ThePortOfPlainWordsCountsForAllThatNameNone) {
  auto request = parse_map_words(
      {"v", "from", "10.0.0.1", "ip:10.0.0.2", "10.0.0.3:7", "dest_port=5000", "sessname=s"}, "me",
      4);
  ASSERT_TRUE(request) << request.error().text();
  ASSERT_EQ(request->paths.size(), 3U);
  EXPECT_EQ(request->paths[0].port, 5000);
  EXPECT_EQ(request->paths[1].port, 5000);
  EXPECT_EQ(request->paths[2].port, 7);
  EXPECT_EQ(request->session, "s");
}

TEST(MapWords, AServerInPlainWordsMayBeASession) {
  const IsSession blya = [](std::string_view name) { return name == "blya"; };
  for (const Words& words : {Words{"v", "from", "a@b", "ro"}, Words{"v", "from", "blya", "ro"},
                             Words{"v", "from", "me@10-0-0-1:99", "ro"}}) {
    auto request = parse_map_words(words, "me", 4, blya);
    ASSERT_TRUE(request) << request.error().text();
    EXPECT_EQ(request->session, words[2]);
    EXPECT_TRUE(request->paths.empty());
    EXPECT_EQ(request->access_mode, "ro");
    EXPECT_EQ(parse_target_words({"v", "from", words[2]}, "me", 4, blya)->session, words[2]);
  }
  EXPECT_EQ(parse_map_words({"v", "from", "a@b", "10.0.0.1"}, "me", 4)->paths.size(), 1U);
  EXPECT_EQ(parse_map_words({"v", "from", "other"}, "me", 4, blya)->paths[0].destination,
            "host:other");
}

TEST(MapWords, AMisspeltFromIsNoticed) {
  EXPECT_EQ(parse_map_words({"v", "form", "10.0.0.1"}, "me", 4).error().hint,
            "did you mean 'from'?");
}

TEST(MapWords, WhatIsNotUnderstoodIsSaid) {
  for (const Words& words :
       {Words{}, Words{"vol0"}, Words{"vol0", "from"}, Words{"vol0", "from", "ro"},
        Words{"vol0", "from", "a/b"}, Words{"vol0", "from", "h:0"}, Words{"vol0", "from", "h:x"},
        Words{"vol0", "from", "1.2.3.4@5.6.7.8"}, Words{"vol0", "from", "ip:x@y"},
        Words{"vol0", "from", "a@b", "c@d"}, Words{"vol0", "from", "h", "dest_port=65536"},
        Words{"vol0", "from", "h", "polcy=RR"}, Words{"rnbd://h/v", "ro"}, Words{"sessname=a"}})
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

}  // namespace
}  // namespace rnbd::cli
