#pragma once
// An NBD server inside a daemon: every export is a block::Device. It listens on a Unix socket (and
// loopback TCP if asked), negotiates on its home reactor, and hands each connection to one of its
// reactors, where the connection lives on with a block::Queue of its own. Several connections to
// one export are welcome (CAN_MULTI_CONN): all of them end at the same device, so a flush on one
// covers completed writes of all.
//
// Create and use on the thread of the home reactor, reactors[0] (create() may also run before that
// reactor starts). The reactors outlive the server. Destroy only after close() has called back.

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "block/device.h"
#include "reactor/reactor.h"

namespace rnbd::nbd {

struct ServerOptions {
  std::string socket_path;  // empty: no Unix socket
  mode_t socket_mode = 0600;
  std::optional<std::uint16_t>
      tcp_port;  // on 127.0.0.1; 0 = any free port. Open to every local user.
  Duration handshake_timeout = std::chrono::seconds(10);
  std::uint32_t connections_max = 128;  // of all exports, negotiating ones included
  std::uint32_t inflight_max = 64;  // requests of one connection under way; more stay in the socket
  // Memory for the payload of one connection's requests, mapped at connect and touched as needed. A
  // power of two from 1 MiB; the largest request served is this, but at most 32 MiB.
  std::uint32_t payload_bytes_max = 32u << 20;
};

struct ExportOptions {
  std::string name;         // at most 4096 bytes; "" asks for the only export
  std::string description;  // for people (NBD_INFO_DESCRIPTION)
  bool read_only = false;   // even if the device would take writes
};

struct ExportStatus {
  std::string name;
  std::uint32_t connections = 0;  // attached clients: not 0 means busy
};

class Server {
 public:
  // EADDRINUSE when a live server has the socket; a stale socket file is removed, anything else is
  // not.
  static Result<std::unique_ptr<Server>> create(std::span<Reactor* const> reactors,
                                                ServerOptions options);
  virtual ~Server() = default;

  // EEXIST when the name is taken (also while its removal is under way). `device` outlives the
  // export.
  virtual Result<void> add_export(ExportOptions options, block::Device& device) = 0;
  // New clients are refused at once, attached ones disconnected; `done` comes when the last request
  // of the last connection has come back and every queue is destroyed. A device that holds its
  // requests is waited for: fail it first. ENOENT in `done` when there is no such export.
  virtual void remove_export(const std::string& name,
                             std::function<void(std::error_code)> done) = 0;
  virtual std::vector<ExportStatus> exports() const = 0;
  virtual std::uint32_t connections(const std::string& name) const = 0;  // 0 also for unknown names

  // Stops listening, unlinks the socket, removes every export, then calls back.
  virtual void close(std::function<void()> done) = 0;

  virtual const std::string& socket_path() const = 0;
  virtual std::uint16_t tcp_port() const = 0;  // the port bound; 0 = not listening on TCP
};

}  // namespace rnbd::nbd
