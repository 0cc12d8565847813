#pragma once
// What the connections of one path share, whichever loop they live on. Made by the path before its
// first connection, destroyed by it after its last one is finished. And what all paths of a session
// share, made and destroyed by the session.

#include <atomic>
#include <memory>
#include <string>

#include "rtrs/counters.h"
#include "rtrs/server/accept_gate.h"
#include "rtrs/server/chunk_gates.h"
#include "rtrs/server/chunks.h"
#include "rtrs/server/permits.h"
#include "rtrs/server/request_impl.h"
#include "rtrs/server/server.h"

namespace rnbd::rtrs::server {

struct SessionShared {
  explicit SessionShared(std::uint32_t queue_depth) : permits(queue_depth) {}

  Permits permits;
  std::atomic<bool> own_client{false};  // it has said hello
};

struct ConnectionCounters : ChannelCounters {
  Histogram server;  // of I/O: from arrival to answer, less the backend's time
  Histogram backend;
};

class Channel;

struct PathShared {
  PathShared(const ServerOptions& server_options, RequestHandler& request_handler, Session& owner,
             SessionShared& of_session, std::uint16_t cid_num)
      : options(server_options),
        handler(request_handler),
        session(owner),
        session_shared(of_session),
        connections(cid_num),
        counters(std::make_unique<ConnectionCounters[]>(cid_num)),
        channels(std::make_unique<Channel*[]>(cid_num)) {}

  const ServerOptions& options;
  RequestHandler& handler;
  Session& session;
  SessionShared& session_shared;
  const std::uint16_t connections;
  std::string path_name;  // constant
  std::atomic<const char*> digest{""};
  AcceptGate gate;
  std::unique_ptr<ConnectionCounters[]> counters;  // by cid
  std::unique_ptr<fabric::Domain> domain;
  std::unique_ptr<Chunks> chunks;
  std::unique_ptr<ChunkGates> chunk_gates;  // null: gates have no keys
  std::unique_ptr<Channel*[]> channels;     // by cid, each from before its first request on
  std::unique_ptr<RequestPool> requests;    // there before the gate opens
};

}  // namespace rnbd::rtrs::server
