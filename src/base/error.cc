#include "base/error.h"

#include <cerrno>
#include <string>

namespace rnbd {
namespace {

struct Entry {
  const char* text;
  int error;
};

// One row per Errc: the words, and the errno an application sees for it.
Entry entry(int value) {
  switch (static_cast<Errc>(value)) {
    case Errc::not_rtrs_peer:
      return {"the peer does not speak RTRS", ECONNRESET};
    case Errc::version_mismatch:
      return {"the peer speaks another RTRS version", EPROTONOSUPPORT};
    case Errc::handshake_timeout:
      return {"the peer did not finish the handshake in time", ETIMEDOUT};
    case Errc::handshake_closed:
      return {"the peer closed the connection during the handshake", ECONNRESET};
    case Errc::connect_rejected:
      return {"the peer rejected the connection", ECONNRESET};
    case Errc::heartbeat_lost:
      return {"the peer stopped answering heartbeats", ETIMEDOUT};
    case Errc::protocol_violation:
      return {"the peer violated the protocol", EPROTO};
    case Errc::crc_mismatch:
      return {"a frame arrived damaged (CRC mismatch)", EBADMSG};
    case Errc::framing_error:
      return {"the peer sent a malformed frame", EBADMSG};
    case Errc::peer_terminated:
      return {"the peer terminated the connection", ECONNRESET};
    case Errc::peer_lacks_immediate:
      return {"the peer's iWARP stack lacks Immediate Data (RFC 7306)", EOPNOTSUPP};
    case Errc::peer_closed:
      return {"the peer closed the connection", ECONNRESET};
    case Errc::receive_queue_empty:
      return {"a message arrived and no receive was posted", ENOBUFS};
    case Errc::path_lost:
      return {"the path was lost with the request in flight", ECONNABORTED};
    case Errc::session_closed:
      return {"the session was closed", ESHUTDOWN};
    case Errc::queue_depth_changed:
      return {"the server's queue depth changed", ENOTCONN};
    case Errc::bad_geometry:
      return {"the server announced impossible sizes", EINVAL};
    case Errc::no_answer:
      return {"the server is there, but does not answer a request", ETIMEDOUT};
    case Errc::device_failed:
      return {"the device has failed", EIO};
    case Errc::flushed:
      return {"the work was flushed", ECANCELED};
    case Errc::read_only:
      return {"the device is read-only", EROFS};
    case Errc::too_long:
      return {"a name or message is too long", EMSGSIZE};
    case Errc::remote_access:
      return {"the peer used memory it has no right to", EACCES};
    case Errc::session_refused:
      return {"the server refused the session's name: it is in use there, or not allowed",
              ECONNRESET};
    case Errc::other_instance:
      return {"another server answers at this address than on the session's other paths", ENXIO};
    case Errc::writes_lost:
      return {"the server was restarted and lost writes that had not been flushed", EIO};
    case Errc::disconnected:
      return {"disconnected by the administrator", ENOTCONN};
    case Errc::given_up:
      return {"given up by the client", ENOTCONN};
  }
  return {"unknown error", EIO};
}

class Category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "rnbd"; }
  std::string message(int value) const override { return entry(value).text; }
};

}  // namespace

const std::error_category& rnbd_category() noexcept {
  static const Category category;
  return category;
}

int to_errno(const std::error_code& error) noexcept {
  if (!error) return 0;
  if (error.category() == rnbd_category()) return entry(error.value()).error;
  if (error.category() == std::generic_category() || error.category() == std::system_category()) {
    return error.value();
  }
  return EIO;
}

}  // namespace rnbd
