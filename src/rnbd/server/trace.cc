#include "rnbd/server/trace.h"

#include <algorithm>
#include <string>

#include "base/probe.h"

RNBD_PROBE_DEFINE(rnbd_srv, create_sess);
RNBD_PROBE_DEFINE(rnbd_srv, destroy_sess);
RNBD_PROBE_DEFINE(rnbd_srv, process_rdma);
RNBD_PROBE_DEFINE(rnbd_srv, process_msg_sess_info);
RNBD_PROBE_DEFINE(rnbd_srv, process_msg_open);
RNBD_PROBE_DEFINE(rnbd_srv, process_msg_close);

namespace rnbd::server {

void trace_create_session(const rtrs::server::Session& session) {
  RNBD_PROBE(rnbd_srv, create_sess, session.name().c_str(), session.queue_depth());
}

void trace_destroy_session(const rtrs::server::Session& session) {
  RNBD_PROBE(rnbd_srv, destroy_sess, session.name().c_str(), session.queue_depth());
}

void trace_io(rtrs::server::Request& request, const wire::Io& io) {
  RNBD_PROBE(rnbd_srv, process_rdma, request.session().name().c_str(),
             static_cast<int>(request.direction()), static_cast<int>(wire::kRnbdVersion),
             io.device_id, io.sector, static_cast<std::uint32_t>(io.op) | io.flags, io.length,
             static_cast<int>(io.priority), request.data().size(), request.message().size());
}

void trace_session_info(rtrs::server::Request& request, const wire::SessionInfo& theirs) {
  RNBD_PROBE(rnbd_srv, process_msg_sess_info,
             static_cast<int>(std::min(theirs.version, wire::kRnbdVersion)),
             static_cast<int>(theirs.version), static_cast<int>(wire::kRnbdVersion),
             request.session().name().c_str());
}

void trace_open(rtrs::server::Request& request, const wire::Open& message) {
  RNBD_PROBE(rnbd_srv, process_msg_open, static_cast<int>(message.access_mode),
             request.session().name().c_str(), std::string(message.device_name).c_str());
}

void trace_close(rtrs::server::Request& request, const wire::Close& message) {
  RNBD_PROBE(rnbd_srv, process_msg_close, message.device_id, request.session().name().c_str());
}

}  // namespace rnbd::server
