#pragma once
// A client that behaves as the Linux kernel's: one session over several paths; when a path is lost
// its requests go over another at once, under the same permits, with no fence. It proves the rules
// that a server owes such a client (R1, R2, R4). One volume, one loop; an application works on it.

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "block/device.h"
#include "fabric/sim/fabric.h"
#include "rnbd/server/exports.h"
#include "sim/disk.h"
#include "sim/server.h"
#include "sim/worker.h"
#include "wire/rtrs.h"

namespace rnbd::sim_test {

class KernelClient {
 public:
  KernelClient(fabric::sim::World& world, fabric::sim::Host& host, const Config& config,
               const Report& report, ServerHost& server, Disk& disk, std::size_t number);
  ~KernelClient();

  fabric::sim::Host& host() { return host_; }
  ServerHost& server() { return server_; }
  bool done() const { return work_.budget == 0 && under_way() == 0; }
  std::uint32_t under_way() const { return worker_ ? worker_->under_way() : 0; }
  void end();
  bool ended() const { return ended_; }
  std::uint64_t completed() const { return work_.completed; }

  // For faults.
  std::size_t path_count() const { return paths_.size(); }
  bool path_up(std::size_t path) const;
  std::size_t inflight(std::size_t path) const;
  // As by the word of the local device: what the server has still to hear of it is another matter.
  void lose_path(std::size_t path);
  // From now on this path has no reason to be lost.
  void guard(std::size_t path, bool guarded);
  // Sends a request on a chunk that is busy with another one, which no path survives. False: there
  // is none.
  bool misbehave(std::size_t path);

 private:
  class Channel;
  struct Path;
  class Device;
  class Queue;
  // One permit and what it is used for.
  struct Permit {
    enum class Use : std::uint8_t { none, open, close, io } use = Use::none;
    std::uint32_t number = 0;
    bool read = false;
    bool sent = false;
    bool answered = false;
    int error = 0;
    Path* path = nullptr;  // nullptr: held
    block::Request* request = nullptr;
    std::vector<std::byte> message{};
    std::vector<std::byte> header{};
    std::vector<iovec> data{};
    std::uint32_t data_length = 0;
  };

  void step();
  void later(Duration delay);
  void connect(Path& path);
  void connect_channel(Path& path, std::uint16_t cid);
  void on_connected(Channel& channel, std::span<const std::byte> accept);
  void on_info(Path& path, std::span<const std::byte> bytes);
  void on_immediate(Channel& channel, std::uint32_t immediate);
  void on_sent(std::uint32_t permit);
  void on_channel_closed(Path& path);
  void lose(Path& path);
  void fail_over(Path& path);
  void send_heartbeat(Path& path, std::uint32_t immediate);

  Permit* take_permit(Permit::Use use);
  void start(Permit& permit);
  void send(Permit& permit, Path& path);
  void finish(Permit& permit);
  Path* any_path();
  void send_open();
  void on_opened(const Permit& permit);
  void submit(block::Request& request);
  void pump();

  fabric::sim::World& world_;
  fabric::sim::Host& host_;
  const Config& config_;
  const Report& report_;
  ServerHost& server_;
  Disk& disk_;
  Work work_;
  fabric::sim::SimFabric& fabric_;
  SeededRandom random_;
  Uuid session_{};
  std::vector<std::unique_ptr<Path>> paths_;
  std::vector<std::unique_ptr<Permit>> permits_;
  std::vector<std::byte> open_answer_;
  std::deque<block::Request*> waiting_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Worker> worker_;
  bool session_known_ = false;  // to the server, once
  bool opening_ = false;
  bool open_ = false;
  std::uint32_t device_id_ = 0;
  std::uint32_t depth_ = 0;
  bool ending_ = false;
  bool closing_ = false;
  bool ended_ = false;
  fabric::sim::Event step_ =
      fabric::sim::Event::of<&KernelClient::step>(fabric::sim::EventKind::call, this);
};

}  // namespace rnbd::sim_test
