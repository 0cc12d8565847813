#include <gtest/gtest.h>

#include "daemon/admin/map_request.h"

namespace rnbd::daemon {
namespace {

struct Good {
  const char* uri;
  const char* volume;
  PathSpec path;
  const char* session = "";
  const char* mode = "rw";
  std::size_t paths = 1;
};
class UriTaken : public testing::TestWithParam<Good> {};

TEST_P(UriTaken, AsItIsMeant) {
  const Good& good = GetParam();
  auto request = parse_uri(good.uri);
  ASSERT_TRUE(request) << good.uri << ": " << request.error().text();
  EXPECT_EQ(request->device_path, good.volume);
  EXPECT_EQ(request->session, good.session);
  EXPECT_EQ(request->access_mode, good.mode);
  ASSERT_EQ(request->paths.size(), good.paths);
  EXPECT_EQ(request->paths[0], good.path) << request->paths[0].destination;
}

INSTANTIATE_TEST_SUITE_P(
    Table, UriTaken,
    testing::Values(
        Good{"rnbd://10.0.0.1/vol0", "vol0", {"", "ip:10.0.0.1", 1234}},
        Good{"rnbd://10.0.0.1:99/vol0", "vol0", {"", "ip:10.0.0.1", 99}},
        Good{"rnbd+tcp://[fd00::1]:99/a/b", "a/b", {"", "tcp:fd00::1", 99}},
        Good{"rnbd+rdma://10.0.0.1/v", "v", {"", "rdma:10.0.0.1", 1234}},
        Good{"rnbd+tcp://st.example.org/v", "v", {"", "tcp:st.example.org", 1234}},
        Good{"rnbd://[fe80::1%25eth0]/v", "v", {"", "ip:fe80::1%eth0", 1234}},
        Good{"rnbd://st.example.org/v", "v", {"", "host:st.example.org", 1234}},
        Good{"rnbd://h//dev/ram0", "/dev/ram0", {"", "host:h", 1234}},
        Good{"rnbd://h/a%20b%2fc", "a b/c", {"", "host:h", 1234}},
        Good{"rnbd://h/a%41", "aA", {"", "host:h", 1234}},
        Good{"rnbd://h/v?sess=a@b&mode=ro", "v", {"", "host:h", 1234}, "a@b", "ro"},
        Good{"rnbd://10.0.0.1/v?path=ip:10.0.1.1&path=ip:10.0.2.1",
             "v",
             {"", "ip:10.0.0.1", 1234},
             "",
             "rw",
             3},
        Good{"rnbd://10.0.0.1/v?src=10.0.0.9", "v", {"ip:10.0.0.9", "ip:10.0.0.1", 1234}},
        Good{"rnbd+unix:///v?socket=/run/r.sock", "v", {"", "unix:/run/r.sock", 1234}}));

struct Bad {
  const char* uri;
  const char* word;
};
class UriRefused : public testing::TestWithParam<Bad> {};

TEST_P(UriRefused, WithTheCulpritNamed) {
  auto request = parse_uri(GetParam().uri);
  ASSERT_FALSE(request) << GetParam().uri;
  EXPECT_EQ(request.error().code, ProblemCode::usage);
  EXPECT_NE(request.error().text().find(GetParam().word), std::string::npos)
      << request.error().text();
}

INSTANTIATE_TEST_SUITE_P(
    Table, UriRefused,
    testing::Values(
        Bad{"vol0", "not a URI"}, Bad{"rndb://h/v", "did you mean 'rnbd'"},
        Bad{"rnbds://h/v", "not supported"}, Bad{"rnbd:///v", "no host"},
        Bad{"rnbd://h", "no volume"}, Bad{"rnbd://h/", "no volume"}, Bad{"rnbd://h:0/v", "port"},
        Bad{"rnbd://h:99999/v", "port"}, Bad{"rnbd://h:x/v", "port"}, Bad{"rnbd://h:/v", "port"},
        Bad{"rnbd://fd00::1/v", "brackets"}, Bad{"rnbd://[fd00::1/v", "not closed"},
        Bad{"rnbd://[h]/v", "IPv6"}, Bad{"rnbd://[::1]x/v", "port"}, Bad{"rnbd://u@h/v", "user"},
        Bad{"rnbd://h/v#x", "%23"}, Bad{"rnbd://h/a%", "%XX"}, Bad{"rnbd://h/a%4", "%XX"},
        Bad{"rnbd://h/a%zz", "%XX"}, Bad{"rnbd://h/a%00b", "control"},
        Bad{"rnbd://h/v?mod=ro", "did you mean 'mode'"}, Bad{"rnbd://h/v?mode=RO", "mode"},
        Bad{"rnbd://h/v?mode", "no value"}, Bad{"rnbd://h/v?sess=a.b", "sess"},
        Bad{"rnbd://h/v?path=10.0.0.1", "prefix"}, Bad{"rnbd://h/v?socket=/x", "rnbd+unix"},
        Bad{"rnbd+unix:///v", "socket"}, Bad{"rnbd+unix://h/v?socket=/x", "no host"}));

TEST(Uri, RefusesNamesBeyondTheProtocolsLimit) {
  EXPECT_TRUE(parse_uri("rnbd://h/" + std::string(254, 'v')));
  EXPECT_FALSE(parse_uri("rnbd://h/" + std::string(255, 'v')));
}

}  // namespace
}  // namespace rnbd::daemon
