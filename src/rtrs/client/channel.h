#pragma once
// One connection of a client path, from connect to closed, and the requests in flight on it. Lives
// on its lane's loop; the path, on the home loop, commands it by posted calls and hears of it the
// same way. Owned by the path, which destroys it after on_channel_released: by then it is plain
// memory on every loop.

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "rtrs/client/lane.h"
#include "rtrs/client/path_counters.h"
#include "wire/rtrs.h"

namespace rnbd::rtrs::client {

inline constexpr std::uint32_t kServicePermitsMax = 8;

// What a channel tells its path. On the home loop.
class ChannelHandler {
 public:
  virtual ~ChannelHandler() = default;
  virtual void on_channel_connected(std::uint16_t cid, const std::vector<std::byte>& accept,
                                    const fabric::PathAddress& address, const char* digest) = 0;
  virtual void on_info_response(const std::vector<std::byte>& bytes) = 0;  // connection 0
  virtual void on_channel_active(std::uint16_t cid) = 0;
  virtual void
  on_heartbeat_answer() = 0;     // connection 0; called directly, its loop is the home loop
  virtual void on_notice() = 0;  // the same
  // The fabric let go of everything of this channel. Requests in flight are still held.
  virtual void on_channel_closed(std::uint16_t cid, std::error_code why) = 0;
  // They have been completed, or left with the lane; `lost` of them are of unknown fate.
  virtual void on_channel_released(std::uint16_t cid, std::size_t lost) = 0;
};

// How a path does, told by its heartbeats. Written on the home loop, read by every lane.
struct PathHealth {
  std::atomic<Duration::rep> latency{0};
  std::atomic<bool> slow{false};  // against the other paths of the session
};

struct ConnectCommand {
  fabric::PathAddress address;
  wire::layout::ConnectRequest request;
  fabric::Domain* domain = nullptr;
  Duration timeout{};
  wire::ConnectAccept limits;  // what connection 0 was granted; empty for connection 0 itself
  PermitRange permits;
};

class Channel final : private fabric::ConnectionHandler {
 public:
  // Any thread. `counters` and `health` outlive the channel.
  Channel(LaneImpl& lane, Loop& home, ChannelHandler& handler, ConnectionCounters& counters,
          const PathHealth& health);

  // Commands, on the lane's loop.
  void connect(const ConnectCommand& command);
  void send_info(const std::string& name, const wire::ConnectAccept& limits,
                 const PermitRange& permits);
  // From here on the lane sends over it.
  void activate(std::vector<wire::RemoteChunk> chunks, const SessionLimits& limits,
                bool holds_writes);
  void close(std::error_code why, bool graceful);
  // After on_channel_closed: ends what was in flight. With a loss id the lane decides how; without
  // one it is completed with `why`.
  void release(std::error_code why, LossId loss);

  // Data path. An error: nothing was sent and the request is still the caller's.
  std::error_code send(Request& request, std::uint32_t permit);
  // False: it is not here. Else its heir takes its place and it is given back, as soon as the
  // fabric has no use for its memory any more.
  bool give_up(Request& request);
  // Stands for its path, whichever attempt of it.
  const void* path() const { return &health_; }
  std::uint64_t inflight() const { return counters_.inflight.get(); }
  Duration latency() const { return Duration(health_.latency.load(std::memory_order_relaxed)); }
  bool slow() const { return health_.slow.load(std::memory_order_relaxed); }
  // A heartbeat or its answer; waits its turn when the peer does not take what we send.
  void send_heartbeat(std::uint32_t immediate);

 private:
  struct Entry {
    Request* request = nullptr;
    TimePoint posted{};
    std::uint32_t cpu = 0;  // it was posted on
    int error = 0;          // the server's answer
    bool sent = false;      // the fabric has no use for our memory any more
    bool answered = false;
    bool exposed = false;  // the peer may write into the request's data
  };
  static constexpr std::size_t kSlotSize = 128;  // RTRS message, with a small user message in front

  void on_connected(std::span<const std::byte> private_data) override;
  void on_rejected(std::span<const std::byte> private_data) override;
  void on_done(std::uint64_t cookie, std::error_code error) override;
  void on_receive(const fabric::ReceiveEvent& event) override;
  void on_closed(std::error_code why) override;

  void prepare(const wire::ConnectAccept& limits, const PermitRange& permits);
  std::uint32_t receives() const;
  bool post_receives();
  bool post_receive(std::uint64_t index);
  void fail(std::error_code why);

  std::error_code send_control(Request& request, std::uint32_t permit);
  std::error_code post_request(std::uint32_t permit, std::span<const iovec> local, std::uint32_t at,
                               std::uint32_t offset);
  void on_info(const fabric::ReceiveEvent& event);
  void on_immediate(std::uint32_t immediate);
  void on_send(std::span<const std::byte> bytes, const fabric::ReceiveEvent& event);
  void on_response(std::uint32_t immediate, std::span<const std::byte> key_message);
  void posted(Request& request, std::uint32_t permit, bool exposed);
  void finish(std::uint32_t permit);
  void post_heartbeat(std::uint32_t immediate);
  void on_heartbeat_sent();

  template <class Call>
  void tell(Call call) {
    home_.post([&handler = handler_, call = std::move(call)] { call(handler); });
  }

  LaneImpl& lane_;
  Loop& loop_;
  Loop& home_;
  ChannelHandler& handler_;
  ConnectionCounters& counters_;
  const PathHealth& health_;
  std::unique_ptr<fabric::Connection> connection_;
  std::error_code error_;  // why it ends, where we know better than the fabric
  bool closing_ = false;
  bool send_imm_ = false;  // the path's fabric can

  wire::ConnectAccept limits_;
  PermitRange permits_;
  wire::RequestImmediate immediate_{1};
  std::vector<Entry> entries_;             // by lane-local permit
  std::vector<wire::RemoteChunk> chunks_;  // the same
  std::vector<std::byte> slots_;           // the same, kSlotSize each
  std::vector<iovec> iovecs_;              // of the request being sent

  std::vector<std::array<std::byte, sizeof(wire::layout::RkeyResponse)>>
      key_buffers_;  // by receive
  std::optional<std::array<std::byte, sizeof(wire::layout::RkeyResponse)>> pending_key_;
  wire::layout::InfoRequest info_request_{};
  std::vector<std::byte> info_response_;
  std::uint32_t heartbeats_posted_ = 0;
  bool heartbeat_waits_ = false;
  bool heartbeat_ack_waits_ = false;
};

}  // namespace rnbd::rtrs::client
