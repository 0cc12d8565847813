#pragma once
// Hears from the kernel when a link of this machine, or an address on it, comes or goes, in the
// network namespace it was made in. Lives on one reactor.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "daemon/link_table.h"
#include "reactor/reactor.h"

namespace rnbd::daemon {

class LinkWatch final {
 public:
  using Heard = std::function<void(const fabric::Address& local, bool up)>;

  // `heard` is called from the reactor; for what is there from the start as well.
  static Result<std::unique_ptr<LinkWatch>> start(Reactor& reactor, Heard heard);

 private:
  // Links first, as an address means nothing without its link; one dump at a time.
  enum class Dump : std::uint8_t { none, links, addresses };

  LinkWatch(Reactor& reactor, UniqueFd fd, Heard heard);
  void on_ready(std::uint32_t events);
  void take(std::span<const std::byte> datagram);
  void ask(Dump what);
  void tell(const std::vector<LinkChange>& changes);

  Heard heard_;
  UniqueFd fd_;
  LinkTable table_;
  Dump dump_ = Dump::none;
  bool again_ = false;  // messages were missed while a dump ran
  std::vector<std::byte> buffer_;
  Watch watch_ = Watch::of<&LinkWatch::on_ready>(this);
};

}  // namespace rnbd::daemon
