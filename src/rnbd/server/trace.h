#pragma once
// The trace points of the RNBD server: names and fields as of the kernel's (rnbd-srv-trace.h), in
// their order. See base/probe.h.

#include "rtrs/server/server.h"
#include "wire/rnbd.h"

namespace rnbd::server {

void trace_create_session(const rtrs::server::Session& session);
void trace_destroy_session(const rtrs::server::Session& session);
void trace_io(rtrs::server::Request& request, const wire::Io& io);
void trace_session_info(rtrs::server::Request& request, const wire::SessionInfo& theirs);
void trace_open(rtrs::server::Request& request, const wire::Open& message);
void trace_close(rtrs::server::Request& request, const wire::Close& message);

}  // namespace rnbd::server
