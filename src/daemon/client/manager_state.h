#pragma once
// The records of Manager, shared by its two halves (mapping, and unmapping with what is told).

#include "daemon/client/manager.h"

namespace rnbd::daemon {

struct Manager::Session {
  std::string name;
  std::unique_ptr<client::Client> client;
  int poll_queues = 0;
  unsigned users = 0;  // mappings that hold it
  bool closing = false;
  bool closed = false;
  std::vector<std::function<void()>> after_close;  // maps that wait for the name to be free
};

struct Manager::Mapping final : block::DeviceWatcher {
  Mapping(Manager& owner, Timers& timers)
      : manager(owner), timeout(Timer::of<&Mapping::on_timeout>(timers, this)) {}
  void on_timeout() { manager.on_timeout(*this); }
  void on_resized(std::uint64_t) override { manager.frontends_.resized(presence); }

  Manager& manager;
  Timer timeout;
  MapRequest request;
  std::vector<std::vector<PathSpec>> alternatives;  // further addresses of the hosts named
  State state = State::resolving;
  unsigned number = 0;
  Session* session = nullptr;
  client::RemoteDevice* device = nullptr;
  Presence presence;
  std::vector<ManagerReply> waiting;  // for the end of the mapping
  bool abandoned = false;             // nobody waits any more: unmap as soon as it is there
  bool force = false;                 // leaving by force
};

}  // namespace rnbd::daemon
