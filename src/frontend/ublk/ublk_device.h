#pragma once
// A real block device, /dev/ublkb<N>, over a block::Device, where the ublk driver is: one kernel
// queue per reactor, on the reactor's own ring. With the links of base/device_links.h.
//
// The block device survives its daemon: a daemon that is killed leaves it waiting, every request
// unanswered, and a successor takes it over with recover(). A request the predecessor had under way
// is handed out again then, so the successor must first make sure that nothing of the predecessor's
// can take effect any more (it fences it at the server), and only then call recover().
//
// Create, use and destroy on the thread of the home reactor, reactors[0]. What blocks runs on a
// thread of its own and calls back from there through home; operations on one device take turns.
// The reactors outlive everything here.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "block/device.h"
#include "frontend/ublk/failure.h"
#include "frontend/ublk/ublk_list.h"
#include "reactor/reactor.h"

namespace rnbd::ublk {

struct Spec {
  std::string session;  // for the links
  std::string volume;
  unsigned number = 0;  // N of /dev/rnbd<N> if it is free; else the lowest that is
  bool links = true;
  std::string device_directory = "/dev";  // where nodes are
  std::string link_directory{};           // where links are made; empty: there as well
  // Ours to choose, kept by the driver, asked for by recover(): tells our device from another that
  // got the same number meanwhile. Not 0.
  std::uint64_t tag = 1;
  std::uint16_t queue_depth = 128;       // per queue, up to 4096
  std::uint16_t queues_max = 0xffff;     // one per reactor, at most this; the driver: one per CPU
  std::uint32_t io_bytes_max = 1 << 19;  // longest read or write; a buffer of it per tag
  // How long the partition scan, recovery, or a stop may take before requests are answered with
  // errors.
  Duration patience = std::chrono::seconds(10);
  // How long a removal by force lets a working volume finish what is under way.
  Duration force_grace = std::chrono::milliseconds(500);
  // How long remove() waits for somebody who has the device open for a moment (udev).
  Duration busy_wait = std::chrono::seconds(1);
};

struct Identity {
  std::uint32_t id = 0;
  std::uint64_t tag = 0;
};

struct RemoveResult {
  std::error_code error;  // EBUSY: see users, and the device stays
  std::vector<std::string> users;
};

class Device {
 public:
  using Created = std::function<void(Outcome<std::unique_ptr<Device>>)>;

  // Calls back when the block device is there and its partitions are known. `device` outlives the
  // Device, and a failure is told only when every request it got has come back: fail those it
  // holds.
  static void create(std::span<Reactor* const> reactors, Spec spec, block::Device& device,
                     Created done);
  // Takes over a device whose daemon is gone or just ending: EBUSY while another serves it, ENODEV
  // when there is none of this identity (any more), EINVAL when `device` is not what it was. On a
  // failure it is left as it was, unless the words say otherwise.
  static void recover(std::span<Reactor* const> reactors, Identity identity, Spec spec,
                      block::Device& device, Created done);
  virtual ~Device() = default;  // after when_drained() or leave() has called back

  virtual Identity identity() const = 0;
  virtual const std::string& node() const = 0;         // "/dev/ublkb0"
  virtual const std::string& number_link() const = 0;  // "/dev/rnbd0"; empty without links
  virtual const std::string& name_link() const = 0;
  // Who uses it now, in words. Reads /proc and /sys.
  virtual std::vector<std::string> users() const = 0;

  // Refuses with EBUSY while mounted, held or open, unless forced. Forced it always ends: what
  // is under way and does not end at once is answered EIO, and those who have it open keep a dead
  // device. Calls back when
  // the block device is gone; the backend may still have requests.
  virtual void remove(bool force, std::function<void(RemoveResult)> done) = 0;
  // After remove(): when the backend gave back every request and its queues are destroyed.
  virtual void when_drained(std::function<void()> done) = 0;
  // Stops serving and leaves the block device to a successor, which gets again what was not
  // answered. Calls back when the backend holds nothing any more; then end the process: the driver
  // hands over only when it is gone.
  virtual void leave(std::function<void()> done) = 0;
  // The device changed its size. EOPNOTSUPP where the driver is too old (before Linux 6.16): the
  // new size shows after removing and creating anew.
  virtual void resize(std::uint64_t size_bytes, std::function<void(std::error_code)> done) = 0;
  // Somebody else stopped the device: called once. remove() and when_drained() are still to be
  // called.
  virtual void set_on_gone(std::function<void()> call) = 0;

  // The request buffers of each queue, and the reactor they are used on: a fabric may register
  // them. Not after remove().
  struct Arena {
    Reactor* reactor;
    std::span<std::byte> memory;
  };
  virtual std::vector<Arena> arenas() const = 0;
};

}  // namespace rnbd::ublk
