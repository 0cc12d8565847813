#pragma once
// A host with a client process on it: one RNBD client per server, and what is mounted over them. A
// killed process leaves a ghost that reaches nobody until it was taken down; its successor resumes
// the sessions it had recorded and does again what the predecessor had under way.

#include <memory>
#include <optional>
#include <vector>

#include "base/random.h"
#include "fabric/sim/fabric.h"
#include "rnbd/client/remote_device.h"
#include "sim/config.h"
#include "sim/server.h"

namespace rnbd::sim_test {

class Mount;

// What outlives the processes of a client: its disk.
struct ClientRecord {
  std::vector<std::optional<rtrs::client::SessionIdentity>> identities;  // by server
};

class ClientProcess {
 public:
  ClientProcess(fabric::sim::World& world, fabric::sim::Host& host, const Config& config,
                const std::vector<std::unique_ptr<ServerHost>>& servers, ClientRecord& record,
                std::size_t number);
  ~ClientProcess();

  client::Client& client(std::size_t server) { return *clients_[server]; }
  fabric::sim::SimLoop& loop(std::size_t index = 0) { return fabrics_[index]->sim_loop(); }
  std::size_t loops() const { return fabrics_.size(); }
  bool dead() const { return dead_; }
  void kill() { dead_ = true; }
  // When no device is open any more; those being opened are given up.
  void close();
  std::size_t devices_open = 0;  // for the mounts to count
  bool closed() const { return clients_closed_ == clients_.size(); }

 private:
  void close_clients();
  bool dead_ = false;
  bool closing_ = false;
  SeededRandom random_;
  std::vector<fabric::sim::SimFabric*> fabrics_;
  std::vector<std::unique_ptr<client::Client>> clients_;  // by server
  std::size_t clients_closed_ = 0;
  fabric::sim::World& world_;
  fabric::sim::Event close_ =
      fabric::sim::Event::of<&ClientProcess::close_clients>(fabric::sim::EventKind::call, this);
};

}  // namespace rnbd::sim_test
