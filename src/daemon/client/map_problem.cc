#include "daemon/client/map_problem.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>

#include "base/log.h"
#include "daemon/admin/units.h"

namespace rnbd::daemon {
namespace {

struct Words {
  ProblemCode code;
  std::string why;
  std::string hint;
};

// What the server's answer to OPEN means.
Words open_words(const MapRequest& request, const std::error_code& error) {
  std::string volume = printable(request.device_path);
  switch (to_errno(error)) {
    case ENOENT:
      return {ProblemCode::not_found, fmt::format("the server has no volume '{}'", volume),
              "its dev_search_path and its exports are searched; 'rnbd server show' on the server "
              "tells them"};
    case EPERM:
      return {ProblemCode::refused, "another client has it open for writing",
              "unmap it there, or use access_mode=ro, or access_mode=migration while it moves"};
    case EROFS:
      return {ProblemCode::refused, "the server serves it read-only", "use access_mode=ro"};
    case EBUSY:
      return {ProblemCode::busy,
              "it is in use: another program on the server has it open and locked",
              "look there with 'lslocks' or 'fuser'"};
    case EACCES:
      return {ProblemCode::refused, "the server may not open it",
              "its permissions, a symbolic link, or a name that leads out of dev_search_path: the "
              "server's log says which"};
    case ENOTBLK:
      return {ProblemCode::failed, "it is neither a file nor a block device on the server",
              "name a volume, not a directory"};
    case EEXIST:
      return {ProblemCode::busy, "this session has it open already under another name",
              "use that name; 'rnbd list' shows it"};
    case EINVAL:
      return {ProblemCode::usage, "the server refuses the name",
              "names may not contain '..'; with %SESSNAME% only letters, digits and _:@- are "
              "allowed in sessname"};
    case EMFILE:
      return {ProblemCode::refused, "the session has as many volumes open as the server allows",
              "raise max_devices_per_session there"};
    case ENOMEM:
      return {ProblemCode::failed, "the server is out of memory", "see max_chunk_memory there"};
    default:
      return {code_of_errno(to_errno(error)),
              fmt::format("the server answered: {}", error.message()), "its log says more"};
  }
}

// Failures before the server could be asked for a volume.
Words connect_words(const MapRequest& request, const client::Failure& failure, Duration timeout,
                    Rdma rdma) {
  std::string peer = peers_of(request);
  std::string ping = "is rnbd-server running there, and is the port open?";
  const std::error_code& error = failure.error;
  if (error == Errc::not_rtrs_peer || error == Errc::framing_error)
    return {ProblemCode::incompatible, fmt::format("what listens on {} is no RNBD server", peer),
            "check the port"};
  if (error == Errc::version_mismatch)
    return {ProblemCode::incompatible,
            fmt::format("the server on {} speaks another version of RTRS", peer),
            "update the older side"};
  if (error == Errc::peer_lacks_immediate)
    return {ProblemCode::incompatible,
            fmt::format("the iWARP stack on {} lacks Immediate Data (RFC 7306)", peer),
            "use rnbd-server there"};
  if (error == Errc::bad_geometry)
    return {ProblemCode::incompatible,
            fmt::format("the server on {} announced impossible sizes", peer),
            "check its version and settings"};
  if (error == Errc::handshake_timeout || error == from_errno(ETIMEDOUT))
    return {ProblemCode::unreachable,
            fmt::format("connection to {} timed out after {}", peer, format_duration(timeout)),
            ping};
  if (error == Errc::session_refused)
    return {ProblemCode::refused, fmt::format("{} refused the session's name", peer),
            "another client uses this sessname, or died with it less than 40 s ago; else the "
            "server's log says why"};
  if (error == Errc::handshake_closed || error == Errc::peer_closed)
    return {ProblemCode::unreachable,
            fmt::format("{} closed the connection while it was set up", peer),
            "the server's log says why"};
  if (error == Errc::connect_rejected || error == from_errno(ECONNRESET))
    return {ProblemCode::refused, fmt::format("{} rejected the connection", peer),
            "the server's log says why; another client may use the same sessname"};
  switch (to_errno(error)) {
    case ECONNREFUSED:
      return {ProblemCode::unreachable, fmt::format("connection to {} refused", peer), ping};
    case EHOSTUNREACH:
    case ENETUNREACH:
      return {ProblemCode::unreachable, fmt::format("there is no route to {}", peer),
              "check the address and 'ip route get'"};
    case ENODEV:
      return {ProblemCode::unreachable, fmt::format("{} {}", rdma_words(rdma).why, peer),
              rdma_words(rdma).hint};
    case EADDRNOTAVAIL:
      return {ProblemCode::unreachable,
              fmt::format("this machine has no such source address for {}", peer),
              "check the part before '@'"};
    case EEXIST:
      return {ProblemCode::refused, fmt::format("{} has this path already", peer),
              "give each path= another address"};
    case ENOENT:
      return {ProblemCode::unreachable, fmt::format("there is no socket {}", peer),
              "is rnbd-server running?"};
    default:
      return {code_of_errno(to_errno(error)),
              fmt::format("connection to {} failed: {}", peer, error.message()), ping};
  }
}

}  // namespace

std::string peers_of(const MapRequest& request) {
  std::string text;
  for (const PathSpec& path : request.paths) {
    if (!text.empty()) text += ", ";
    text += path.destination.starts_with("unix:")
                ? path.destination
                : fmt::format("{} port {}", path.destination, path.port);
  }
  return text.empty() ? fmt::format("session '{}'", printable(request.session)) : text;
}

Problem path_problem(const MapRequest& request, const std::error_code& error,
                     Duration connect_timeout, Rdma rdma) {
  const client::Failure failure{client::Stage::connect, error};
  Words words = connect_words(request, failure, connect_timeout, rdma);
  if (error == Errc::other_instance || error == from_errno(ENXIO))
    words = {ProblemCode::refused,
             fmt::format("on {} another server answers than on the session's other paths",
                         peers_of(request)),
             "one session is with one server"};
  if (error == Errc::queue_depth_changed)
    words = {ProblemCode::incompatible,
             fmt::format("{} grants another queue depth than the session has", peers_of(request)),
             "compare sess_queue_depth there with 'rnbd show session'"};
  if (error == from_errno(ENOTCONN) || error == Errc::session_closed)
    words = {ProblemCode::busy, "the session is just being opened or closed", "try again"};
  if (error == from_errno(EMFILE))
    words = {ProblemCode::refused, "the session has as many paths as it can have",
             "remove one first"};
  return {
      words.code,
      fmt::format("cannot add a path to session '{}': {}", printable(request.session), words.why),
      words.hint, to_errno(error)};
}

Problem map_problem(const MapRequest& request, const client::Failure& failure,
                    Duration connect_timeout, Rdma rdma) {
  bool open = failure.stage == client::Stage::open;
  bool lost = failure.error == Errc::path_lost || failure.error == Errc::session_closed ||
              failure.error == from_errno(ENOTCONN);
  Words words;
  if (open && lost)
    words = {ProblemCode::unreachable,
             fmt::format("{} was lost while it opened the volume", peers_of(request)),
             "try again; the server's log may say more"};
  else
    words = open ? open_words(request, failure.error)
                 : connect_words(request, failure, connect_timeout, rdma);
  return {words.code, fmt::format("cannot map '{}': {}", printable(request.device_path), words.why),
          words.hint, to_errno(failure.error)};
}

}  // namespace rnbd::daemon
