#pragma once
// One connection of a server path, from accept to finished: requests in, answers out, in between
// the count of those the handler has. Lives on its loop; the path, on the control loop, commands it
// by posted calls and hears of it the same way. Owned by the path, which destroys it after
// on_channel_finished: by then it is plain memory on every loop.

#include <memory>
#include <vector>

#include "rtrs/heartbeat.h"
#include "rtrs/server/path_shared.h"

namespace rnbd::rtrs::server {

class Channel;

// What a channel tells its path. On the control loop.
class ChannelHandler {
 public:
  virtual ~ChannelHandler() = default;
  virtual void on_info_request(const std::vector<std::byte>& bytes) = 0;  // connection 0
  // A fence was asked for on connection 0. Answer with respond() on the channel's loop, once.
  virtual void on_fence(Channel& channel, RequestImpl& request, const wire::Control& fence) = 0;
  // The client used a permit that another path still had: that one's gate is shut.
  virtual void on_permit_collision() = 0;
  virtual void on_channel_closed(std::uint16_t cid, std::error_code why) = 0;
  // Closed, and the handler has answered every request: nothing refers to the chunks any more.
  virtual void on_channel_finished(std::uint16_t cid) = 0;
};

class Channel final : private fabric::ConnectionHandler,
                      private HeartbeatHandler,
                      private PermitWaiter {
 public:
  // Any thread.
  Channel(fabric::Fabric& fabric, std::size_t loop_index, std::uint16_t cid, PathShared& shared,
          Loop& control, ChannelHandler& handler,
          std::unique_ptr<fabric::IncomingConnection> incoming);

  Loop& loop() { return fabric_.loop(); }
  std::size_t loop_index() const { return loop_index_; }
  Session& session() { return shared_.session; }

  // Commands, on the channel's loop.
  void accept();
  void send_info_response(std::vector<std::byte> bytes);  // and start the heartbeat
  void send_notice();                                     // where the client is one of ours
  void close(std::error_code why, bool graceful);         // once, and nothing after it

  void respond(RequestImpl& request, int error);
  bool abandoned() const { return shared_.gate.shut(); }

 private:
  void on_connected(std::span<const std::byte>) override {}
  void on_rejected(std::span<const std::byte>) override {}
  void on_done(std::uint64_t cookie, std::error_code error) override;
  void on_receive(const fabric::ReceiveEvent& event) override;
  void on_closed(std::error_code why) override;
  std::uint64_t received_count() const override;
  void send_heartbeat() override;
  void on_heartbeat_lost() override;
  void on_permit_granted(std::uint32_t permit) override;

  bool post_receives();
  void fail(std::error_code why);
  void begin_close(std::error_code why, bool graceful);
  void release(RequestImpl& request);
  void forget(RequestImpl& request);
  void drop_parked();
  void maybe_finished();
  void on_immediate(std::uint32_t immediate);
  void on_request(std::uint32_t immediate);
  bool parse(RequestImpl& request, std::uint32_t offset);
  void take(RequestImpl& request, const wire::IoRequest& parsed);
  void run(RequestImpl& request);
  void run_granted(std::uint32_t permit);
  void run_control(RequestImpl& request);
  std::uint32_t items_per_response() const;
  void post_response(RequestImpl& request);
  void count(const RequestImpl& request);
  void trace_answer(const RequestImpl& request);

  // channel_gates.cc: where gates have keys.
  bool keyed() const { return shared_.chunk_gates != nullptr; }
  void on_keyed_request(std::uint32_t immediate);
  void shut_chunk(std::uint32_t immediate);
  void on_chunk_opened(std::uint32_t chunk);
  void on_chunk_ours(std::uint32_t immediate);
  Result<fabric::RemoteSpan> open_chunk(std::uint32_t chunk, std::uint64_t cookie);
  std::error_code post_keyed(std::span<const fabric::Work> batch, RequestImpl& request);
  std::vector<std::byte> open_all_chunks();

  void post_waiting();
  void queue_heartbeat(std::uint32_t immediate);
  void post_heartbeat(std::uint32_t immediate);

  // Cookies of gates being moved, and of answers behind one: with the immediate, the chunk, or the
  // chunk and how many items the answer stands for.
  static constexpr std::uint64_t kKindMask = std::uint64_t{0xff} << 32;
  static constexpr std::uint64_t kShutCookie = std::uint64_t{4} << 32;
  static constexpr std::uint64_t kOpenedCookie = std::uint64_t{5} << 32;
  static constexpr std::uint64_t kAnswerCookie = std::uint64_t{6} << 32;
  static constexpr unsigned kChunkShift = 8;

  template <class Call>
  void tell(Call call) {
    control_.post([&handler = handler_, call = std::move(call)] { call(handler); });
  }

  fabric::Fabric& fabric_;
  const std::size_t loop_index_;
  const std::uint16_t cid_;
  PathShared& shared_;
  ConnectionCounters& counters_;
  Loop& control_;
  ChannelHandler& handler_;
  std::unique_ptr<fabric::IncomingConnection> incoming_;
  std::unique_ptr<fabric::Connection> connection_;
  const wire::RequestImmediate immediate_;
  const bool can_invalidate_;
  std::error_code error_;  // why it ends, where we know better than the fabric
  bool closing_ = false;
  bool closed_ = false;
  bool last_command_seen_ = false;

  std::uint32_t credits_ = 0;      // work items of responses the send queue still takes
  std::uint32_t outstanding_ = 0;  // requests the handler has, or whose answer waits
  IntrusiveList<RequestImpl>
      waiting_;  // answered, for want of credits not yet sent; their chunks are busy
  IntrusiveList<RequestImpl> parked_;  // until another path gives up their permit

  Heartbeat heartbeat_;  // of connection 0
  std::uint32_t heartbeats_posted_ = 0;
  bool heartbeat_waits_ = false;
  bool heartbeat_ack_waits_ = false;
  bool notice_waits_ = false;
  std::array<std::byte, sizeof(wire::layout::InfoRequest)> info_request_;
  std::vector<std::byte> info_response_;
};

}  // namespace rnbd::rtrs::server
