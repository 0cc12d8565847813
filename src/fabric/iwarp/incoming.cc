#include "fabric/iwarp/incoming.h"

#include <sys/socket.h>

#include <cerrno>

#include "fabric/iwarp/dial.h"
#include "fabric/iwarp/socket.h"

namespace rnbd::fabric::iwarp {

IwarpIncoming::IwarpIncoming(UniqueFd fd, const wire::MpaReader& request, Address local,
                             Address peer, TimePoint arrived)
    : fd_(std::move(fd)),
      request_(request),
      local_(std::move(local)),
      peer_(std::move(peer)),
      arrived_(arrived) {}

IwarpIncoming::~IwarpIncoming() = default;

std::error_code IwarpIncoming::answer(bool accepted, std::span<const std::byte> private_data,
                                      const Options& options, bool& crc) {
  if (private_data.size() > wire::kMpaUserDataMax) return from_errno(EMSGSIZE);
  // The peer has to wait for our word: bytes behind its Request, or its end, spoil the handshake.
  std::byte early;
  const ssize_t n = ::recv(fd_.get(), &early, 1, MSG_PEEK | MSG_DONTWAIT);
  if (n > 0) return Errc::framing_error;
  if (n == 0) return Errc::handshake_closed;
  if (errno != EAGAIN) return from_errno(errno);

  const wire::MpaFrame request = request_.frame();
  crc = request.crc || demands_crc(options.crc, local_, peer_);
  wire::MpaFrame reply{.kind = wire::MpaKind::reply,
                       .crc = crc,
                       .rejected = !accepted,
                       .enhanced = request.enhanced,
                       .revision = request.revision,
                       .user_data = private_data};
  if (request.enhanced) {
    // Peer-to-peer set-up we do by a zero-length Write only: it costs no receive.
    reply.peer_to_peer = reply.write_first = request.peer_to_peer;
    // We grant no reads; "the user decides" is answered in kind (RFC 6581 section 9.1).
    if (request.read_depth_out == wire::kMpaDepthMax) reply.read_depth_in = wire::kMpaDepthMax;
    if (request.read_depth_in == wire::kMpaDepthMax) reply.read_depth_out = wire::kMpaDepthMax;
  }
  std::array<std::byte, wire::kMpaFrameMax> frame;
  return send_all(fd_.get(), std::span(frame).first(wire::build_mpa_frame(reply, frame)));
}

}  // namespace rnbd::fabric::iwarp
