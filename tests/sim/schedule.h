#pragma once
// One schedule: a world drawn from a seed, its hosts at work, faults, the end of all faults, and
// the final reckoning.

#include <memory>
#include <vector>

#include "sim/kernel_client.h"
#include "sim/mount.h"

namespace rnbd::sim_test {

struct Outcome {
  std::uint64_t trace_hash = 0;
  std::uint64_t events = 0;
  std::uint64_t operations = 0;  // of applications, ended
};

class Schedule {
 public:
  Schedule(const Config& config, Report& report, bool trace_events);
  ~Schedule();
  Outcome run();

 private:
  friend class Faults;
  struct Client {
    fabric::sim::Host* host = nullptr;
    ClientRecord record;
    std::vector<std::unique_ptr<ClientProcess>> processes;  // the last one may live
    std::vector<std::unique_ptr<Mount>> mounts;             // of all of them
    std::vector<MountOptions> to_mount;                     // by the next process
    std::uint64_t completed = 0;
  };

  Disk& disk(std::size_t volume) { return *disks_[volume]; }
  void start_client(std::size_t number);
  void kill_client(std::size_t number, fabric::sim::Host::Death death);
  void reap(Client& client);
  void reap_all();
  bool client_running(const Client& client) const;
  void plan_mounts();
  void plan_growth();
  bool sizes_are_shown();
  void stall_disks(Duration time);
  bool all_done();
  bool all_ended();
  void wait(const char* what, const std::function<bool()>& done);
  void finish();
  void check_end();

  const Config config_;
  Report& report_;
  fabric::sim::World world_;
  std::vector<std::unique_ptr<VolumeModel>> models_;
  std::vector<std::unique_ptr<ServerHost>> servers_;
  std::vector<Disk*> disks_;  // by volume
  std::vector<Client> clients_;
  fabric::sim::Host* kernel_host_ = nullptr;
  std::unique_ptr<KernelClient> kernel_;  // or none
};

// A schedule from its seed.
Outcome run_schedule(std::uint64_t seed, Report& report, bool trace_events);

}  // namespace rnbd::sim_test
