#include <gtest/gtest.h>

#include <cerrno>

#include "daemon/admin/map_request.h"

namespace rnbd::daemon {
namespace {

constexpr int kCpus = 8;
const std::string kGood = "sessname=s path=ip:10.0.0.1 device_path=/dev/ram0";

MapRequest parsed(const std::string& line) {
  auto request = parse_map_line(line, kCpus);
  EXPECT_TRUE(request) << line << ": " << (request ? "" : request.error().text());
  return request.value_or(MapRequest{});
}

int error_of(const std::string& line) {
  auto request = parse_map_line(line, kCpus);
  return request ? 0 : request.error().error;
}

std::string words_of(const std::string& line) {
  auto request = parse_map_line(line, kCpus);
  return request ? "" : request.error().text();
}

TEST(MapLine, TakesTheLineOfTheReadmeWordForWord) {
  MapRequest request = parsed("sessname=blya path=ip:10.50.100.66 device_path=/dev/ram0");
  EXPECT_EQ(request.session, "blya");
  EXPECT_EQ(request.device_path, "/dev/ram0");
  EXPECT_EQ(request.access_mode, "rw");
  EXPECT_EQ(request.nr_poll_queues, 0);
  ASSERT_EQ(request.paths.size(), 1U);
  EXPECT_EQ(request.paths[0], (PathSpec{"", "ip:10.50.100.66", 1234}));
}

TEST(MapLine, OrderIsFreeAndBlanksAreStrippedAndSkipped) {
  EXPECT_EQ(parsed("\n\t device_path=/dev/ram0   sessname=s  path=ip:10.0.0.1 \t\n"),
            parsed(kGood));
}

TEST(MapLine, TheLastOfARepeatedKeyWinsAndPathsAccumulate) {
  MapRequest request = parsed(
      kGood + " sessname=t device_path=b path=ip:10.0.0.2 access_mode=ro access_mode=migration");
  EXPECT_EQ(request.session, "t");
  EXPECT_EQ(request.device_path, "b");
  EXPECT_EQ(request.access_mode, "migration");
  ASSERT_EQ(request.paths.size(), 2U);
  EXPECT_EQ(request.paths[1].destination, "ip:10.0.0.2");
}

TEST(MapLine, APortCountsOnlyForThePathsAfterIt) {
  MapRequest request = parsed(
      "path=ip:10.0.0.1 dest_port=0x10 path=ip:10.0.0.2 dest_port=010 path=ip:10.0.0.3 sessname=s "
      "device_path=d");
  ASSERT_EQ(request.paths.size(), 3U);
  EXPECT_EQ(request.paths[0].port, 1234);
  EXPECT_EQ(request.paths[1].port, 16);
  EXPECT_EQ(request.paths[2].port, 8);
}

TEST(MapLine, ASourceStandsBeforeAnAtOrAComma) {
  PathSpec expected{"ip:10.0.0.9", "ip:10.0.0.1", 1234};
  EXPECT_EQ(parsed("sessname=s path=ip:10.0.0.9@ip:10.0.0.1 device_path=d").paths[0], expected);
  EXPECT_EQ(parsed("sessname=s path=ip:10.0.0.9,ip:10.0.0.1 device_path=d").paths[0], expected);
}

TEST(MapLine, TakesIpv6WithAnInterfaceAndGids) {
  EXPECT_EQ(parsed("sessname=s path=ip:fe80::1%eth0 device_path=d").paths[0].destination,
            "ip:fe80::1%eth0");
  EXPECT_EQ(error_of("sessname=s path=gid:fe80:0000:0000:0000:0000:0000:0000:0001 device_path=d"),
            0);
}

TEST(MapLine, RdmaAndTcpTakeAddressesAndNames) {
  for (const char* path : {"rdma:10.0.0.1", "tcp:fd00::1", "tcp:st.example.org"})
    EXPECT_EQ(parsed(std::string("sessname=s device_path=d path=") + path).paths[0].destination,
              path);
  EXPECT_EQ(error_of("sessname=s device_path=d path=rdma:a/b"), EINVAL);
}

TEST(MapLine, NeedsNoPathBecauseTheSessionMayExist) {
  EXPECT_TRUE(parsed("sessname=s device_path=d").paths.empty());
}

TEST(MapLine, LengthsAreTheKernels) {
  EXPECT_EQ(parsed("sessname=" + std::string(254, 's') + " device_path=d").session.size(), 254U);
  EXPECT_EQ(parsed("sessname=" + std::string(255, 's') + " device_path=d").session.size(), 254U);
  EXPECT_EQ(error_of("sessname=" + std::string(256, 's') + " device_path=d"), EINVAL);
  EXPECT_EQ(parsed("sessname=s device_path=" + std::string(255, 'd')).device_path.size(), 254U);
  EXPECT_EQ(error_of("sessname=s device_path=" + std::string(256, 'd')), EINVAL);
}

struct Refused {
  const char* line;
  int error;
  const char* word;  // must occur in the explanation
};

class MapLineRefuses : public testing::TestWithParam<Refused> {};

TEST_P(MapLineRefuses, WithTheKernelsErrnoAndTheCulpritNamed) {
  EXPECT_EQ(error_of(GetParam().line), GetParam().error) << GetParam().line;
  EXPECT_NE(words_of(GetParam().line).find(GetParam().word), std::string::npos)
      << words_of(GetParam().line);
}

INSTANTIATE_TEST_SUITE_P(
    Grammar, MapLineRefuses,
    testing::Values(
        Refused{"", EINVAL, "sessname"}, Refused{"device_path=d", EINVAL, "sessname="},
        Refused{"sessname=s", EINVAL, "device_path="}, Refused{"bogus", EINVAL, "bogus"},
        Refused{"sessname= device_path=d", EINVAL, "no value"},
        Refused{"sesname=s device_path=d", EINVAL, "did you mean 'sessname'"},
        Refused{"sessname=a/b device_path=d", EINVAL, "'/'"},
        Refused{"sessname=a.b device_path=d", EINVAL, "'.'"},
        Refused{"sessname=s\tdevice_path=d", EINVAL, "control"},
        Refused{"sessname=s device_path=d access_mode=RO", EINVAL, "access_mode"},
        Refused{"sessname=s device_path=d access_mode=wr", EINVAL, "access_mode"},
        Refused{"sessname=s device_path=d dest_port=65536", EINVAL, "65535"},
        Refused{"sessname=s device_path=d dest_port=-1", EINVAL, "dest_port"},
        Refused{"sessname=s device_path=d dest_port=12x", EINVAL, "12x"},
        Refused{"sessname=s device_path=d dest_port=08", EINVAL, "08"},
        Refused{"sessname=s device_path=d nr_poll_queues=9", EINVAL, "nr_poll_queues"},
        Refused{"sessname=s device_path=d nr_poll_queues=-2", EINVAL, "nr_poll_queues"},
        Refused{"sessname=s device_path=d nr_poll_queues=x", EINVAL, "nr_poll_queues"},
        Refused{"sessname=s device_path=d path=10.0.0.1", EPROTONOSUPPORT, "ip:10.0.0.1"},
        Refused{"sessname=s device_path=d path=udp:10.0.0.1", EPROTONOSUPPORT, "prefix"},
        Refused{"sessname=s device_path=d path=ip:10.0.0", EINVAL, "ip:10.0.0"},
        Refused{"sessname=s device_path=d path=ip:10.0.0.1%eth0", EINVAL, "ip:"},
        Refused{"sessname=s device_path=d path=gid:xyz", EINVAL, "gid:"},
        Refused{"sessname=s device_path=d path=unix:run/x", EINVAL, "unix:"},
        Refused{"sessname=s device_path=d path=host:a/b", EINVAL, "host:"},
        Refused{"sessname=s device_path=d path=10.0.0.9@ip:10.0.0.1", EINVAL, "10.0.0.9"},
        Refused{"sessname=s device_path=d path=ip:10.0.0.9@10.0.0.1", EPROTONOSUPPORT,
                "10.0.0.1"}));

TEST(MapLine, ASeventhPathIsOneTooMany) {
  std::string line = "sessname=s device_path=d";
  for (int i = 1; i <= 6; ++i) line += " path=ip:10.0.0." + std::to_string(i);
  EXPECT_EQ(error_of(line), 0);
  EXPECT_EQ(error_of(line + " path=ip:10.0.0.7"), ENOMEM);
}

TEST(MapLine, MinusOnePollQueueMeansOnePerCpu) {
  EXPECT_EQ(parsed(kGood + " nr_poll_queues=-1").nr_poll_queues, kCpus);
  EXPECT_EQ(parsed(kGood + " nr_poll_queues=8").nr_poll_queues, kCpus);
}

TEST(MapLine, WhatIsPrintedMapsTheSame) {
  for (std::string line : {kGood, kGood + " access_mode=ro nr_poll_queues=2",
                           std::string("sessname=s dest_port=99 path=ip:1.2.3.4@ip:fd00::1 "
                                       "dest_port=1234 path=ip:9.9.9.9 device_path=x")})
    EXPECT_EQ(parsed(to_line(parsed(line))), parsed(line)) << line;
  const std::string at = "sessname=s path=ip:fe80::1%eth@0,ip:9.9.9.9 device_path=x";
  EXPECT_EQ(parsed(to_line(parsed(at))), parsed(at));
}

TEST(DefaultSessionName, IsClientAtServerInTheCharactersAllowed) {
  EXPECT_EQ(default_session_name("web1.example.org", {"", "ip:10.0.0.1", 1234}), "web1@10-0-0-1");
  EXPECT_EQ(default_session_name("web1", {"", "host:st.example.org", 99}),
            "web1@st-example-org:99");
  EXPECT_EQ(default_session_name("web1", {"", "ip:fe80::1%eth0", 1234}), "web1@fe80::1_eth0");
  EXPECT_EQ(default_session_name("web1", {"", "unix:/run/x.sock", 1234}), "web1@local");
}

TEST(SessionName, TellsTheHostsItIsMadeOf) {
  EXPECT_EQ(hosts_of_session_name("web1@10-0-0-1").client, "web1");
  EXPECT_EQ(hosts_of_session_name("web1@10-0-0-1").server, "10-0-0-1");
  EXPECT_EQ(hosts_of_session_name("blya").client, "");
  EXPECT_EQ(hosts_of_session_name("blya").server, "");
}

}  // namespace
}  // namespace rnbd::daemon
