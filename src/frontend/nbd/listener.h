#pragma once
// Listening sockets, made safely: the Unix socket has its mode before anybody can connect, a stale
// file of a dead server is replaced, a live one is not; on close only our own file is unlinked.

#include <sys/stat.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"

namespace rnbd::nbd {

class UnixListener {
 public:
  // EADDRINUSE: somebody listens there. EEXIST: there is something else than a socket.
  // ENAMETOOLONG.
  static Result<UnixListener> create(std::string path, mode_t mode);
  UnixListener() = default;
  UnixListener(UnixListener&&) = default;
  UnixListener& operator=(UnixListener&&) = default;
  ~UnixListener() { close(); }
  void close();
  int fd() const { return socket_.get(); }

 private:
  UniqueFd socket_;
  std::string path_;
  dev_t device_ = 0;  // of the file we made
  ino_t inode_ = 0;
};

// On 127.0.0.1; port 0 takes any free one.
Result<UniqueFd> listen_on_loopback(std::uint16_t port);
std::uint16_t bound_port(int socket);

}  // namespace rnbd::nbd
