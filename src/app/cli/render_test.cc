#include "app/cli/render.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "app/cli/structured.h"

namespace rnbd::cli {
namespace {

using daemon::DeviceView;
using daemon::SessionView;

std::vector<DeviceView> two_devices() {
  return {{.name = "rnbd0", .volume = "vol\"0", .session = "a@b", .size = 8391000, .reads = 3},
          {.name = "rnbd1", .volume = "v", .session = "a@b", .size = 1 << 20, .reads = 4}};
}

Table table(const std::vector<DeviceView>& devices, const FieldWords& words) {
  auto made = device_table(devices, words);
  EXPECT_TRUE(made) << (made ? "" : made.error().text());
  return made.value_or(Table{});
}

std::vector<SessionView> one_session() {
  SessionView session{.name = "a@b", .state = "connected"};
  session.paths.push_back({.name = "ip:1@ip:2", .state = "connected", .read_bytes = 1024});
  session.paths.push_back({.name = "ip:1@ip:3", .state = "reconnecting", .read_bytes = 2048});
  return {session};
}

TEST(Table, HasTwoSpaceColumnsRightAlignedNumbersAndTotalsUnderARule) {
  EXPECT_EQ(render_tables({table(two_devices(), {"name,size,reads"})}, {}),
            "NAME     SIZE  READS\n"
            "rnbd0  8.002M      3\n"
            "rnbd1      1M      4\n"
            "--------------------\n"
            "       9.002M      7\n");
}

TEST(Table, TotalsAreForMoreThanOneRowAndMayBeLeftOut) {
  auto devices = two_devices();
  EXPECT_EQ(render_tables({table(devices, {"name,size"})}, {.totals = false}).find('-'),
            std::string::npos);
  EXPECT_EQ(render_tables({table(devices, {"name,size"})}, {.headers = false}),
            "rnbd0  8.002M\nrnbd1      1M\n");
  devices.pop_back();
  EXPECT_EQ(render_tables({table(devices, {"name,size"})}, {}), "NAME     SIZE\nrnbd0  8.002M\n");
}

TEST(Table, LinesAreDrawnWhereTheTerminalCan) {
  const std::string text = render_tables({table(two_devices(), {"name,size"})}, {.unicode = true});
  EXPECT_NE(text.find("─────"), std::string::npos);
}

TEST(Table, SizesAreInTheUnitAskedFor) {
  EXPECT_EQ(size_text(8391000), "8.002M");
  EXPECT_EQ(size_text(8391000, 'B'), "8391000B");
  EXPECT_EQ(size_text(1536, 'K'), "1.500K");
  EXPECT_EQ(size_text(1 << 20, 'G'), "0.001G");
  EXPECT_EQ(size_text(std::uint64_t{3} << 60, 'E'), "3E");
}

TEST(Table, FieldsAreChosenAddedAndTakenAway) {
  const auto names = [](const FieldWords& words) {
    std::string text;
    for (const auto& column : table({}, words).columns) text += std::string(column.name) + " ";
    return text;
  };
  EXPECT_EQ(names({"size,name"}), "size name ");
  EXPECT_EQ(names({"devname,sessname"}), "name session ");
  EXPECT_EQ(names({"name", "+error", "+size", "-name"}), "error size ");
  EXPECT_NE(names({"all"}).find("written_sectors "), std::string::npos);
  EXPECT_NE(names({"+errors"}).find("where errors "), std::string::npos);
  auto unknown = device_table({}, {"sise"});
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().text().find("'size'"), std::string::npos);
  EXPECT_FALSE(device_table({}, {"name", "-name"}));
}

TEST(Table, ASessionHasItsPathsBelowItAndALetterForEach) {
  auto made = session_table(one_session(), false, {"name,state,path_letters,read_bytes"}, true);
  ASSERT_TRUE(made);
  EXPECT_EQ(render_tables({*made}, {}),
            "SESSION       STATE         PS  READ\n"
            "a@b           connected     U_    3K\n"
            "|- ip:1@ip:2  connected     U     1K\n"
            "`- ip:1@ip:3  reconnecting  _     2K\n");
  EXPECT_NE(render_tables({*made}, {.unicode = true}).find("└─ ip:1@ip:3"), std::string::npos);
}

TEST(Csv, QuotesStringsAndLeavesNumbersExact) {
  EXPECT_EQ(render_csv({table(two_devices(), {"name,volume,size"})}, true),
            "\"name\",\"volume\",\"size\"\n"
            "\"rnbd0\",\"vol\"\"0\",8391000\n"
            "\"rnbd1\",\"v\",1048576\n");
}

TEST(Xml, EscapesWhatItMust) {
  std::vector<DeviceView> devices{{.name = "a<b&c"}};
  EXPECT_NE(render_xml({table(devices, {"name"})}).find("<name>a&lt;b&amp;c</name>"),
            std::string::npos);
}

TEST(OldShape, JsonHasItsFieldNamesTabsAndNullForNone) {
  const OldTable imports{table({two_devices()[0]}, {"devname,mapping_path,size"}), false};
  const OldTable exports{table({}, {"devname"}), true};
  EXPECT_EQ(render_old_json({imports, exports}),
            "{\n\t\"imports\": [\n\t\t{\n\t\t\t\"devname\": \"rnbd0\",\n"
            "\t\t\t\"mapping_path\": \"vol\\\"0\",\n\t\t\t\"size\": 8391000\n\t\t}\n\t],\n"
            "\t\"exports\": null\n}\n");
}

TEST(OldShape, XmlKeepsTheQuotesOfStrings) {
  const OldTable imports{table({two_devices()[1]}, {"devname,size"}), false};
  EXPECT_EQ(render_old_xml({imports}),
            "<imports>\n\t<device>\n\t\t<devname>\"rnbd1\"</devname>\n\t\t<size>1048576</size>\n"
            "\t</device>\n</imports>\n");
}

Answers answers() {
  Answers both;
  both.first.daemon.program = "rnbd-client";
  both.first.devices = two_devices();
  both.server.daemon.program = "rnbd-server";
  both.server.opens.push_back({.volume = "v"});
  both.both = true;
  return both;
}

TEST(Structured, JsonOfBothDaemonsHasTheServersBesideIt) {
  const std::string text = render_structured(answers(), Output::json);
  EXPECT_NE(text.find("\"version\": 1"), std::string::npos);
  EXPECT_NE(text.find("\"server\": {"), std::string::npos);
}

TEST(Structured, JsonLinesAreOnePerThingAndSayWhatItIs) {
  const std::string text = render_structured(answers(), Output::jsonl);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  EXPECT_TRUE(
      text.starts_with(R"({"version":1,"type":"device","program":"rnbd-client","name":"rnbd0")"))
      << text;
  EXPECT_NE(text.find(R"("type":"open","program":"rnbd-server")"), std::string::npos);
}

TEST(Structured, YamlIsTheSameInBlocks) {
  EXPECT_EQ(render_object(R"({"a":1,"b":[{"c":"no","d":[]},2],"e":{}})", Output::yaml),
            "a: 1\nb:\n  - c: \"no\"\n    d: []\n  - 2\ne: {}\n");
}

}  // namespace
}  // namespace rnbd::cli
