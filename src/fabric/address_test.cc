#include "fabric/address.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cerrno>

namespace rnbd::fabric {
namespace {

TEST(Address, PrintsWhatItParsed) {
  for (const char* text :
       {"ip:10.50.100.66", "ip:fd00:2::1", "ip:::1", "unix:/run/rnbd.sock", "unix:@name"}) {
    auto address = Address::parse(text, 1234);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->to_string(), text);
  }
  EXPECT_EQ(Address::parse("ip:10.0.0.1", 1234)->to_string_with_port(), "ip:10.0.0.1 port 1234");
  EXPECT_EQ(Address::parse("ip:fd00:0002:0:0::1", 1)->to_string(), "ip:fd00:2::1");
  EXPECT_EQ(Address::parse("ip:fe80::1%lo", 1)->to_string(), "ip:fe80::1%lo");
}

TEST(Address, RefusesWithTheKernelsErrno) {
  for (const char* text : {"10.0.0.1", "xy:10.0.0.1", "", "dns:host"}) {
    EXPECT_EQ(Address::parse(text, 1).error(), from_errno(EPROTONOSUPPORT)) << text;
  }
  for (const char* text :
       {"ip:", "ip:10.0.0", "ip:10.0.0.256", "ip:host", "ip:fe80::1%nosuch0", "unix:"}) {
    EXPECT_EQ(Address::parse(text, 1).error(), from_errno(EINVAL)) << text;
  }
  EXPECT_EQ(Address::parse("unix:/" + std::string(200, 'x'), 1).error(), from_errno(EINVAL));
}

TEST(Address, MappedIpv4IsIpv4) {
  sockaddr_in6 mapped{};
  mapped.sin6_family = AF_INET6;
  mapped.sin6_port = htons(99);
  mapped.sin6_addr.s6_addr[10] = mapped.sin6_addr.s6_addr[11] = 0xff;
  mapped.sin6_addr.s6_addr[12] = 127;
  mapped.sin6_addr.s6_addr[15] = 1;
  const auto address = Address::from_sockaddr(reinterpret_cast<sockaddr*>(&mapped), sizeof mapped);
  EXPECT_EQ(address.to_string(), "ip:127.0.0.1");
  EXPECT_EQ(address.port(), 99);
  EXPECT_TRUE(address.is_loopback());
  EXPECT_TRUE(address.same_host(*Address::parse("ip:127.0.0.1", 1)));
  EXPECT_FALSE(address.same_host(*Address::parse("ip:127.0.0.2", 99)));
}

TEST(PathAddress, TakesSourceBeforeCommaOrAt) {
  for (const char* text : {"ip:10.0.0.2@ip:10.0.0.1", "ip:10.0.0.2,ip:10.0.0.1"}) {
    auto path = PathAddress::parse(text, 1234);
    ASSERT_TRUE(path) << text;
    EXPECT_EQ(path->to_string(), "ip:10.0.0.2@ip:10.0.0.1");
    EXPECT_EQ(path->destination.port(), 1234);
  }
  EXPECT_EQ(PathAddress::parse("ip:10.0.0.1", 1)->to_string(), "ip:10.0.0.1");
  EXPECT_EQ(PathAddress::parse("unix:@abstract", 1)->to_string(), "unix:@abstract");
}

TEST(Address, RdmaAndTcpLeaveNoChoiceAndPrintAsIp) {
  const auto rdma = Address::parse("rdma:10.0.0.1", 1234);
  const auto tcp = Address::parse("tcp:fd00::1", 99);
  ASSERT_TRUE(rdma && tcp);
  EXPECT_EQ(rdma->transport(), Transport::rdma);
  EXPECT_EQ(rdma->to_string(), "ip:10.0.0.1");
  EXPECT_EQ(tcp->transport(), Transport::tcp);
  EXPECT_EQ(tcp->to_string_with_port(), "ip:fd00::1 port 99");
  EXPECT_EQ(Address::parse("ip:10.0.0.1", 1)->transport(), Transport::any);
  EXPECT_EQ(Address::parse("rdma:example", 1).error(), from_errno(EINVAL));
  for (const char* spec : {"rdma:10.0.0.1", "tcp:fd00::1", "ip:10.0.0.1", "unix:/x",
                           "gid:fe80:0000:0000:0000:5054:00ff:fe12:3456"})
    EXPECT_EQ(Address::parse(spec, 1)->to_spec(), spec);
}

TEST(Address, AGidIsAnInfinibandAddressOnItsPort) {
  const auto gid = Address::parse("gid:fe80::5054:ff:fe12:3456", 1234);
  ASSERT_TRUE(gid);
  EXPECT_EQ(gid->to_string(), "gid:fe80:0000:0000:0000:5054:00ff:fe12:3456");
  EXPECT_EQ(gid->port(), 1234);
  EXPECT_EQ(gid->transport(), Transport::rdma);
  EXPECT_TRUE(gid->same_host(*Address::parse("gid:fe80:0:0:0:5054:ff:fe12:3456", 1)));
  EXPECT_FALSE(gid->same_host(*Address::parse("gid:fe80::1", 1234)));
  EXPECT_EQ(Address::parse("gid:10.0.0.1", 1).error(), from_errno(EINVAL));
}

TEST(PathAddress, ErrorsInTheSourceAreEinval) {
  EXPECT_EQ(PathAddress::parse("xx:1@ip:10.0.0.1", 1).error(), from_errno(EINVAL));
  EXPECT_EQ(PathAddress::parse("ip:10.0.0.2@xx:1", 1).error(), from_errno(EPROTONOSUPPORT));
  EXPECT_EQ(PathAddress::parse("ip:10.0.0.2@ip:x", 1).error(), from_errno(EINVAL));
}

}  // namespace
}  // namespace rnbd::fabric
