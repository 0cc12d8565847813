#pragma once
// The disk under a volume, and its users: a handle for every open of a server process. It outlives
// the process, as the kernel does: requests handed over before the process was killed still take
// effect, none comes after, and the lock on it is held until the last of them has ended.
//
// Watches what the model cannot see: that only one session writes at a time (I4).

#include <memory>
#include <string>
#include <vector>

#include "fabric/sim/device.h"
#include "rnbd/server/exports.h"
#include "sim/config.h"
#include "sim/volume_model.h"

namespace rnbd::sim_test {

// One run of a server process, from start to kill.
struct Process {
  bool dead = false;
};

class DiskQueue;

class Disk {
 public:
  Disk(fabric::sim::World& world, const VolumeConfig& config, VolumeModel& model,
       const Report& report);

  fabric::sim::SimDevice& device() { return device_; }
  VolumeModel& model() { return model_; }
  const VolumeConfig& config() const { return config_; }
  // Some process other than this one has requests under way.
  bool locked_for(const Process& process) const;

  // Faults.
  void fail_next(std::uint32_t count, int error);
  void fail_flushes(std::uint32_t count);
  void power_cut();
  const bool& ever_failed() const { return ever_failed_; }
  bool flush_failed() const { return flush_failed_; }
  std::size_t open_handles() const { return handles_; }

 private:
  friend class DiskQueue;
  friend class DiskHandle;
  std::error_code on_request(const block::Request& request);
  void check_overlap(const block::Request& request) const;
  void on_told(const block::Request& request);
  void check_writer(const block::Request& request, const std::string& session) const;

  const VolumeConfig config_;
  VolumeModel& model_;
  const Report& report_;
  fabric::sim::SimDevice device_;
  std::vector<const DiskQueue*> queues_;
  std::vector<const block::Request*> changing_;  // the volume, of processes alive and dead
  std::size_t handles_ = 0;
  std::uint32_t fail_next_ = 0;
  int fail_with_ = 0;
  std::uint32_t fail_flushes_ = 0;
  std::uint32_t failing_ = 0;  // flushes that failed, and nobody was told yet
  bool ever_failed_ = false;
  bool flush_failed_ = false;  // and power has not been lost since
};

// What a server process opened.
class DiskHandle final : public block::Device {
 public:
  DiskHandle(Disk& disk, std::string session, bool read_only, std::shared_ptr<Process> process);
  ~DiskHandle() override;
  const std::string& name() const override { return name_; }
  block::Limits limits() const override;
  Result<std::unique_ptr<block::Queue>> open_queue(Loop& loop) override;

 private:
  Disk& disk_;
  const std::string name_;
  const std::string session_;
  const bool read_only_;
  std::shared_ptr<Process> process_;  // shared by all handles of one process and its server
};

// Opens the disks of one server process.
class Opener final : public server::DeviceOpener {
 public:
  Opener(fabric::sim::World& world, std::vector<Disk*> disks, std::shared_ptr<Process> process)
      : world_(world), disks_(std::move(disks)), process_(std::move(process)) {}
  void open(const std::string& session_name, const std::string& device_name,
            server::AccessMode mode, Loop& loop,
            std::function<void(Result<server::OpenedDevice>)> done) override;
  void look(block::Device& device, Loop& loop,
            std::function<void(Result<std::uint64_t>)> done) override;
  void close(std::unique_ptr<block::Device> device, Loop& loop,
             std::function<void()> done) override;

 private:
  Result<server::OpenedDevice> find(const std::string& session, const std::string& name,
                                    server::AccessMode mode);
  fabric::sim::World& world_;
  const std::vector<Disk*> disks_;
  std::shared_ptr<Process> process_;  // see DiskHandle
};

}  // namespace rnbd::sim_test
