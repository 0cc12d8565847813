#include "daemon/client/path_words.h"

#include <gtest/gtest.h>

namespace rnbd::daemon {
namespace {

rtrs::client::PathInfo path(const char* spec, std::uint16_t port, const char* name) {
  rtrs::client::PathInfo info;
  info.address = *fabric::PathAddress::parse(spec, port);
  info.name = name;
  return info;
}

const std::vector<rtrs::client::PathInfo> kPaths{
    path("ip:10.0.0.9,ip:10.0.0.1", 1234, "ip:10.0.0.9@ip:10.0.0.1"),
    path("tcp:10.0.0.2", 1234, "ip:10.0.0.8@ip:10.0.0.2"),
    path("ip:10.0.0.3", 1, "ip:10.0.0.8@ip:10.0.0.3"),
    path("ip:10.0.0.3", 2, "ip:10.0.0.8@ip:10.0.0.3"),
    path("unix:/run/a,b@c.sock", 0, "unix:/run/a,b@c.sock"),
};

TEST(PathWords, APathIsNamedByItsNumberItsNameOrItsDestination) {
  const auto at = [](const char* word) { return find_path(kPaths, word, "s").value_or(99); };
  for (const char* word : {"1", "01", "ip:10.0.0.9@ip:10.0.0.1", "ip:10.0.0.9,ip:10.0.0.1",
                           "ip:10.0.0.1", "10.0.0.1", "ip:10.0.0.1 port 1234"})
    EXPECT_EQ(at(word), 0U) << word;
  for (const char* word :
       {"2", "tcp:10.0.0.2", "ip:10.0.0.2", "10.0.0.2", "ip:10.0.0.8,ip:10.0.0.2"})
    EXPECT_EQ(at(word), 1U) << word;
  EXPECT_EQ(at("ip:10.0.0.3 port 2"), 3U);
  EXPECT_EQ(at("unix:/run/a,b@c.sock"), 4U);
}

TEST(PathWords, AWordForSeveralPathsIsRefusedWithAllCandidates) {
  const auto found = find_path(kPaths, "10.0.0.3", "s1");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ProblemCode::usage);
  EXPECT_NE(found.error().what.find("2 paths of session 's1'"), std::string::npos);
  EXPECT_NE(found.error().hint.find("4: ip:10.0.0.8@ip:10.0.0.3 port 2"), std::string::npos);
}

TEST(PathWords, AWordForNoPathIsNotFoundAndTheHintHasThePathsThereAre) {
  for (const char* word : {"0", "6", "", "10.0.0.9", "ip:", "99999999999999999999", "10.0.0"}) {
    const auto found = find_path(kPaths, word, "s1");
    ASSERT_FALSE(found) << word;
    EXPECT_EQ(found.error().code, ProblemCode::not_found);
    EXPECT_NE(found.error().hint.find("1: ip:10.0.0.9@ip:10.0.0.1 port 1234"), std::string::npos);
  }
  EXPECT_EQ(find_path({}, "1", "s1").error().hint, "it has none");
}

}  // namespace
}  // namespace rnbd::daemon
