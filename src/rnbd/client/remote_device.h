#pragma once
// The RNBD client: one session to a server and the volumes opened over it. A RemoteDevice is a
// block::Device; its queues send IO messages over the lane of their loop. After a total loss
// everything waits, is opened anew when a path is back, and goes on: a request of unknown fate is
// sent again only after the server proved (by accepting the path anew) that nothing of the old path
// runs any more.

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "block/device.h"
#include "rtrs/client/session.h"
#include "wire/rnbd.h"

namespace rnbd::client {

using wire::access_mode_name;
using wire::AccessMode;
Result<AccessMode> parse_access_mode(
    std::string_view text);  // "ro", "rw", "migration"; else EINVAL

// init: being opened. open. closed: waiting for the server. failed: gave up, everything is answered
// EIO.
enum class DeviceState : std::uint8_t { init, open, closed, failed, unmapped };
const char* device_state_name(DeviceState state);

struct DeviceOptions {
  std::string path;  // the volume's name on the server, at most 254 bytes
  AccessMode mode = AccessMode::rw;
  // How long requests are held while the server is away; then the whole device fails. 0 = for ever.
  // What it starts with: see RemoteDevice::set_hold_timeout.
  Duration hold_timeout{0};
};

struct DeviceCounters {
  std::uint64_t reads = 0, read_bytes = 0, writes = 0, write_bytes = 0, others = 0, errors = 0,
                inflight = 0, held = 0;
  // Requests from submit until first sent, and from then until answered.
  LatencyCounts queue{}, wire{};
};

// Methods on the session's home loop, except name() and limits() (any thread) and open_queue (its
// loop).
class RemoteDevice : public block::Device {
 public:
  virtual DeviceState state() const = 0;
  virtual const DeviceOptions& options() const = 0;
  virtual std::error_code last_error() const = 0;
  virtual std::string session_name() const = 0;
  virtual DeviceCounters counters() const = 0;  // since the last reset
  // Sets them back to zero, but not those of what is in flight.
  virtual void reset_counters() = 0;
  // May be changed at any time, also while requests are held: the time counts from when the server
  // was lost, so a device that was held for longer fails at once. 0: for ever.
  virtual void set_hold_timeout(Duration timeout) = 0;
  virtual Duration hold_timeout() const = 0;
  // How long it has been without its server by now; 0 when it is not closed.
  virtual Duration waiting() const = 0;
  virtual void set_watcher(block::DeviceWatcher* watcher) = 0;

  // An administrator's. `done` runs on the home loop, once, bounded in time. ENODEV when the device
  // is being unmapped.
  using Done = std::function<void(std::error_code)>;
  // Asks the server how big the volume is and takes over `size`, which may be up to that; 0: all of
  // it. Never smaller than now: EBUSY; nor bigger than the server's: EINVAL; ENOENT when it is not
  // open. With what the server has, where it answered. (What a server of ours says has grown is
  // taken over without being asked.)
  virtual void resize(std::uint64_t size,
                      std::function<void(std::error_code, std::uint64_t server_size)> done) = 0;
  // Closed: opens it now, and says how that ended: ECONNABORTED without a path, or the server's
  // errno, and then it goes on trying. Open: EALREADY; init: EBUSY. Failed: as recover().
  virtual void remap(Done done) = 0;
  // Failed: opens it anew, for new requests; what was failed stays failed (safety rule R15). Fails
  // again when that does not succeed. Open, but without flushes since one failed: believes in them
  // again (R10). What may have been lost until now is the administrator's to know. Open and well:
  // EALREADY.
  virtual void recover(Done done) = 0;
};

struct ClientOptions {
  // With `resume` the first session that comes up is the predecessor's; no device is opened, and so
  // nothing is sent, before nothing of the predecessor's can take effect any more.
  rtrs::client::SessionOptions session;
  // What `resume` will have to be in this process's successor: called on the home loop before a
  // session connects, and when it changed. Return when it is safe on disk.
  std::function<void(const rtrs::client::SessionIdentity&)> on_identity;
};

// Where a failure arose, so that the words can name the next step.
enum class Stage : std::uint8_t { connect, handshake, open };
struct Failure {
  Stage stage = Stage::connect;
  std::error_code error;
};

// One server: its session, its devices. Create, use and destroy on the home loop.
class Client {
 public:
  static Result<std::unique_ptr<Client>> create(std::span<fabric::Fabric* const> fabrics,
                                                std::size_t home, Random& random,
                                                ClientOptions options);
  virtual ~Client() = default;  // after closed
  // Opens a volume, connecting the session first if need be; several may be under way. The device
  // is owned by the client until close_device; EEXIST when the same path is open already.
  virtual void open_device(DeviceOptions options,
                           std::function<void(tl::expected<RemoteDevice*, Failure>)> done) = 0;
  // All queues of the device must be destroyed. Sends CLOSE if connected, then destroys the device.
  // Bounded: a server that does not answer is not waited for longer than the connect timeout.
  virtual void close_device(RemoteDevice& device, std::function<void(std::error_code)> done) = 0;
  // Closes the session; devices must be closed.
  virtual void close(std::function<void()> done) = 0;
  // nullptr before the first device is opened and after the session ended. For its administration:
  // whoever asks neither opens nor closes it.
  virtual const rtrs::client::Session* session() const = 0;
  virtual rtrs::client::Session* session() = 0;
  virtual std::vector<RemoteDevice*> devices() = 0;
  // Fails every request held or to come on this device (operator's word, or hold_timeout).
  virtual void fail_device(RemoteDevice& device) = 0;
  // Nobody waits any more for the device of this path that is being opened: its `done` is told
  // `why`.
  virtual void cancel_open(const std::string& path, std::error_code why) = 0;
};

}  // namespace rnbd::client
