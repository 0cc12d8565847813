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

}  // namespace
}  // namespace rnbd::cli
