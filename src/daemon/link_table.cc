#include "daemon/link_table.h"

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <optional>

namespace rnbd::daemon {
namespace {

using Bytes = std::span<const std::byte>;

// IFF_LOWER_UP, which <net/if.h> lacks and <linux/if.h> cannot be had beside it.
constexpr unsigned kLowerUp = 1U << 16;

template <class T>
std::optional<T> copy_of(Bytes bytes) {
  if (bytes.size() < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

constexpr std::size_t aligned(std::size_t length) { return (length + 3) & ~std::size_t{3}; }

// The attribute of that type in a list of them.
Bytes attribute(Bytes list, unsigned short type) {
  while (auto header = copy_of<rtattr>(list)) {
    if (header->rta_len < sizeof(rtattr) || header->rta_len > list.size()) return {};
    if (header->rta_type == type)
      return list.subspan(sizeof(rtattr), header->rta_len - sizeof(rtattr));
    list = list.subspan(std::min(aligned(header->rta_len), list.size()));
  }
  return {};
}

fabric::Address address_of(int family, int index, Bytes bytes) {
  if (family == AF_INET && bytes.size() == sizeof(in_addr)) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    std::memcpy(&name.sin_addr, bytes.data(), bytes.size());
    return fabric::Address::from_sockaddr(reinterpret_cast<const sockaddr*>(&name), sizeof name);
  }
  if (family == AF_INET6 && bytes.size() == sizeof(in6_addr)) {
    sockaddr_in6 name{};
    name.sin6_family = AF_INET6;
    std::memcpy(&name.sin6_addr, bytes.data(), bytes.size());
    if (IN6_IS_ADDR_LINKLOCAL(&name.sin6_addr))
      name.sin6_scope_id = static_cast<std::uint32_t>(index);
    return fabric::Address::from_sockaddr(reinterpret_cast<const sockaddr*>(&name), sizeof name);
  }
  return {};
}

}  // namespace

LinkTable::Taken LinkTable::take(Bytes datagram) {
  Taken taken;
  while (auto header = copy_of<nlmsghdr>(datagram)) {
    if (header->nlmsg_len < sizeof(nlmsghdr) || header->nlmsg_len > datagram.size()) break;
    const Bytes body = datagram.subspan(sizeof(nlmsghdr), header->nlmsg_len - sizeof(nlmsghdr));
    switch (header->nlmsg_type) {
      case RTM_NEWLINK:
      case RTM_DELLINK:
        take_link(header->nlmsg_type == RTM_DELLINK, body, taken.changes);
        break;
      case RTM_NEWADDR:
      case RTM_DELADDR:
        take_address(header->nlmsg_type == RTM_DELADDR, body, taken.changes);
        break;
      case NLMSG_DONE:  // with an errno where the kernel had to stop
        (copy_of<int>(body).value_or(0) < 0 ? taken.dump_failed : taken.dump_done) = true;
        break;
      case NLMSG_ERROR:  // both begin with the errno
        taken.dump_failed = true;
        break;
      default:
        break;
    }
    datagram = datagram.subspan(std::min(aligned(header->nlmsg_len), datagram.size()));
  }
  return taken;
}

void LinkTable::set_running(Link& link, bool running, std::vector<LinkChange>& changes) {
  if (link.running == running) return;
  link.running = running;
  for (const Place& place : link.places) changes.push_back({place.address, running});
}

void LinkTable::take_link(bool gone, Bytes body, std::vector<LinkChange>& changes) {
  const auto info = copy_of<ifinfomsg>(body);
  if (!info || info->ifi_family != AF_UNSPEC) return;  // bridges speak of their ports as well
  if (gone) {
    auto at = links_.find(info->ifi_index);
    if (at == links_.end()) return;
    set_running(at->second, false, changes);
    links_.erase(at);
    return;
  }
  Link& link = links_[info->ifi_index];
  link.seen = true;
  constexpr unsigned kBoth = IFF_UP | kLowerUp;
  set_running(link, (info->ifi_flags & kBoth) == kBoth, changes);
}

void LinkTable::take_address(bool gone, Bytes body, std::vector<LinkChange>& changes) {
  const auto info = copy_of<ifaddrmsg>(body);
  if (!info) return;
  const int index = static_cast<int>(info->ifa_index);
  const Bytes attributes = body.subspan(std::min(aligned(sizeof(ifaddrmsg)), body.size()));
  // On a link to one peer IFA_ADDRESS is that peer's.
  Bytes bytes = attribute(attributes, IFA_LOCAL);
  if (bytes.empty()) bytes = attribute(attributes, IFA_ADDRESS);
  const fabric::Address address = address_of(info->ifa_family, index, bytes);
  if (address.empty()) return;
  Link& link = links_[index];
  auto at = std::find_if(link.places.begin(), link.places.end(),
                         [&](const Place& place) { return place.address.same_host(address); });
  if (gone) {
    if (at == link.places.end()) return;
    link.places.erase(at);
    if (link.running) changes.push_back({address, false});
    return;
  }
  // One that is still being checked for doubles cannot be used: it is told again when it can.
  if ((info->ifa_flags & IFA_F_TENTATIVE) != 0) return;
  if (at != link.places.end()) return void(at->seen = true);
  link.places.push_back({.address = address, .seen = true});
  if (link.running) changes.push_back({address, true});
}

void LinkTable::begin_dump() {
  for (auto& [index, link] : links_) {
    link.seen = false;
    for (Place& place : link.places) place.seen = false;
  }
}

std::vector<LinkChange> LinkTable::end_dump() {
  std::vector<LinkChange> changes;
  for (auto& [index, link] : links_) {
    for (const Place& place : link.places) {
      if (link.running && (!place.seen || !link.seen)) changes.push_back({place.address, false});
    }
    std::erase_if(link.places, [](const Place& place) { return !place.seen; });
  }
  std::erase_if(links_, [](const auto& entry) { return !entry.second.seen; });
  return changes;
}

}  // namespace rnbd::daemon
