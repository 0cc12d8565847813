#include "daemon/link_table.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace rnbd::daemon {
namespace {

constexpr unsigned kUp = IFF_UP | (1U << 16);  // IFF_LOWER_UP

void append(std::string& text, const void* data, std::size_t length) {
  text.append(static_cast<const char*>(data), length);
}

std::string message(std::uint16_t type, const std::string& body) {
  nlmsghdr header{};
  header.nlmsg_len = static_cast<std::uint32_t>(sizeof header + body.size());
  header.nlmsg_type = type;
  std::string text;
  append(text, &header, sizeof header);
  return text + body;
}

std::string link(std::uint16_t type, int index, unsigned flags) {
  ifinfomsg info{};
  info.ifi_index = index;
  info.ifi_flags = flags;
  std::string body;
  append(body, &info, sizeof info);
  return message(type, body);
}

std::string address(std::uint16_t type, int index, const char* text, std::uint8_t flags = 0) {
  in6_addr bytes{};
  const bool v6 = std::string(text).find(':') != std::string::npos;
  inet_pton(v6 ? AF_INET6 : AF_INET, text, &bytes);
  ifaddrmsg info{};
  info.ifa_family = v6 ? AF_INET6 : AF_INET;
  info.ifa_index = static_cast<std::uint32_t>(index);
  info.ifa_flags = flags;
  rtattr attribute{};
  attribute.rta_len = static_cast<std::uint16_t>(sizeof attribute + (v6 ? 16 : 4));
  attribute.rta_type = v6 ? IFA_ADDRESS : IFA_LOCAL;
  std::string body;
  append(body, &info, sizeof info);
  append(body, &attribute, sizeof attribute);
  append(body, &bytes, v6 ? 16 : 4);
  return message(type, body);
}

std::string text_of(const std::vector<LinkChange>& changes) {
  std::string text;
  for (const LinkChange& change : changes)
    text += (change.up ? "+" : "-") + change.address.to_string() + " ";
  return text;
}

class LinkTableTest : public testing::Test {
 protected:
  std::string take(const std::string& datagram) {
    return text_of(table_.take(std::as_bytes(std::span(datagram))).changes);
  }
  LinkTable table_;
};

TEST_F(LinkTableTest, AnAddressComesAndGoesWithItsLink) {
  EXPECT_EQ(take(link(RTM_NEWLINK, 2, kUp)), "");
  EXPECT_EQ(take(address(RTM_NEWADDR, 2, "10.0.0.1")), "+ip:10.0.0.1 ");
  EXPECT_EQ(take(address(RTM_NEWADDR, 2, "fd00::1")), "+ip:fd00::1 ");
  EXPECT_EQ(take(link(RTM_NEWLINK, 2, IFF_UP)), "-ip:10.0.0.1 -ip:fd00::1 ");  // no carrier
  EXPECT_EQ(take(link(RTM_NEWLINK, 2, 0)), "");                                // already away
  EXPECT_EQ(take(link(RTM_NEWLINK, 2, kUp)), "+ip:10.0.0.1 +ip:fd00::1 ");
  EXPECT_EQ(take(link(RTM_DELLINK, 2, kUp)), "-ip:10.0.0.1 -ip:fd00::1 ");
  EXPECT_EQ(take(link(RTM_DELLINK, 2, kUp)), "");
}

TEST_F(LinkTableTest, AnAddressThatIsRemovedIsDownAndSaidOnce) {
  take(link(RTM_NEWLINK, 2, kUp));
  take(address(RTM_NEWADDR, 2, "10.0.0.1"));
  EXPECT_EQ(take(address(RTM_NEWADDR, 2, "10.0.0.1")), "");  // its lifetime was renewed
  EXPECT_EQ(take(address(RTM_DELADDR, 2, "10.0.0.1")), "-ip:10.0.0.1 ");
  EXPECT_EQ(take(address(RTM_DELADDR, 2, "10.0.0.1")), "");
  EXPECT_EQ(take(address(RTM_DELADDR, 9, "10.0.0.1")), "");
}

TEST_F(LinkTableTest, AnAddressOnALinkThatIsDownWaitsForIt) {
  take(link(RTM_NEWLINK, 2, 0));
  EXPECT_EQ(take(address(RTM_NEWADDR, 2, "10.0.0.1")), "");
  EXPECT_EQ(take(link(RTM_NEWLINK, 2, kUp)), "+ip:10.0.0.1 ");
}

TEST_F(LinkTableTest, AnAddressIsUsedWhenItWasFoundToBeUnique) {
  take(link(RTM_NEWLINK, 2, kUp));
  EXPECT_EQ(take(address(RTM_NEWADDR, 2, "fd00::1", IFA_F_TENTATIVE)), "");
  EXPECT_EQ(take(address(RTM_NEWADDR, 2, "fd00::1")), "+ip:fd00::1 ");
}

TEST_F(LinkTableTest, WhatADumpDoesNotNameIsGone) {
  take(link(RTM_NEWLINK, 2, kUp) + address(RTM_NEWADDR, 2, "10.0.0.1") +
       address(RTM_NEWADDR, 2, "10.0.0.2"));
  take(link(RTM_NEWLINK, 3, kUp) + address(RTM_NEWADDR, 3, "10.0.0.3"));
  table_.begin_dump();
  EXPECT_EQ(take(link(RTM_NEWLINK, 2, kUp)), "");
  EXPECT_EQ(take(address(RTM_NEWADDR, 2, "10.0.0.2")), "");
  EXPECT_EQ(text_of(table_.end_dump()), "-ip:10.0.0.1 -ip:10.0.0.3 ");
  EXPECT_EQ(take(link(RTM_NEWLINK, 3, kUp)), "");  // it came back without its address
}

TEST_F(LinkTableTest, ADumpThatIsRefusedOrBreaksOffIsNotOneThatEnded) {
  const auto taken = [this](std::uint16_t type, int error) {
    std::string body;
    append(body, &error, sizeof error);
    if (type == NLMSG_ERROR) body.append(sizeof(nlmsghdr), '\0');
    const std::string datagram = message(type, body);
    return table_.take(std::as_bytes(std::span(datagram)));
  };
  EXPECT_TRUE(taken(NLMSG_DONE, 0).dump_done);
  EXPECT_FALSE(taken(NLMSG_DONE, 0).dump_failed);
  EXPECT_TRUE(taken(NLMSG_DONE, -EINTR).dump_failed);
  EXPECT_FALSE(taken(NLMSG_DONE, -EINTR).dump_done);
  EXPECT_TRUE(taken(NLMSG_ERROR, -EBUSY).dump_failed);
  EXPECT_FALSE(taken(NLMSG_ERROR, -EBUSY).dump_done);
}

TEST_F(LinkTableTest, DamagedMessagesChangeNothingAndHarmNothing) {
  take(link(RTM_NEWLINK, 2, kUp) + address(RTM_NEWADDR, 2, "10.0.0.1"));
  const std::string whole = link(RTM_NEWLINK, 2, 0) + address(RTM_DELADDR, 2, "10.0.0.1");
  for (std::size_t length = 0; length < link(RTM_NEWLINK, 2, 0).size(); ++length)
    EXPECT_EQ(take(whole.substr(0, length)), "") << length;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (char value : {'\0', '\1', '\377'}) {
      std::string damaged = whole;
      damaged[at] = value;
      LinkTable other;
      other.take(std::as_bytes(std::span(damaged)));
    }
  }
}

TEST_F(LinkTableTest, TheEndOfADumpIsTold) {
  const std::string end = message(NLMSG_DONE, std::string(4, '\0'));
  EXPECT_TRUE(table_.take(std::as_bytes(std::span(end))).dump_done);
  const std::string other = link(RTM_NEWLINK, 2, 0);
  EXPECT_FALSE(table_.take(std::as_bytes(std::span(other))).dump_done);
}

}  // namespace
}  // namespace rnbd::daemon
