#pragma once
// One volume in use by one client process: opened, worked on from every loop of the process, closed
// and opened anew when the device failed, and taken down in the end.

#include <memory>
#include <optional>
#include <vector>

#include "sim/client.h"
#include "sim/worker.h"

namespace rnbd::sim_test {

struct MountOptions {
  std::size_t volume = 0;
  std::size_t server = 0;
  client::AccessMode mode = client::AccessMode::rw;
  std::uint32_t budget = 0;
  bool passing = false;  // a rival: closes after a few operations, and comes again
  std::vector<Orphan> orphans{};
};

class Mount final : block::DeviceWatcher {
 public:
  Mount(fabric::sim::World& world, const Config& config, const Report& report, Disk& disk,
        ClientProcess& process, std::size_t client, MountOptions options);
  ~Mount() override;

  const MountOptions& options() const { return options_; }
  // Has done what it had to do; a rival never has to.
  bool done() const;
  std::uint32_t under_way() const;
  void remap();  // gives the volume up and takes it again
  void end();    // for good
  bool ended() const { return state_ == State::ended; }
  // The process was killed. What it had under way is left to the caller.
  std::vector<Orphan> kill();
  bool killed() const { return dead_; }
  std::uint32_t budget_left() const { return work_.budget; }
  client::RemoteDevice* device() { return device_; }
  // What it has mapped is as big as the volume, if it is mapped.
  bool shows_size() const;
  std::uint64_t completed() const { return work_.completed; }

 private:
  enum class State : std::uint8_t { idle, opening, open, stopping, closing, ended };
  void on_resized(std::uint64_t size) override { check_size(size); }
  void check_size(std::uint64_t size) const;
  void step();
  void later(Duration delay) { world_.schedule(step_, world_.now() + delay); }
  void open();
  void opened(tl::expected<client::RemoteDevice*, client::Failure> result);
  void stop();
  void abandon();
  void close();

  fabric::sim::World& world_;
  const Config& config_;
  const Report& report_;
  Disk& disk_;
  ClientProcess& process_;
  MountOptions options_;
  Work work_;
  State state_ = State::idle;
  bool ending_ = false;
  bool dead_ = false;
  bool device_abandoned_ = false;
  client::RemoteDevice* device_ = nullptr;
  std::vector<std::unique_ptr<Worker>> workers_;
  fabric::sim::Event step_ =
      fabric::sim::Event::of<&Mount::step>(fabric::sim::EventKind::call, this);
};

}  // namespace rnbd::sim_test
