#pragma once
// The records of Manager, shared by its two halves (mapping, and unmapping with what is told).

#include <fmt/format.h>

#include "base/event.h"
#include "daemon/client/manager.h"

namespace rnbd::daemon {

// The same addresses, port and transport.
bool same_path(const fabric::PathAddress& one, const fabric::PathAddress& other);

struct Manager::Session {
  std::string name;
  std::unique_ptr<client::Client> client;
  rtrs::client::SessionIdentity identity;
  int poll_queues = 0;
  rtrs::PathPolicy policy{};
  rtrs::client::Failover failover{};
  int max_reconnect_attempts = -1;
  bool policy_set = false;        // at run time: a successor keeps it
  bool attempts_set = false;      // the same
  std::size_t paths_leaving = 0;  // being removed
  std::vector<NamedPath> names;   // of the paths that were given by a host's name
  unsigned users = 0;             // mappings that hold it
  bool closing = false;
  bool closed = false;
  std::vector<std::function<void()>> after_close;  // maps that wait for the name to be free
};

// What the words of an administrator mean.
struct Manager::PathsMeant {
  Session* session = nullptr;
  std::vector<std::size_t> indexes;
  bool all = false;  // the session was named
};

struct Manager::Mapping final : block::DeviceWatcher {
  Mapping(Manager& owner, Timers& timers)
      : manager(owner),
        timeout(Timer::of<&Mapping::on_timeout>(timers, this)),
        retry(Timer::of<&Mapping::on_retry>(timers, this)) {}
  void on_timeout() { manager.on_timeout(*this); }
  void on_retry() { manager.start(*this); }
  void on_resized(std::uint64_t size) override {
    log_event({.name = "volume_resized",
               .volume = request.device_path,
               .session = request.session,
               .device = fmt::format("rnbd{}", number)},
              "has {} bytes now", size);
    manager.frontends_.resized(presence, size);
  }

  Manager& manager;
  Timer timeout;
  Timer retry;  // of recovering
  MapRequest request;
  std::vector<PathSpec> asked;  // the request's paths before their names were resolved
  std::vector<std::vector<PathSpec>> alternatives;  // further addresses of the hosts named
  State state = State::resolving;
  unsigned number = 0;
  std::uint64_t ublk_tag = 0;            // of its ublk device, should it get one
  std::optional<std::uint32_t> ublk_id;  // left by a predecessor, to be taken over
  bool recovering = false;
  bool once = false;  // not remembered for the next boot
  // Of its session, should it open one: as they were set before the reboot.
  std::optional<rtrs::PathPolicy> policy;
  std::optional<int> max_reconnect_attempts;
  unsigned retries = 0;  // of recovering, so far
  std::string trouble;   // why recovering takes so long, as last told
  Session* session = nullptr;
  client::RemoteDevice* device = nullptr;
  std::optional<Duration> hold;  // set at run time: a successor keeps it
  Presence presence;
  std::vector<ManagerReply> waiting;  // for the end of the mapping
  bool abandoned = false;             // nobody waits any more: unmap as soon as it is there
  bool force = false;                 // leaving by force
};

}  // namespace rnbd::daemon
