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
#include "daemon/client/persistent_maps.h"
#include "daemon/client/state_file.h"
#include "daemon/reactors.h"
#include "daemon/worker.h"
#include "frontend/ublk/ublk_list.h"
#include "rnbd/client/remote_device.h"

namespace rnbd::daemon {

using ManagerReply = std::function<void(AdminResponse)>;

class Manager final {
 public:
  // What a successor must know goes to `file`, before a request that could outlive us is sent; what
  // is to be mapped after a reboot to `maps`.
  Manager(Reactors& reactors, const ClientConfig& config, Frontends& frontends, StateFile file,
          PersistentMaps maps);
  ~Manager();  // after close_all() has called back

  // Takes over from a predecessor that died: its sessions, in its name, so that their servers know
  // that nothing of it runs any more; then its volumes, and those of `devices` (all ublk devices of
  // this machine) that are theirs. Goes on until it succeeds or the volume is unmapped.
  void recover(SavedState state, const std::vector<ublk::ListedDevice>& devices);
  // Then: maps what is remembered and not there yet, each until it succeeds or is unmapped.
  void restore();
  // Maps, or finds it mapped already. The answer's devices hold the one device. `once`: it is not
  // remembered for the next boot.
  void map(MapRequest request, bool exclusive, bool once, ManagerReply reply);
  // `target`: rnbd0, its node, links, loop device or file, or the volume's name (then `session` may
  // narrow it down). In use and not `force`: busy, with the users named.
  void unmap(const std::string& target, const std::string& session, bool force,
             const ManagerReply& reply);
  // Paths of a session, by their words (path_words.h). The answer's one session holds the paths
  // meant, as they are now.
  void add_path(const std::string& session, const PathSpec& path, const ManagerReply& reply);
  // `change`: remove_path, disconnect or reconnect. Without `path`, `target` is a path of any
  // session, or a session: then all its paths are meant, but never for removal.
  void change_paths(AdminCommand change, const std::string& target, const std::string& path,
                    const ManagerReply& reply);
  // hold of a device (as for unmap), policy and max_reconnect_attempts of a session: all or none.
  void set(const std::string& target, const std::vector<Setting>& settings, bool force,
           const ManagerReply& reply);
  // For sessions and volumes made from now on, and volumes whose hold was not set.
  void configure(const ClientConfig& config);
  // Nothing waits for its server longer than this from now on; not remembered.
  void limit_holds(Duration longest);
  // Of a device (as for unmap): see RemoteDevice. `command`: remap or recover.
  void resize(const std::string& target, std::uint64_t size, const ManagerReply& reply);
  void open_again(AdminCommand command, const std::string& target, const ManagerReply& reply);
  // Counters of a device, a session, or a path of one: "all", or their name.
  void reset(const std::string& target, const std::string& path, const std::string& counters,
             const ManagerReply& reply);
  // A link of this machine, or an address on it, came or went.
  void link_changed(const fabric::Address& local, bool up);
  // Who uses a block device is found in /proc: looked up only where it is told.
  enum class Users { counted, left_out };
  AdminResponse list(Users users = Users::counted) const;
  // Unmaps what is mapped and not in use; `in_use`: whether something is left that is.
  void close_unused(std::function<void(bool in_use)> done);
  // Unmaps everything; what is in use is taken away. Refuses further maps.
  void close_all(std::function<void()> done);
  // Gives up every request that is held, so that close_all() can end.
  void fail_all();

 private:
  enum class State { resolving, opening, appearing, ready, leaving };
  struct Session;
  struct Mapping;
  struct PathsMeant;
  struct PathChange;
  using Mappings = std::list<std::unique_ptr<Mapping>>;

  void remember_name(Session& session, const PathSpec& asked, const fabric::PathAddress& address);
  void look_for_moved_hosts();
  void look_up(const std::string& session, const NamedPath& named);
  void move_path(const std::string& session, const NamedPath& named, const fabric::PathAddress& to);
  void start(Mapping& mapping);
  void resolve_hosts(Mapping& mapping);
  void next_alternative(Mapping& mapping);
  void join_session(Mapping& mapping);
  Outcome<Session*> create_session(const Mapping& mapping);
  void open(Mapping& mapping);
  void opened(Mapping& mapping, tl::expected<client::RemoteDevice*, client::Failure> result);
  void appeared(Mapping& mapping, Outcome<Presence> presence);
  void take_number_of_node(Mapping& mapping);
  static void tell_map_failed(const Mapping& mapping, const Problem& why);
  void give_up(Mapping& mapping, Problem why);
  bool recover_later(Mapping& mapping, const Problem& why);
  void abandon_recovery(Mapping& mapping, const ManagerReply& reply);
  SavedState state_to_save() const;
  void save();
  void remember(const Mapping& mapping);
  void remember(const Session& session);
  std::vector<PathSpec> paths_of(const Session& session) const;
  void forget(const Mapping& mapping);
  Duration retry_delay(Mapping& mapping) const;
  void on_timeout(Mapping& mapping);

  void leave(Mapping& mapping, bool force, const ManagerReply& reply);
  void let_go(Mapping& mapping);
  void close_device(Mapping& mapping, std::function<void()> done);
  void remove(Mapping& mapping);
  void release_session(Mapping& mapping);
  void settle(Session& session);
  void session_closed(Session& session);
  void close_one(Mapping& mapping);
  void finish_if_empty();

  Mapping* find(const std::string& session, const std::string& device_path) const;
  Outcome<Mapping*> find_target(const std::string& target, const std::string& session) const;
  Outcome<Mapping*> find_ready(const char* verb, const std::string& target) const;
  void reply_with(const MapRequest& of, const ManagerReply& reply) const;
  Outcome<Session*> find_session(const std::string& name) const;
  Outcome<PathsMeant> find_paths(const std::string& target, const std::string& path) const;
  void add_resolved_path(const std::string& session, const PathSpec& asked,
                         std::vector<PathSpec> alternatives, const ManagerReply& reply);
  void path_added(Session& session, const fabric::PathAddress& address);
  void path_removed(Session& session, const fabric::PathAddress& address);
  void change_one(const std::shared_ptr<PathChange>& change, std::size_t index);
  void set_on_device(const std::string& target, const Setting& setting, bool force,
                     const ManagerReply& reply);
  void set_on_session(const std::string& target, const std::vector<Setting>& settings,
                      const ManagerReply& reply);
  unsigned lowest_free_number() const;
  DeviceView view_of(const Mapping& mapping, Users users = Users::counted) const;
  SessionView view_of(const Session& session) const;
  static AdminResponse failure(Problem problem);

  Reactors& reactors_;
  ClientConfig config_;
  Frontends& frontends_;
  const StateFile file_;
  bool save_failed_ = false;  // and was told
  PersistentMaps maps_;
  SystemRandom random_;
  std::map<std::string, std::unique_ptr<Session>> sessions_;
  Mappings mappings_;
  std::map<std::string, SavedSession> inherited_;  // of the predecessor, not yet taken over
  std::function<void()> on_empty_;                 // set: we are closing
  std::unique_ptr<Worker> resolver_;               // getaddrinfo
  Timer names_timer_;                              // looks for paths whose host has moved
  bool looking_up_ = false;                        // for one of them
  // Shared with answers of the resolver on their way here, which must not find us gone.
  std::shared_ptr<int> alive_ = std::make_shared<int>();
};

}  // namespace rnbd::daemon
