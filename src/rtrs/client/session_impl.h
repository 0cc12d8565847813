#pragma once
// The session: its lanes, its paths, and what the paths together mean to the user. On the home
// loop.

#include <memory>
#include <string>
#include <vector>

#include "rtrs/client/fencing.h"
#include "rtrs/client/path.h"

namespace rnbd::rtrs::client {

class SessionImpl final : public Session, private PathHandler, private FencingHandler {
 public:
  SessionImpl(std::span<fabric::Fabric* const> fabrics, std::size_t home, Random& random,
              SessionHandler& handler, SessionOptions options);

  void open() override;
  void close() override;
  const std::string& name() const override { return options_.name; }
  SessionLimits limits() const override { return limits_; }
  std::size_t lane_count() const override { return io_lanes_; }
  Lane& lane(std::size_t index) override;
  Lane& service_lane() override { return *lanes_.front(); }
  std::vector<PathInfo> paths() const override;
  const Uuid& uuid() const override { return uuid_; }
  SessionIdentity identity() const override;
  std::optional<wire::Extension> server_identity() const override { return server_; }
  bool fenced() const override { return fencing_.empty(); }
  void declare_fenced() override;

  using Done = std::function<void(std::error_code)>;
  void add_path(const fabric::PathAddress& address, Done done) override;
  void disconnect_path(std::size_t index, Done done) override;
  void reconnect_path(std::size_t index, Done done) override;
  void remove_path(std::size_t index, Done done) override;
  void link_changed(const fabric::Address& local, bool up) override;
  void set_policy(PathPolicy policy) override;
  void set_max_reconnect_attempts(int attempts) override;
  void reset_counters(std::size_t index, CounterGroup group) override {
    paths_[index]->reset_counters(group);
  }

 private:
  // opening: paths are brought up one after the other, or resumed all at once. open: they were up.
  // closing: all come down.
  enum class State { idle, opening, open, closing, closed };

  // A wish about a path whose end is still to be told.
  struct PathCall {
    enum class Kind : std::uint8_t { add, disconnect, remove };
    Path* path = nullptr;
    Kind kind = Kind::add;
    Done done;
  };

  std::error_code agree(const wire::ConnectAccept& accept,
                        const std::optional<wire::Extension>& extension) override;
  bool any_path_up() const override { return paths_up_ > 0; }
  LossId next_loss() override { return fencing_.next(); }
  void on_path_unfenced(Path& path, LossId loss) override;
  void on_path_latency() override;
  void on_path_greeted() override { home_.defer(look_task_); }
  void on_path_notice() override { home_.defer(notice_task_); }
  void on_fenced(LossId loss, const Uuid& path, const char* how) override;
  void on_fence_time() override { look(); }
  PermitRange permits_of(std::uint16_t cid) const override;
  SessionLimits session_limits() const override { return limits_; }
  void on_path_connected(Path& path) override;
  void on_path_lost(Path& path, std::error_code why) override;
  void on_path_failed(Path& path, std::error_code why) override;
  void on_path_closed(Path& path, std::error_code why) override;
  void on_path_state() override { home_.defer(changed_task_); }

  PathOptions path_options(const fabric::PathAddress& address, bool first);
  Path& make_path(const fabric::PathAddress& address, bool first);
  void open_next_path();
  void look();
  bool server_fences() const;
  void path_down(std::size_t index, PathCall::Kind kind, Done done);
  std::vector<PathCall> take_calls(const Path& path);
  void drop_path(Path& path);
  void finish_removals();
  std::size_t index_of(const Path& path) const;
  void report_connected();
  bool tries_again(std::error_code why) const;
  void shut_down(std::error_code why);
  void maybe_closed();
  void report_closed();
  void report_changed();
  void report_notice();

  const SessionOptions options_;
  const std::size_t io_lanes_;
  Loop& home_;
  SessionHandler& handler_;
  const Uuid uuid_;
  std::vector<std::unique_ptr<LaneImpl>> lanes_;  // by cid: service, IO, poll
  std::vector<LaneImpl*> lane_pointers_;
  std::vector<std::unique_ptr<Path>> paths_;
  Random& random_;
  Fencing fencing_;
  std::optional<wire::Extension> server_;  // of the paths that are up
  std::vector<PathCall> calls_;
  SessionLimits limits_;
  int max_reconnect_attempts_;
  State state_ = State::idle;
  std::error_code why_closed_;
  TimePoint opened_at_{};
  std::size_t paths_opened_ = 0;
  std::size_t paths_up_ = 0;
  std::size_t paths_closed_ = 0;
  std::size_t lanes_closed_ = 0;
  bool connected_ = false;      // as far as the user was told
  bool new_loss_ = false;       // the user was not told of it
  bool unfenced_told_ = false;  // and now of its fence
  Task look_task_ = Task::of<&SessionImpl::look>(this);
  Task open_task_ = Task::of<&SessionImpl::open_next_path>(this);
  Task closed_task_ = Task::of<&SessionImpl::report_closed>(this);
  Task notice_task_ = Task::of<&SessionImpl::report_notice>(this);
  Task changed_task_ = Task::of<&SessionImpl::report_changed>(this);
};

}  // namespace rnbd::rtrs::client
