#pragma once
// One path of a client: its connections, its chunks, from the first connect request until nothing
// refers to either. On the control loop. Closing goes strictly in order: gate shut, connections
// closed, handler done with every request, memory freed, and only then the path's place given up:
// accepting the same path anew proves that nothing of the old one runs any more.

#include <memory>
#include <vector>

#include "rtrs/server/channel.h"
#include "rtrs/server/path_state.h"

namespace rnbd::rtrs::server {

class Path;

// A fence to be answered.
struct Fence {
  wire::Control what;
  Channel* channel = nullptr;  // it came on; there until it is answered
  RequestImpl* request = nullptr;

  void answer(int error) const {
    channel->loop().post([to = channel, of = request, error] { to->respond(*of, error); });
  }
};

class PathHandler {
 public:
  virtual ~PathHandler() = default;
  // The client gave the session's name on this path: may it?
  virtual std::error_code claim_name(Path& path, const std::string& name) = 0;
  virtual void on_path_connected(Path& path) = 0;
  // A client's fence, on connection 0 of `asker`: see Channel.
  virtual void on_fence(Path& asker, const Fence& fence) = 0;
  virtual void on_permit_collision() = 0;
  // It begins to close: its own fences must be answered now, or nothing of it would ever end.
  virtual void on_path_closing(Path& path) = 0;
  // Closed and empty. Destroys the path, later.
  virtual void on_path_gone(Path& path) = 0;
};

// The loops a path's connections are spread over, and where it itself lives.
struct PathLoops {
  std::span<fabric::Fabric* const> fabrics;
  std::size_t home = 0;  // loop of connection 0
  fabric::Fabric& of(std::uint16_t cid) const { return *fabrics[index_of(cid)]; }
  std::size_t index_of(std::uint16_t cid) const { return (home + cid) % fabrics.size(); }
  Loop& control() const { return fabrics[0]->loop(); }
};

class Path final : private ChannelHandler {
 public:
  // Registers the chunks; `first` is the request that asks for the path.
  static Result<std::unique_ptr<Path>> create(const PathLoops& loops, const ServerOptions& options,
                                              RequestHandler& requests, Session& session,
                                              SessionShared& of_session, PathHandler& handler,
                                              const wire::ConnectRequest& request,
                                              const fabric::IncomingConnection& first);

  const Uuid& uuid() const { return uuid_; }
  std::uint16_t recon_cnt() const { return recon_cnt_; }
  PathState state() const { return state_; }
  bool given_up() const { return shared_.gate.shut(); }  // or already closing
  const fabric::Address& client() const { return client_; }
  const std::string& name() const { return name_; }
  // The errno this connect request must be refused with, or 0.
  int check(const wire::ConnectRequest& request) const;
  bool same_addresses(const fabric::IncomingConnection& incoming) const;
  void add_connection(const wire::ConnectRequest& request,
                      std::unique_ptr<fabric::IncomingConnection> incoming);
  void close(std::error_code why, bool graceful);
  void send_notice();
  PathInfo info() const;  // what was counted since the last reset
  void reset_counters();

 private:
  Path(const PathLoops& loops, const ServerOptions& options, RequestHandler& requests,
       Session& session, SessionShared& of_session, PathHandler& handler,
       const wire::ConnectRequest& request, const fabric::IncomingConnection& first);

  void on_info_request(const std::vector<std::byte>& bytes) override;
  void on_fence(Channel& channel, RequestImpl& request, const wire::Control& fence) override {
    handler_.on_fence(*this, {fence, &channel, &request});
  }
  void on_permit_collision() override { handler_.on_permit_collision(); }
  void on_channel_closed(std::uint16_t cid, std::error_code why) override;
  void on_channel_finished(std::uint16_t cid) override;
  void transition(PathState next);
  std::vector<std::byte> info_response() const;
  void on_handshake_timeout() { close(Errc::handshake_timeout, false); }
  void report_gone() { handler_.on_path_gone(*this); }
  template <class Call>
  void command(Channel& channel, Call call) {
    channel.loop().post([&channel, call = std::move(call)] { call(channel); });
  }

  const PathLoops loops_;
  const ServerOptions& options_;
  PathHandler& handler_;
  const Uuid uuid_;
  const std::uint16_t cid_num_;
  const std::uint16_t recon_cnt_;
  const fabric::Address client_;
  const fabric::Address server_;
  const std::string name_;
  PathState state_ = PathState::connecting;
  PathShared shared_;
  struct Sums {
    RequestSums requests{};
    LatencyCounts server{}, backend{};
  };
  Sums sums() const;
  Sums base_;                                       // at the last reset
  std::vector<std::unique_ptr<Channel>> channels_;  // by cid; null: not asked for yet
  std::size_t opened_ = 0;
  std::size_t finished_ = 0;
  Timer handshake_timer_;
  Task gone_task_ = Task::of<&Path::report_gone>(this);
};

}  // namespace rnbd::rtrs::server
