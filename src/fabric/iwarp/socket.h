#pragma once
// Stream sockets, TCP and Unix alike: made, set up, and ended as this fabric wants them.

#include <optional>
#include <span>

#include "base/error.h"
#include "base/unique_fd.h"
#include "fabric/address.h"
#include "fabric/iwarp/options.h"

namespace rnbd::fabric::iwarp {

// Non-blocking, closed on exec.
Result<UniqueFd> make_socket(int family);
// Buffers, delays and timeouts; best effort.
void tune_socket(int fd, int family, const Options& options);
Address local_address_of(int fd);
Address peer_address_of(int fd);
// The pending error of a socket, taken away.
std::error_code socket_error(int fd);

// All of `bytes` in one go, or an error: for handshake frames, which always fit an empty socket
// buffer.
std::error_code send_all(int fd, std::span<const std::byte> bytes);

// Kills the connection so that not one byte we queued leaves any more (TCP: by a reset), then
// closes. Others may still hold the open file, the ring for one: they keep nothing alive.
void abort_socket(UniqueFd fd);

// Payload of one TCP segment on this connection; nothing where there are no segments.
std::optional<std::size_t> segment_size_of(int fd, int family);

}  // namespace rnbd::fabric::iwarp
