#pragma once
// One machine of a simulated world: its addresses, loops and fabrics, and how it may fail.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fabric/address.h"
#include "fabric/sim/event_queue.h"

namespace rnbd::fabric::sim {

struct ChunkPool;
class SimConnection;
class SimFabric;
class SimListener;
class SimLoop;
class World;

// What the fabrics of a host can do.
struct FabricOptions {
  bool send_imm = true;
  bool remote_invalidate = true;
  bool gates = true;  // false: set_gate is ignored
  bool keyed_gates = false;
};

class Host {
 public:
  Host(World& world, std::string name, std::uint32_t index);
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  const std::string& name() const { return name_; }
  World& world() { return world_; }
  // Address `nth` is ip:10.<nth>.0.<1 + number of the host>: one network per link.
  const Address& address(std::size_t nth = 0) const { return addresses_[nth]; }
  Address address_with_port(std::uint16_t port, std::size_t nth = 0) const;
  std::size_t address_count() const { return addresses_.size(); }

  SimLoop& add_loop();
  // A fabric on `loop`, or on a loop of its own. Belongs to the host's present life: after crash()
  // it is cut off for good, and a successor needs a new one, added after restart().
  SimFabric& add_fabric(SimLoop* loop = nullptr, const FabricOptions& options = {});

  // Power is gone. Every connection breaks (what was
  // sent last arrives or not): the peers hear of it at once, or (silent) only when
  // they next reach the restarted host. What still runs here is a ghost that can reach nobody: its
  // connections fail, so that a test can take its objects down in the usual way, now or later.
  // closed: only the process is gone, and the machine ends its connections behind what it sent.
  enum class Death : std::uint8_t { noticed, silent, closed };
  void crash(Death death = Death::noticed);
  void restart();
  bool up() const { return up_; }
  std::uint32_t life() const { return life_; }

  // Whether what is on its way from a connection of this host, and has not reached its receiver's
  // host, is lost when the connection closes here. Else it arrives.
  void let_frames_die(bool die) { frames_die_ = die; }
  bool frames_die() const { return frames_die_; }

  // As by SIGSTOP: no event of its loops happens for this time; then all that were due happen, in
  // order.
  void freeze(Duration time);
  bool frozen() const;
  TimePoint frozen_until() const { return frozen_until_; }

 private:
  friend class SimFabric;
  friend class SimListener;
  friend class SimConnection;
  friend class SimDomain;
  friend class World;
  friend class Pipe;
  SimListener* find_listener(const Address& address) const;
  std::uint16_t next_port();

  World& world_;
  std::string name_;
  std::uint32_t index_;
  bool up_ = true;
  bool frames_die_ = false;
  std::uint32_t life_ = 1;
  std::uint16_t last_port_ = 40000;
  TimePoint frozen_until_{};
  std::vector<Address> addresses_;
  std::vector<std::unique_ptr<SimFabric>> fabrics_;
  std::vector<SimListener*> listeners_;  // register and leave by themselves
  std::vector<SimConnection*> connections_;
  std::vector<std::pair<const Host*, std::shared_ptr<ChunkPool>>>
      pools_;  // by client: only where safety rule R1 is switched off
};

}  // namespace rnbd::fabric::sim
