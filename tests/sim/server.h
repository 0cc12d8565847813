#pragma once
// A host with a server process on it, through kills and reboots. What a killed process was lives on
// as a ghost that reaches neither peers nor disks, until its objects have been taken down in order.

#include <memory>
#include <vector>

#include "base/random.h"
#include "fabric/sim/fabric.h"
#include "fabric/sim/host.h"
#include "rnbd/server/exports.h"
#include "rtrs/server/server.h"
#include "sim/config.h"
#include "sim/disk.h"
#include "sim/request_watch.h"

namespace rnbd::sim_test {

inline constexpr std::uint16_t kPort = 1234;

class ServerProcess {
 public:
  ServerProcess(fabric::sim::World& world, fabric::sim::Host& host, const Config& config,
                const wire::Extension& identity, const std::vector<Disk*>& disks,
                const Report& report);
  void stop();  // in order
  void kill();  // it is a ghost from now on
  bool stopped() const { return stopped_; }
  rtrs::server::Server& server() { return *server_; }
  server::Exports& exports() { return *exports_; }

 private:
  fabric::sim::World& world_;
  SeededRandom random_;
  std::shared_ptr<Process> process_;  // shared with the handles of its disks
  Opener opener_;
  std::vector<fabric::sim::SimFabric*> fabrics_;
  std::unique_ptr<server::Exports> exports_;
  std::unique_ptr<RequestWatch> watch_;
  std::unique_ptr<rtrs::server::Server> server_;
  bool stopping_ = false;
  bool stopped_ = false;
};

class ServerHost {
 public:
  ServerHost(fabric::sim::World& world, std::size_t number, const Config& config,
             const Report& report);

  fabric::sim::Host& host() { return host_; }
  std::size_t number() const { return number_; }
  Disk& add_disk(const VolumeConfig& volume, VolumeModel& model);
  const std::vector<std::unique_ptr<Disk>>& disks() const { return disks_; }
  fabric::Address address(std::size_t path) const { return host_.address_with_port(kPort, path); }

  bool running() const { return host_.up() && !processes_.empty(); }
  ServerProcess& process() { return *processes_.back(); }
  void start();
  void stop();                                      // the process, in order
  void kill(fabric::sim::Host::Death death);        // the process; its disks live on
  void lose_power(fabric::sim::Host::Death death);  // the host
  bool all_stopped() const;

 private:
  fabric::sim::World& world_;
  const std::size_t number_;
  const Config& config_;
  const Report& report_;
  fabric::sim::Host& host_;
  Uuid boot_;
  std::vector<std::unique_ptr<Disk>> disks_;
  std::vector<std::unique_ptr<ServerProcess>> processes_;
};

}  // namespace rnbd::sim_test
