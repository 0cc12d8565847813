#pragma once
// The RNBD server: turns the messages of sessions (SESS_INFO, OPEN, IO, CLOSE) into requests on
// block devices. Exports arbitrates who may open what; IO is handled on the loop it arrived on.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "block/device.h"
#include "rtrs/server/server.h"
#include "wire/rnbd.h"

namespace rnbd::server {

using wire::AccessMode;

// What a volume's acknowledged writes that are not on stable storage yet live as long as (safety
// rule R9).
enum class CacheLife : std::uint8_t {
  host,     // they are in the page cache, or in a disk that may lose power together with the host
  process,  // all of the volume is in our memory
  forever,  // there is nothing to lose
};

// A device opened for an export, with the identity arbitration goes by (two names of one file are
// one).
struct OpenedDevice {
  std::unique_ptr<block::Device> device;
  std::string identity;  // e.g. "dev:ino" of the file, or the block device number
  CacheLife cache_life = CacheLife::host;
  std::string place{};  // for people: the block device or file behind it, "/dev/ram0"
};

// Finds and opens what a client names. May take its time: it answers from `loop` later.
// Who may have a volume is decided after it was opened, by identity, so the same volume may be
// asked for while it is open already: a device of this process must not lock out the next. A
// refused one is closed at once.
class DeviceOpener {
 public:
  virtual ~DeviceOpener() = default;
  // `done` runs on `loop`. Errors are what the client gets: ENOENT, EACCES, EINVAL ("..", bad
  // name), EBUSY (locked by another process), ...
  virtual void open(const std::string& session_name, const std::string& device_name,
                    AccessMode mode, Loop& loop,
                    std::function<void(Result<OpenedDevice>)> done) = 0;
  // Looks how big a device that it opened is now, where that may block. `done` runs on `loop`; the
  // device is there until it was looked at, even when it is given back at once.
  virtual void look(block::Device& device, Loop& loop,
                    std::function<void(Result<std::uint64_t> size)> done) = 0;
  // Gives a device back; closing may block, so it happens elsewhere.
  virtual void close(std::unique_ptr<block::Device> device, Loop& loop,
                     std::function<void()> done) = 0;
};

struct OpenInfo {
  std::string session;
  std::uint64_t session_id = 0;
  std::uint32_t device_id = 0;
  std::string name;  // as the client wrote it
  std::string identity;
  std::string place;  // see OpenedDevice
  AccessMode mode = AccessMode::rw;
  bool flush_failed = false;  // flushes are refused until forgive()
  std::uint64_t size = 0;
  std::uint64_t reads = 0, read_bytes = 0, writes = 0, write_bytes = 0, errors = 0, inflight = 0;
  // I/O from arrival to answer: what of it was the backend's, and the rest.
  LatencyCounts server{}, backend{};
};

struct ExportsOptions {
  std::uint32_t max_devices_per_session = 256;
  bool offer_write_zeroes =
      true;  // false for clients of kernels 5.8 to 5.17, which would misread it
  // As announced to our own clients (rtrs::server::ServerOptions); zeros: not at all.
  wire::Extension identity{};
  // A volume that may have lost writes when the host was rebooted is not opened for writing by a
  // client that does not know of it: one that is not ours, with a session from before.
  bool refuse_survivors = true;
  Duration look_interval = std::chrono::seconds(1);  // at the sizes of what is open
};

// Shared state lives on loops[0]; requests are handled on the loop they arrive on.
class Exports : public rtrs::server::RequestHandler {
 public:
  // `max_io_size` is the server's (chunk less header).
  static std::unique_ptr<Exports> create(std::span<Loop* const> loops, DeviceOpener& opener,
                                         std::uint32_t max_io_size, const ExportsOptions& options);
  // Looks at the real sizes of all that is open, as otherwise happens every look_interval; `done`
  // runs on loops[0] when what is found is in use and our own clients are being told.
  virtual void look_at_sizes(std::function<void()> done) = 0;
  // A snapshot; `result` runs on loops[0].
  virtual void list(std::function<void(std::vector<OpenInfo>)> result) = 0;
  // Takes a device from a session, as an administrator does: its IO is answered ENOTCONN from now
  // on, what runs is waited for. `done` runs on loops[0]; ENOENT when there is no such open.
  virtual void force_close(std::uint64_t session_id, std::uint32_t device_id,
                           std::function<void(std::error_code)> done) = 0;
  // Believes again in flushes of a volume one of whose flushes failed (they are refused until then,
  // and so over every close and open). `volume` is its identity, its place, or a name it is or was
  // open by. ENOENT when there is nothing to forgive.
  virtual void forgive(const std::string& volume, std::function<void(std::error_code)> done) = 0;
};

}  // namespace rnbd::server
