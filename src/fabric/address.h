#pragma once
// Addresses as RTRS writes them: ip:10.0.0.1, ip:fd00::1, ip:fe80::1%eth0, gid:fe80::…; and ours:
// rdma:10.0.0.1 and tcp:10.0.0.1, which leave no choice, and unix:/run/x.sock. No names: whoever
// has a host name resolves it first.

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace rnbd::fabric {

// What may carry a path: `any` is RDMA where a device routes there, else TCP.
enum class Transport : std::uint8_t { any, rdma, tcp };

class Address {
 public:
  Address() = default;
  // EPROTONOSUPPORT for an unknown prefix, EINVAL for what cannot be parsed behind it.
  static Result<Address> parse(std::string_view text, std::uint16_t port);
  static Address from_sockaddr(const sockaddr* address, socklen_t length);

  bool empty() const { return length_ == 0; }
  bool is_unix() const { return storage_.ss_family == AF_UNIX; }
  Transport transport() const { return transport_; }
  void set_transport(Transport transport) { transport_ = transport; }
  bool is_loopback() const;  // 127/8, ::1, Unix sockets
  int family() const { return storage_.ss_family; }
  const sockaddr* data() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t length() const { return length_; }
  std::uint16_t port() const;
  void set_port(std::uint16_t port);
  std::string to_string() const;            // "ip:10.0.0.1": no port, no transport, as RTRS does
  std::string to_spec() const;              // the same with the transport: parse() gives it back
  std::string to_string_with_port() const;  // "ip:10.0.0.1 port 1234"
  // Same host address, whatever the port (RTRS compares paths so).
  bool same_host(const Address& other) const;

 private:
  sockaddr_storage storage_{};
  socklen_t length_ = 0;
  Transport transport_ = Transport::any;
};

// "<dst>", "<src>@<dst>" or "<src>,<dst>".
struct PathAddress {
  Address source;  // empty: chosen by routing
  Address destination;
  static Result<PathAddress> parse(std::string_view text, std::uint16_t port);
  std::string to_string() const;  // "<src>@<dst>"
  std::string to_spec() const;    // parse() gives it back
};

}  // namespace rnbd::fabric
