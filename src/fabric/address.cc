#include "fabric/address.h"

#include <arpa/inet.h>
#include <endian.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <cstring>

namespace rnbd::fabric {
namespace {

const sockaddr_in& v4(const sockaddr* a) { return *reinterpret_cast<const sockaddr_in*>(a); }
const sockaddr_in6& v6(const sockaddr* a) { return *reinterpret_cast<const sockaddr_in6*>(a); }
const sockaddr_un& un(const sockaddr* a) { return *reinterpret_cast<const sockaddr_un*>(a); }

// The path of a Unix address; an abstract name starts with '@'.
std::string unix_path(const sockaddr_un& address, socklen_t length) {
  const auto used = static_cast<std::size_t>(length) - offsetof(sockaddr_un, sun_path);
  if (used == 0) return {};
  if (address.sun_path[0] == '\0') return "@" + std::string(address.sun_path + 1, used - 1);
  return std::string(address.sun_path, strnlen(address.sun_path, used));
}

Result<Address> parse_unix(std::string_view path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return fail_errno(EINVAL);
  std::memcpy(address.sun_path, path.data(), path.size());
  std::size_t length = offsetof(sockaddr_un, sun_path) + path.size() + 1;
  if (path.front() == '@') {  // abstract: no terminator, every byte counts
    address.sun_path[0] = '\0';
    --length;
  }
  return Address::from_sockaddr(reinterpret_cast<const sockaddr*>(&address),
                                static_cast<socklen_t>(length));
}

bool parse_scope(std::string_view scope, std::uint32_t& id) {
  const auto [end, error] = std::from_chars(scope.data(), scope.data() + scope.size(), id);
  if (error == std::errc{} && end == scope.data() + scope.size()) return id != 0;
  id = ::if_nametoindex(std::string(scope).c_str());
  return id != 0;
}

Result<Address> parse_ip(std::string_view text, std::uint16_t port) {
  sockaddr_in ip4{};
  ip4.sin_family = AF_INET;
  ip4.sin_port = htons(port);
  const std::string whole(text);
  if (::inet_pton(AF_INET, whole.c_str(), &ip4.sin_addr) == 1) {
    return Address::from_sockaddr(reinterpret_cast<const sockaddr*>(&ip4), sizeof ip4);
  }
  sockaddr_in6 ip6{};
  ip6.sin6_family = AF_INET6;
  ip6.sin6_port = htons(port);
  const auto percent = text.find('%');
  if (percent != std::string_view::npos &&
      !parse_scope(text.substr(percent + 1), ip6.sin6_scope_id)) {
    return fail_errno(EINVAL);
  }
  if (::inet_pton(AF_INET6, std::string(text.substr(0, percent)).c_str(), &ip6.sin6_addr) != 1) {
    return fail_errno(EINVAL);
  }
  return Address::from_sockaddr(reinterpret_cast<const sockaddr*>(&ip6), sizeof ip6);
}

// InfiniBand's own addresses: struct sockaddr_ib of infiniband/ib.h.
constexpr int kFamilyIb = 27;  // AF_IB
constexpr std::uint64_t kServiceIdMask = 0xffffffffffffffffU;
constexpr std::uint64_t kServiceIdPortSpaceIb = 0x013f0000;  // RDMA_IB_IP_PS_IB; the port below
struct SockaddrIb {
  std::uint16_t family = 0;
  std::uint16_t pkey = 0;
  std::uint32_t flow_info = 0;
  in6_addr gid{};
  std::uint64_t service_id = 0;
  std::uint64_t service_id_mask = 0;
  std::uint64_t scope_id = 0;
};
static_assert(sizeof(SockaddrIb) == 48);
const SockaddrIb& ib(const sockaddr* a) { return *reinterpret_cast<const SockaddrIb*>(a); }

Result<Address> parse_gid(std::string_view text, std::uint16_t port) {
  SockaddrIb address;
  address.family = kFamilyIb;
  address.pkey = 0xffff;
  address.service_id = htobe64(kServiceIdPortSpaceIb | port);
  address.service_id_mask = kServiceIdMask;
  if (::inet_pton(AF_INET6, std::string(text).c_str(), &address.gid) != 1)
    return fail_errno(EINVAL);
  return Address::from_sockaddr(reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

// All eight groups, as the kernel prints it.
std::string gid_text(const in6_addr& gid) {
  std::string text = "gid";
  for (std::size_t i = 0; i < sizeof gid.s6_addr; i += 2) {
    char group[6];
    std::snprintf(group, sizeof group, ":%02x%02x", gid.s6_addr[i], gid.s6_addr[i + 1]);
    text += group;
  }
  return text;
}

Result<Address> only_by(Transport transport, Result<Address> address) {
  if (address) address->set_transport(transport);
  return address;
}

}  // namespace

Result<Address> Address::parse(std::string_view text, std::uint16_t port) {
  const auto colon = text.find(':');
  if (colon == std::string_view::npos) return fail_errno(EPROTONOSUPPORT);
  const std::string_view prefix = text.substr(0, colon);
  const std::string_view rest = text.substr(colon + 1);
  if (prefix == "ip") return parse_ip(rest, port);
  if (prefix == "rdma") return only_by(Transport::rdma, parse_ip(rest, port));
  if (prefix == "tcp") return only_by(Transport::tcp, parse_ip(rest, port));
  if (prefix == "gid") return only_by(Transport::rdma, parse_gid(rest, port));
  if (prefix == "unix") return parse_unix(rest);
  return fail_errno(EPROTONOSUPPORT);
}

Address Address::from_sockaddr(const sockaddr* address, socklen_t length) {
  Address result;
  if (length > sizeof result.storage_) return result;
  std::memcpy(&result.storage_, address, length);
  result.length_ = length;
  if (result.family() != AF_INET6) return result;
  // An IPv4 peer of an IPv6 listener is an IPv4 peer.
  const sockaddr_in6& six = v6(result.data());
  if (!IN6_IS_ADDR_V4MAPPED(&six.sin6_addr)) return result;
  sockaddr_in four{};
  four.sin_family = AF_INET;
  four.sin_port = six.sin6_port;
  std::memcpy(&four.sin_addr, six.sin6_addr.s6_addr + 12, 4);
  return from_sockaddr(reinterpret_cast<const sockaddr*>(&four), sizeof four);
}

bool Address::is_loopback() const {
  switch (family()) {
    case AF_UNIX:
      return true;
    case AF_INET:
      return (ntohl(v4(data()).sin_addr.s_addr) >> 24) == 127;
    case AF_INET6:
      return IN6_IS_ADDR_LOOPBACK(&v6(data()).sin6_addr);
    default:
      return false;
  }
}

std::uint16_t Address::port() const {
  switch (family()) {
    case AF_INET:
      return ntohs(v4(data()).sin_port);
    case AF_INET6:
      return ntohs(v6(data()).sin6_port);
    case kFamilyIb:
      return static_cast<std::uint16_t>(be64toh(ib(data()).service_id));
    default:
      return 0;
  }
}

void Address::set_port(std::uint16_t port) {
  if (family() == AF_INET) reinterpret_cast<sockaddr_in*>(&storage_)->sin_port = htons(port);
  if (family() == AF_INET6) reinterpret_cast<sockaddr_in6*>(&storage_)->sin6_port = htons(port);
}

std::string Address::to_string() const {
  char text[INET6_ADDRSTRLEN];
  switch (empty() ? AF_UNSPEC : family()) {
    case AF_UNIX:
      return "unix:" + unix_path(un(data()), length_);
    case AF_INET:
      ::inet_ntop(AF_INET, &v4(data()).sin_addr, text, sizeof text);
      return std::string("ip:") + text;
    case AF_INET6: {
      ::inet_ntop(AF_INET6, &v6(data()).sin6_addr, text, sizeof text);
      std::string result = std::string("ip:") + text;
      char name[IF_NAMESIZE];
      const std::uint32_t scope = v6(data()).sin6_scope_id;
      if (scope != 0) {
        result += '%';
        result +=
            ::if_indextoname(scope, name) != nullptr ? std::string(name) : std::to_string(scope);
      }
      return result;
    }
    case kFamilyIb:
      return gid_text(ib(data()).gid);
    default:
      return "none";
  }
}

std::string Address::to_spec() const {
  const std::string text = to_string();
  if (transport_ == Transport::any || !text.starts_with("ip:")) return text;
  return (transport_ == Transport::rdma ? "rdma" : "tcp") + text.substr(2);
}

std::string Address::to_string_with_port() const {
  if (empty() || is_unix()) return to_string();
  return to_string() + " port " + std::to_string(port());
}

bool Address::same_host(const Address& other) const {
  if (empty() || other.empty() || family() != other.family()) return empty() && other.empty();
  switch (family()) {
    case AF_UNIX:
      return unix_path(un(data()), length_) == unix_path(un(other.data()), other.length_);
    case AF_INET:
      return v4(data()).sin_addr.s_addr == v4(other.data()).sin_addr.s_addr;
    case AF_INET6:
      return std::memcmp(&v6(data()).sin6_addr, &v6(other.data()).sin6_addr, sizeof(in6_addr)) ==
                 0 &&
             v6(data()).sin6_scope_id == v6(other.data()).sin6_scope_id;
    case kFamilyIb:
      return std::memcmp(&ib(data()).gid, &ib(other.data()).gid, sizeof(in6_addr)) == 0;
    default:
      return false;
  }
}

Result<PathAddress> PathAddress::parse(std::string_view text, std::uint16_t port) {
  auto separator = text.find(',');
  if (separator == std::string_view::npos) separator = text.find('@');
  // "unix:@name" is an abstract socket, not a source before an '@'.
  if (text.substr(0, 5) == "unix:") separator = std::string_view::npos;
  PathAddress path;
  if (separator != std::string_view::npos) {
    auto source = Address::parse(text.substr(0, separator), 0);
    if (!source) return fail_errno(EINVAL);
    path.source = *source;
    text = text.substr(separator + 1);
  }
  auto destination = Address::parse(text, port);
  if (!destination) return fail(destination.error());
  path.destination = *destination;
  return path;
}

std::string PathAddress::to_spec() const {
  // A comma is looked for first: an interface's name may contain an '@'.
  return source.empty() ? destination.to_spec() : source.to_spec() + "," + destination.to_spec();
}

std::string PathAddress::to_string() const {
  return source.empty() ? destination.to_string()
                        : source.to_string() + "@" + destination.to_string();
}

}  // namespace rnbd::fabric
