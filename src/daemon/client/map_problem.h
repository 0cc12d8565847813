#pragma once
// Why a volume could not be mapped, in words: cause, peer and next step. Pure.

#include <string>

#include "base/loop.h"
#include "daemon/admin/map_request.h"
#include "daemon/admin/problem.h"
#include "daemon/rdma_words.h"
#include "rnbd/client/remote_device.h"

namespace rnbd::daemon {

// "ip:10.0.0.9 port 1234" of the request's paths; "the session" when it has none.
std::string peers_of(const MapRequest& request);

// Why a path could not be added to a session that is up. The request has this path only.
Problem path_problem(const MapRequest& request, const std::error_code& error,
                     Duration connect_timeout, Rdma rdma);

Problem map_problem(const MapRequest& request, const client::Failure& failure,
                    Duration connect_timeout, Rdma rdma);

}  // namespace rnbd::daemon
