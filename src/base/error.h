#pragma once
// What can go wrong, as std::error_code. Errno values (ours, or a peer's answer) travel in
// std::generic_category(); what errno cannot say is an Errc. Control paths return Result<T>.

#include <system_error>
#include <tl/expected.hpp>

namespace rnbd {

enum class Errc {
  not_rtrs_peer = 1,     // the answer to our connect request is not RTRS
  version_mismatch,      // RTRS major version differs
  handshake_timeout,     // the peer did not finish a handshake in time
  handshake_closed,      // the peer closed the connection instead of answering
  connect_rejected,      // refused without a reason we can decode
  heartbeat_lost,        // the peer was silent for longer than allowed
  protocol_violation,    // the peer broke a rule of RTRS or RNBD
  crc_mismatch,          // a frame arrived damaged
  framing_error,         // MPA/DDP framing fault
  peer_terminated,       // the peer sent a Terminate message
  peer_lacks_immediate,  // the peer's iWARP stack lacks RFC 7306
  peer_closed,           // orderly end from the peer
  receive_queue_empty,   // a message came and no receive was posted in time
  path_lost,             // the path died with this request in flight: its fate is unknown
  session_closed,        // closed by us
  queue_depth_changed,   // the server came back with another queue depth
  bad_geometry,          // the server announced impossible sizes
  device_failed,         // the device gave up: see the log for the cause
  no_answer,             // a request lay with a living server for longer than it may
  flushed,               // posted work handed back because its connection closed
  read_only,             // write to a device opened read-only
  too_long,              // a name or message exceeds its limit
  remote_access,         // a key or range the peer may not touch
  session_refused,       // the server closed the path when it heard the session's name
  other_instance,        // another server process answered than the one the session is with
  writes_lost,           // the server lost acknowledged writes that were not flushed yet
  disconnected,          // a path taken down on the operator's word
  given_up,              // a path its client will not use any more
};

const std::error_category& rnbd_category() noexcept;
inline std::error_code make_error_code(Errc e) noexcept {
  return {static_cast<int>(e), rnbd_category()};
}

// An errno value (positive) as error_code; 0 is success.
inline std::error_code from_errno(int error) noexcept { return {error, std::generic_category()}; }
// The errno a request fails with at the application or on the wire; EIO where errno has no word for
// it.
int to_errno(const std::error_code& error) noexcept;

template <class T>
using Result = tl::expected<T, std::error_code>;
inline tl::unexpected<std::error_code> fail(std::error_code error) { return tl::unexpected(error); }
inline tl::unexpected<std::error_code> fail(Errc error) {
  return tl::unexpected(make_error_code(error));
}
inline tl::unexpected<std::error_code> fail_errno(int error) {
  return tl::unexpected(from_errno(error));
}

}  // namespace rnbd

template <>
struct std::is_error_code_enum<rnbd::Errc> : std::true_type {};
