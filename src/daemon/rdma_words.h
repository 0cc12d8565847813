#pragma once
// Why an address that only RDMA reaches cannot be used, in words. Pure.

#include <cstdint>

namespace rnbd::daemon {

// What stands between this daemon and RDMA; `possible`: at most a device.
enum class Rdma : std::uint8_t { possible, off, not_built };

struct RdmaWords {
  const char* why;  // "no RDMA device here leads to ..."
  const char* hint;
};

constexpr RdmaWords rdma_words(Rdma rdma) {
  switch (rdma) {
    case Rdma::not_built:
      return {"this build has no RDMA, and no other way leads to",
              "use an ip: or tcp: address, or a build with libibverbs and librdmacm"};
    case Rdma::off:
      return {"RDMA is off in this daemon, and no other way leads to",
              "see 'rdma' in its configuration and the start of its log; ip: and tcp: addresses "
              "need none"};
    case Rdma::possible:
      break;
  }
  return {"no RDMA device here leads to",
          "'rdma link show' lists the devices; ip: and tcp: addresses need none"};
}

}  // namespace rnbd::daemon
