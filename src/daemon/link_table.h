#pragma once
// The machine's links and addresses, kept from rtnetlink messages, and what changed with each: an
// address can carry traffic while it is there and its link is up with a carrier. Pure.

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "fabric/address.h"

namespace rnbd::daemon {

struct LinkChange {
  fabric::Address address;  // of this machine; no port
  bool up = false;
};

class LinkTable final {
 public:
  // One or several messages of one datagram, from the kernel (linux/rtnetlink.h). Of damaged ones
  // the sound beginning counts.
  struct Taken {
    std::vector<LinkChange> changes;
    bool dump_done = false;    // the answer to a dump ended
    bool dump_failed = false;  // it was refused, or broke off: it says nothing of what it left out
  };
  Taken take(std::span<const std::byte> datagram);

  // A full dump of links and addresses follows (messages may have been missed): what it does not
  // name is gone when it ends.
  void begin_dump();
  std::vector<LinkChange> end_dump();

 private:
  struct Place {
    fabric::Address address;
    bool seen = true;  // in the dump under way
  };
  struct Link {
    bool running = false;
    bool seen = true;
    std::vector<Place> places;
  };
  void take_link(bool gone, std::span<const std::byte> body, std::vector<LinkChange>& changes);
  void take_address(bool gone, std::span<const std::byte> body, std::vector<LinkChange>& changes);
  void set_running(Link& link, bool running, std::vector<LinkChange>& changes);

  std::map<int, Link> links_;  // by index
};

}  // namespace rnbd::daemon
