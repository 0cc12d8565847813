#include "daemon/admin/units.h"

#include <gtest/gtest.h>

#include <array>

#include "daemon/admin/suggest.h"

namespace rnbd::daemon {
namespace {

using namespace std::chrono_literals;

TEST(Units, SizesGoBothWays) {
  for (const char* text : {"0", "1", "1000", "128K", "3M", "16G", "7E"})
    EXPECT_EQ(format_size(parse_size(text).value_or(99)), text);
  EXPECT_EQ(parse_size("128k"), 131072U);
  EXPECT_EQ(parse_size("5B"), 5U);
  for (const char* text : {"", "K", "-1", "1.5M", "16E", "99999999999999999999", "1KK", " 1"})
    EXPECT_FALSE(parse_size(text)) << text;
}

TEST(Units, HumanSizesHaveThreeDecimalsWhereTheySaySomething) {
  EXPECT_EQ(human_size(8391000), "8.002M");
  EXPECT_EQ(human_size(1 << 30), "1G");
  EXPECT_EQ(human_size(0), "0B");
}

TEST(Units, TimesGoBothWays) {
  for (const char* text : {"0s", "5s", "100ms", "50us", "3ns", "2m", "1h"})
    EXPECT_EQ(format_duration(parse_duration(text).value_or(99h)), text);
  EXPECT_EQ(parse_duration("7"), Duration(7s));
  for (const char* text : {"", "s", "-1s", "1.5s", "1d", "99999999999h"})
    EXPECT_FALSE(parse_duration(text)) << text;
}

TEST(Units, KernelNumbersKnowTheirBases) {
  EXPECT_EQ(parse_kernel_number("010"), 8);
  EXPECT_EQ(parse_kernel_number("0x1F"), 31);
  EXPECT_EQ(parse_kernel_number("-1"), -1);
  EXPECT_EQ(parse_kernel_number("+1"), 1);
  EXPECT_EQ(parse_kernel_number("0"), 0);
  for (const char* text : {"", "-", "--1", "0x", "08", "1 ", "0x-1"})
    EXPECT_FALSE(parse_kernel_number(text)) << text;
}

TEST(Suggest, NamesTheNearestOrAll) {
  constexpr std::array<std::string_view, 3> words{"map", "unmap", "list"};
  EXPECT_EQ(nearest("mpa", words), "map");
  EXPECT_EQ(nearest("unmpa", words), "unmap");
  EXPECT_EQ(nearest("xyz", words), "");
  EXPECT_EQ(nearest("unmpp", words), "unmap");
  EXPECT_EQ(nearest("lis", words), "list");
  EXPECT_EQ(nearest("maap", words), "map");
  EXPECT_EQ(suggestion("lst", words), "did you mean 'list'? one of: map, unmap, list");
  EXPECT_EQ(suggestion("frobnicate", words), "one of: map, unmap, list");
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
}

}  // namespace
}  // namespace rnbd::daemon
