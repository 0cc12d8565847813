#pragma once
// The session: its lanes, its paths, and what the paths together mean to the user. On the home
// loop.

#include <memory>
#include <string>
#include <vector>

#include "rtrs/client/path.h"

namespace rnbd::rtrs::client {

class SessionImpl final : public Session, private PathHandler {
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

 private:
  // opening: paths are brought up one after the other, or resumed all at once. open: they were up.
  // closing: all come down.
  enum class State { idle, opening, open, closing, closed };

  std::error_code agree(const wire::ConnectAccept& accept) override;
  PermitRange permits_of(std::uint16_t cid) const override;
  SessionLimits session_limits() const override { return limits_; }
  void on_path_connected(Path& path) override;
  void on_path_lost(Path& path, std::error_code why) override;
  void on_path_failed(Path& path, std::error_code why) override;
  void on_path_closed(Path& path, std::error_code why) override;
  void on_path_state() override { home_.defer(changed_task_); }

  PathOptions path_options(std::size_t index, Random& random) const;
  void open_next_path();
  void on_resumed(Path& path);
  bool tries_again(std::error_code why) const;
  void shut_down(std::error_code why);
  void maybe_closed();
  void report_closed();
  void report_changed();

  const SessionOptions options_;
  const std::size_t io_lanes_;
  Loop& home_;
  SessionHandler& handler_;
  const Uuid uuid_;
  std::vector<std::unique_ptr<LaneImpl>> lanes_;  // by cid: service, IO, poll
  std::vector<std::unique_ptr<Path>> paths_;
  std::vector<const Path*>
      unproven_;  // the predecessor's, as long as the server has not accepted us
  SessionLimits limits_;
  State state_ = State::idle;
  std::error_code why_closed_;
  TimePoint opened_at_{};
  std::size_t paths_opened_ = 0;
  std::size_t paths_up_ = 0;
  std::size_t paths_closed_ = 0;
  std::size_t lanes_closed_ = 0;
  Task open_task_ = Task::of<&SessionImpl::open_next_path>(this);
  Task closed_task_ = Task::of<&SessionImpl::report_closed>(this);
  Task changed_task_ = Task::of<&SessionImpl::report_changed>(this);
};

}  // namespace rnbd::rtrs::client
