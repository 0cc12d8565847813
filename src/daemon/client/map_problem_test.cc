#include "daemon/client/map_problem.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "daemon/client/host_names.h"

namespace rnbd::daemon {
namespace {

using namespace std::chrono_literals;

MapRequest request() {
  MapRequest request;
  request.session = "s";
  request.paths = {{"", "ip:10.0.0.9", 1234}};
  request.device_path = "vol0";
  return request;
}

struct Case {
  client::Stage stage;
  std::error_code error;
  ProblemCode code;
  const char* word;
};
class MapProblem : public testing::TestWithParam<Case> {};

TEST_P(MapProblem, NamesCausePeerAndNextStep) {
  Problem problem =
      map_problem(request(), {GetParam().stage, GetParam().error}, 5s, Rdma::possible);
  EXPECT_EQ(problem.code, GetParam().code) << problem.text();
  EXPECT_NE(problem.what.find("'vol0'"), std::string::npos) << problem.text();
  EXPECT_NE(problem.text().find(GetParam().word), std::string::npos) << problem.text();
  EXPECT_FALSE(problem.hint.empty());
  bool connecting = GetParam().stage == client::Stage::connect;
  if (connecting) {
    EXPECT_NE(problem.what.find("10.0.0.9"), std::string::npos) << problem.text();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, MapProblem,
    testing::Values(
        Case{client::Stage::open, from_errno(ENOENT), ProblemCode::not_found, "no volume"},
        Case{client::Stage::open, from_errno(EPERM), ProblemCode::refused, "open for writing"},
        Case{client::Stage::open, from_errno(EROFS), ProblemCode::refused, "access_mode=ro"},
        Case{client::Stage::open, from_errno(EBUSY), ProblemCode::busy, "in use"},
        Case{client::Stage::open, from_errno(EACCES), ProblemCode::refused, "dev_search_path"},
        Case{client::Stage::open, from_errno(ENOTBLK), ProblemCode::failed, "neither a file"},
        Case{client::Stage::open, from_errno(EEXIST), ProblemCode::busy, "another name"},
        Case{client::Stage::open, from_errno(EINVAL), ProblemCode::usage, "'..'"},
        Case{client::Stage::open, from_errno(ENOSPC), ProblemCode::failed, "No space"},
        Case{client::Stage::open, Errc::path_lost, ProblemCode::unreachable, "was lost"},
        Case{client::Stage::connect, from_errno(ETIMEDOUT), ProblemCode::unreachable, "after 5s"},
        Case{client::Stage::connect, Errc::handshake_timeout, ProblemCode::unreachable,
             "timed out"},
        Case{client::Stage::connect, from_errno(ECONNREFUSED), ProblemCode::unreachable, "refused"},
        Case{client::Stage::connect, from_errno(EHOSTUNREACH), ProblemCode::unreachable,
             "no route"},
        Case{client::Stage::connect, Errc::connect_rejected, ProblemCode::refused, "rejected"},
        Case{client::Stage::connect, Errc::not_rtrs_peer, ProblemCode::incompatible,
             "no RNBD server"},
        Case{client::Stage::connect, Errc::version_mismatch, ProblemCode::incompatible,
             "version"}));

TEST(MapProblemOfAPathByRdma, SaysWhetherTheBuildTheConfigurationOrTheDeviceIsMissing) {
  const client::Failure failure{client::Stage::connect, from_errno(ENODEV)};
  const auto text = [&](Rdma rdma) { return map_problem(request(), failure, 5s, rdma).text(); };
  EXPECT_NE(text(Rdma::not_built).find("this build has no RDMA"), std::string::npos);
  EXPECT_NE(text(Rdma::off).find("RDMA is off"), std::string::npos);
  EXPECT_NE(text(Rdma::possible).find("no RDMA device here leads to"), std::string::npos);
}

TEST(Peers, AreNamedAsTheyWereGiven) {
  MapRequest several = request();
  several.paths.push_back({"", "unix:/run/x", 1234});
  EXPECT_EQ(peers_of(several), "ip:10.0.0.9 port 1234, unix:/run/x");
  several.paths.clear();
  EXPECT_EQ(peers_of(several), "session 's'");
}

TEST(HostNames, BecomeAddressesToTryInTurn) {
  MapRequest named = request();
  EXPECT_FALSE(needs_resolving(named));
  named.paths.push_back({"", "host:localhost", 99});
  ASSERT_TRUE(needs_resolving(named));
  auto alternatives = resolve_host_names(named);
  ASSERT_TRUE(alternatives) << alternatives.error().text();
  ASSERT_FALSE(alternatives->empty());
  for (const auto& paths : *alternatives) {
    ASSERT_EQ(paths.size(), 2U);
    EXPECT_EQ(paths[0], named.paths[0]);
    EXPECT_TRUE(paths[1].destination == "ip:127.0.0.1" || paths[1].destination == "ip:::1")
        << paths[1].destination;
    EXPECT_EQ(paths[1].port, 99);
  }
}

}  // namespace
}  // namespace rnbd::daemon
