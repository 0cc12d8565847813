#pragma once
// One client as the server sees it: its name and its paths. On the control loop, but for what is
// constant. It outlives its last path until the handler released it, so that a name or uuid that
// comes back too soon is refused.

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "rtrs/server/path.h"

namespace rnbd::rtrs::server {

class SessionImpl;

class SessionOwner {
 public:
  virtual ~SessionOwner() = default;
  virtual bool name_taken(const std::string& name, const SessionImpl& by_other_than) const = 0;
  virtual void on_session_path_gone(SessionImpl& session) = 0;
  virtual void on_session_released(SessionImpl& session) = 0;
};

class SessionImpl final : public Session, private PathHandler {
 public:
  SessionImpl(const PathLoops& loops, const ServerOptions& options, RequestHandler& requests,
              SessionOwner& owner, std::uint64_t id, const Uuid& uuid, bool survivor)
      : loops_(loops),
        options_(options),
        requests_(requests),
        owner_(owner),
        id_(id),
        uuid_(uuid),
        survivor_(survivor),
        shared_(options.queue_depth) {}

  const std::string& name() const override {
    return name_;
  }  // constant once the session was opened
  std::uint64_t id() const override { return id_; }
  std::size_t home() const override { return loops_.home; }
  std::uint32_t queue_depth() const override { return options_.queue_depth; }
  bool survivor() const override { return survivor_; }
  bool own_client() const override { return shared_.own_client.load(std::memory_order_acquire); }
  void release() override;
  void notify() override;

  const Uuid& uuid() const { return uuid_; }
  bool ending() const { return ending_; }  // no path is left and the handler is still busy with it
  const std::vector<std::unique_ptr<Path>>& paths() const { return paths_; }
  Path* find_path(const Uuid& uuid) const;
  // A fence has said that nothing will come of the path's connection that asks here.
  bool fenced(const wire::ConnectRequest& request) const;
  // The errno a connect request that wants a new path must be refused with, or 0.
  int check_new_path(const fabric::IncomingConnection& incoming) const;
  Result<Path*> add_path(const wire::ConnectRequest& request,
                         const fabric::IncomingConnection& first);
  void close(std::error_code why);
  SessionInfo info() const;

 private:
  // A fence that waits for the end of a path.
  struct Pending {
    Fence fence;
    const Path* asker;
    const Path* target;
  };
  // What was promised to nobody but the client: no connection of `path` up to `recon_cnt` any more.
  struct Fenced {
    Uuid path;
    std::uint16_t recon_cnt;
  };

  std::error_code claim_name(Path& path, const std::string& name) override;
  void on_path_connected(Path& path) override;
  void on_fence(Path& asker, const Fence& fence) override;
  void on_permit_collision() override;
  void on_path_closing(Path& path) override;
  void on_path_gone(Path& path) override;

  const PathLoops loops_;
  const ServerOptions& options_;
  RequestHandler& requests_;
  SessionOwner& owner_;
  const std::uint64_t id_;
  const Uuid uuid_;
  const bool survivor_;
  std::string name_;
  bool opened_ = false;  // the handler knows it
  bool ending_ = false;
  SessionShared shared_;
  std::vector<std::unique_ptr<Path>> paths_;
  std::vector<Pending> pending_;
  std::deque<Fenced> fenced_;  // oldest first
};

}  // namespace rnbd::rtrs::server
