#pragma once
// One path of a session: its connections to one server address, from connect to close and back. A
// state machine on the home loop; the table of its moves is in path_state.h. An attempt opens the
// connections one after the other, exchanges the info messages and hands each lane its chunks; the
// end of an attempt waits until the fabric let go of every connection, then lets the lanes complete
// what was in flight, then retries. Destroy only when closed.

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/log.h"
#include "rtrs/client/channel.h"
#include "rtrs/client/control_request.h"
#include "rtrs/client/path_state.h"
#include "rtrs/heartbeat.h"

namespace rnbd::rtrs::client {

class Path;

class PathHandler {
 public:
  virtual ~PathHandler() = default;
  // What a server grants must fit what it granted before, and it must be the same server.
  virtual std::error_code agree(const wire::ConnectAccept& accept,
                                const std::optional<wire::Extension>& extension) = 0;
  virtual bool any_path_up() const = 0;
  virtual LossId next_loss() = 0;  // for the connection that is about to take requests
  virtual PermitRange permits_of(std::uint16_t cid) const = 0;
  virtual SessionLimits session_limits() const = 0;
  virtual void on_path_connected(Path& path) = 0;
  // The connection `loss` ended with requests of unknown fate. Before any other word of its end.
  virtual void on_path_unfenced(Path& path, LossId loss) = 0;
  virtual void on_path_lost(Path& path,
                            std::error_code why) = 0;  // was connected; requests are completed
  virtual void on_path_failed(Path& path,
                              std::error_code why) = 0;  // an attempt failed; a retry follows
  // Down until reconnect(): after close() or disconnect(), or as it gave up by itself.
  virtual void on_path_closed(Path& path, std::error_code why) = 0;
  virtual void on_path_state() = 0;
  virtual void on_path_latency() = 0;
  virtual void on_path_greeted() = 0;
  virtual void on_path_notice() = 0;
};

struct PathOptions {
  std::string session_name;
  fabric::PathAddress address;
  Uuid paths_uuid{};
  Uuid sess_uuid{};
  bool first_conn =
      false;  // the server may create the session for connection 0 of the first attempt
  std::uint16_t reconnects = 0;  // attempts made under this uuid before us
  HeartbeatOptions heartbeat;
  HeartbeatOptions fast_heartbeat;
  Duration connect_timeout{};
  Duration reconnect_delay{};
  Duration reconnect_delay_max{};
  int max_reconnect_attempts = -1;
};

class Path final : private ChannelHandler, private HeartbeatHandler {
 public:
  // lanes[cid] is the lane of connection cid; lanes[0] lives on the home loop. All outlive the
  // path.
  Path(std::vector<LaneImpl*> lanes, Random& random, PathHandler& handler, PathOptions options);

  using Done = std::function<void(std::error_code)>;

  void connect();                   // the first attempt
  void close(std::error_code why);  // the session ends; on_path_closed follows
  // Down, its requests as of a lost path; on_path_closed follows unless it is down already.
  void disconnect();
  // Connects now, after taking down what is up. `done` after that attempt: EBUSY when one is under
  // way.
  void reconnect(Done done);
  void fail(std::error_code why);  // lost, on the word of somebody who knows
  void try_now();                  // if it waits for its next attempt
  PathState state() const { return state_; }
  const std::string& name() const { return name_; }
  const Uuid& uuid() const { return options_.sess_uuid; }
  const fabric::PathAddress& address() const { return options_.address; }  // as configured
  const fabric::Address& local() const { return connected_.source; }       // once connected
  const std::optional<wire::Extension>& extension() const { return extension_; }
  std::error_code last_error() const { return last_error_; }
  // A server of ours has heard our hello; any other needs none.
  bool greeted() const { return greeted_ || !extension_; }
  Duration latency() const { return heartbeat_.latency(); }
  void set_slow(bool slow) { health_.slow.store(slow, std::memory_order_relaxed); }
  void set_max_reconnect_attempts(int attempts) { max_reconnect_attempts_ = attempts; }
  PathIdentity identity() const { return {options_.address, options_.sess_uuid, recon_cnt_}; }
  PathInfo info() const;
  void reset_counters(CounterGroup group) { counters_.reset(group); }

 private:
  // How our own servers learn who we are: the first message to them on a path.
  struct Hello : ControlRequest {
    explicit Hello(Path& owner);
    Path& path;
    enum class State : std::uint8_t { none, owed, sent };
    State state = State::none;
  };

  void on_channel_connected(std::uint16_t cid, const std::vector<std::byte>& accept,
                            const fabric::PathAddress& address, const char* digest) override;
  void on_info_response(const std::vector<std::byte>& bytes) override;
  void on_channel_active(std::uint16_t cid) override;
  void on_heartbeat_answer() override;
  void on_notice() override;
  void on_channel_closed(std::uint16_t cid, std::error_code why) override;
  void on_channel_released(std::uint16_t cid, std::size_t lost) override;
  std::uint64_t received_count() const override { return counters_.received(); }
  void send_heartbeat() override;
  void on_heartbeat_lost() override;

  void transition(PathState next);
  void tell(const char* event, LogLevel level, std::error_code error, std::string_view what);
  void open_next_channel();
  void send_info();
  void up();
  void on_timer();
  void say_hello();
  void on_hello_done(std::error_code error);
  void tear_down(std::error_code why, bool graceful);
  void torn_down();
  static bool nobody_there(std::error_code why);
  bool take_next_way();
  void after_failure();
  void retry_later();
  template <class Call>
  void command(std::size_t cid, Call call);

  const std::vector<LaneImpl*> lanes_;
  Loop& home_;
  Random& random_;
  PathHandler& handler_;
  const PathOptions options_;
  std::string name_;
  fabric::PathAddress connected_;  // with real addresses
  const char* digest_ = "";        // of the connections there are
  PathHealth health_;
  PathCounters counters_;  // they outlive the attempts
  Heartbeat heartbeat_;
  Timer timer_;  // connecting: the info response; reconnecting: the next attempt
  Task torn_down_task_ = Task::of<&Path::torn_down>(this);

  PathState state_ = PathState::connecting;
  std::error_code last_error_;
  std::error_code logged_error_;
  bool first_conn_;
  std::uint16_t recon_cnt_;
  int attempts_ = 0;  // since the last success
  bool ever_connected_ = false;
  TimePoint turned_at_{};  // when it was last told to be up, or not
  int max_reconnect_attempts_;
  bool at_once_ = false;  // the next attempt is not to be waited for
  Done reconnected_;
  TimePoint reconnect_patience_{};  // until then its failures are not told

  // One attempt.
  std::unique_ptr<fabric::Domain> domain_;
  std::vector<std::unique_ptr<Channel>> channels_;  // by cid, as far as opened
  wire::ConnectAccept limits_;
  std::optional<wire::Extension> extension_;
  LossId loss_ = 0;       // once it takes requests
  std::size_t lost_ = 0;  // requests of unknown fate
  std::error_code fate_;  // of the requests in flight when it ends
  Hello hello_{*this};
  bool greeted_ = false;  // the server knows who we are
  std::size_t active_ = 0;
  std::size_t closed_ = 0;
  std::size_t released_ = 0;
  std::size_t way_ = 0;  // of the fabric's ways to the address
  bool info_sent_ = false;
  bool was_up_ = false;
  bool tearing_down_ = false;
};

}  // namespace rnbd::rtrs::client
