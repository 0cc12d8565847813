#pragma once
// What rnbd-client has mapped: sessions by name, and the volumes of each. Everything on the home
// loop; what may take time answers later. Every map and unmap is bounded in time.

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "daemon/admin/protocol.h"
#include "daemon/client/frontends.h"
#include "daemon/reactors.h"
#include "daemon/worker.h"
#include "rnbd/client/remote_device.h"

namespace rnbd::daemon {

using ManagerReply = std::function<void(AdminResponse)>;

class Manager final {
 public:
  Manager(Reactors& reactors, const ClientConfig& config, Frontends& frontends);
  ~Manager();  // after close_all() has called back

  // Maps, or finds it mapped already. The answer's devices hold the one device.
  void map(MapRequest request, bool exclusive, ManagerReply reply);
  // `target`: rnbd0, its node, links, loop device or file, or the volume's name (then `session` may
  // narrow it down). In use and not `force`: busy, with the users named.
  void unmap(const std::string& target, const std::string& session, bool force,
             const ManagerReply& reply);
  AdminResponse list() const;
  // Unmaps everything; what is in use is taken away. Refuses further maps.
  void close_all(std::function<void()> done);
  // Gives up every request that is held, so that close_all() can end.
  void fail_all();

 private:
  enum class State { resolving, opening, appearing, ready, leaving };
  struct Session;
  struct Mapping;
  using Mappings = std::list<std::unique_ptr<Mapping>>;

  void start(Mapping& mapping);
  void resolve_hosts(Mapping& mapping);
  void next_alternative(Mapping& mapping);
  void join_session(Mapping& mapping);
  Outcome<Session*> create_session(const MapRequest& request);
  void open(Mapping& mapping);
  void opened(Mapping& mapping, tl::expected<client::RemoteDevice*, client::Failure> result);
  void appeared(Mapping& mapping, Outcome<Presence> presence);
  void take_number_of_node(Mapping& mapping);
  void give_up(Mapping& mapping, Problem why);
  void on_timeout(Mapping& mapping);

  void leave(Mapping& mapping, bool force, const ManagerReply& reply);
  void close_device(Mapping& mapping, std::function<void()> done);
  void remove(Mapping& mapping);
  void release_session(Mapping& mapping);
  void settle(Session& session);
  void session_closed(Session& session);
  void close_one(Mapping& mapping);
  void finish_if_empty();

  Mapping* find(const std::string& session, const std::string& device_path) const;
  Outcome<Mapping*> find_target(const std::string& target, const std::string& session) const;
  unsigned lowest_free_number() const;
  DeviceView view_of(const Mapping& mapping) const;
  SessionView view_of(const Session& session) const;
  static AdminResponse failure(Problem problem);

  Reactors& reactors_;
  const ClientConfig config_;
  Frontends& frontends_;
  SystemRandom random_;
  std::map<std::string, std::unique_ptr<Session>> sessions_;
  Mappings mappings_;
  std::function<void()> on_empty_;    // set: we are closing
  std::unique_ptr<Worker> resolver_;  // getaddrinfo
  // Shared with answers of the resolver on their way here, which must not find us gone.
  std::shared_ptr<int> alive_ = std::make_shared<int>();
};

}  // namespace rnbd::daemon
