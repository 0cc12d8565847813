#include "daemon/client/client_daemon.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <future>

#include "base/log.h"
#include "daemon/admin/admin_server.h"
#include "daemon/admin/runtime.h"
#include "daemon/client/frontends.h"
#include "daemon/client/manager.h"
#include "daemon/link_watch.h"
#include "daemon/reactors.h"
#include "daemon/service.h"
#include "daemon/tree/fuse_view.h"

namespace rnbd::daemon {
namespace {

// What the server gets to finish and confirm, then what giving up may take.
constexpr auto kCloseTimeout = std::chrono::seconds(8);
constexpr auto kGiveUpTimeout = std::chrono::seconds(8);

}  // namespace

class ClientDaemon::Impl {
 public:
  explicit Impl(const Config& config) : config_(config.client) {}

  Outcome<void> start() {
    admin_path_ = config_.admin_socket.empty() ? default_client_socket() : config_.admin_socket;
    std::string directory = std::filesystem::absolute(admin_path_).parent_path();
    if (std::error_code error = make_directory(directory))
      return problem({ProblemCode::failed,
                      fmt::format("cannot make {}: {}", directory, error.message()), "",
                      to_errno(error)});
    // Bounce memory as it is at first, and the queues.
    constexpr Reactors::Pinned kPinned{.per_path = 0, .per_connection = std::size_t{3} << 20};
    auto reactors = Reactors::start("rnbd-clt", config_.loops, config_.network, kPinned);
    if (!reactors) return tl::unexpected(reactors.error());
    reactors_ = std::move(*reactors);
    // The admin socket first: it tells whether another daemon runs here, before anything of its is
    // touched.
    if (auto opened = open_admin_socket(); !opened) return opened;
    const StateFile file(directory + "/client-state.json");
    const Inheritance inheritance = inherit(file);
    PersistentMaps maps = remembered();
    Outcome<void> made;
    reactors_->on_home([&] {
      auto frontends = Frontends::start(*reactors_, config_, directory);
      if (!frontends) return void(made = tl::unexpected(frontends.error()));
      frontends_ = std::move(*frontends);
      manager_ = std::make_unique<Manager>(*reactors_, config_, *frontends_, file, std::move(maps));
      manager_->recover(inheritance.state, inheritance.devices);
      manager_->restore();
      attributes_ = std::make_unique<Attributes>(
          [this](bool with_users, const AdminReply& reply) {
            reply(manager_->list(with_users ? Manager::Users::counted : Manager::Users::left_out));
          },
          [this](const AdminRequest& request, const AdminReply& reply) { answer(request, reply); });
      watch_links();
    });
    if (made) show_attributes();
    return made;
  }

  ~Impl() {
    admin_.reset();
    view_.reset();
    if (!reactors_) return;
    const std::string_view on_stop = power_down_ ? "unmap" : std::string_view(config_.on_stop);
    if (manager_ && (on_stop == "leave" || (on_stop == "auto" && some_in_use()))) leave_volumes();
    if (manager_) close_volumes();
    if (frontends_) stop_frontends();
    auto gone = std::make_shared<std::promise<void>>();  // outlives this call if a name is slow
    auto future = gone->get_future();
    reactors_->home().post([this, gone] {
      links_.reset();
      manager_.reset();
      attributes_.reset();
      frontends_.reset();
      gone->set_value();
    });
    // Every volume is closed by now; a look-up of a host name cannot be taken back.
    if (future.wait_for(kGiveUpTimeout) != std::future_status::ready) ::_exit(0);
    reactors_.reset();
  }

  void reload(const Config& config) {
    begin_reload();
    const ClientConfig& next = config.client;
    Config before;
    before.client = config_;
    set_log_level(parse_log_level(config.log_level));
    if (next.admin_group != config_.admin_group)
      if (auto error = admin_->set_group(next.admin_group))
        log_error("admin_group '{}': {}", printable(next.admin_group), error.message());
    config_.admin_group = next.admin_group;
    config_.on_stop = next.on_stop;
    config_.shutdown_timeout = next.shutdown_timeout;
    config_.connect_timeout = next.connect_timeout;
    config_.map_timeout = next.map_timeout;
    config_.hold_timeout = next.hold_timeout;
    config_.reconnect_delay = next.reconnect_delay;
    config_.reconnect_delay_max = next.reconnect_delay_max;
    config_.max_reconnect_attempts = next.max_reconnect_attempts;
    config_.path_policy = next.path_policy;
    config_.failover = next.failover;
    reactors_->on_home([this] { manager_->configure(config_); });
    constexpr std::array<std::string_view, 11> kLive{
        "admin_group",         "on_stop",         "connect_timeout",        "map_timeout",
        "hold_timeout",        "reconnect_delay", "max_reconnect_attempts", "path_policy",
        "reconnect_delay_max", "failover",        "shutdown_timeout"};
    end_reload(changed_keys(before, config, "client"), kLive);
  }

  void power_down() {
    log_info("the machine goes down: who does not answer is waited for {} s",
             std::chrono::duration_cast<std::chrono::seconds>(config_.shutdown_timeout).count());
    power_down_ = true;
    if (config_.shutdown_timeout == Duration(0)) return;
    reactors_->on_home([this] { manager_->limit_holds(config_.shutdown_timeout); });
  }

  const std::string& admin_socket() const { return admin_path_; }

 private:
  // What a predecessor that died has left.
  struct Inheritance {
    SavedState state;
    std::vector<ublk::ListedDevice> devices;
  };
  static Inheritance inherit(const StateFile& file) {
    auto state = file.load();
    if (!state) log_error("{}", state.error().text());
    if (!state || state->mappings.empty()) return {};
    auto devices = ublk::list_devices();
    return {std::move(*state), devices ? *devices : std::vector<ublk::ListedDevice>{}};
  }

  // What was mapped when the machine went down, or this daemon.
  PersistentMaps remembered() const {
    const std::string directory =
        state_directory(config_.state_dir, config_.admin_socket, default_client_socket());
    if (auto error = make_directory(directory, 0700))
      log_warning("cannot make {}: {}", directory, error.message());
    // Daemons with sockets in one directory do not share it.
    const std::string name = std::filesystem::path(admin_path_).stem();
    PersistentMaps maps(fmt::format("{}/{}-maps.json", directory, name));
    if (auto loaded = maps.load(); !loaded) log_error("{}", loaded.error().text());
    return maps;
  }

  Outcome<void> open_admin_socket() {
    auto admin = AdminServer::create(
        {.path = admin_path_, .group = config_.admin_group},
        [this](AdminRequest request, AdminReply reply) {
          reactors_->home().post([this, request = std::move(request), reply = std::move(reply)] {
            answer(request, reply);
          });
        });
    if (admin) {
      admin_ = std::move(*admin);
      return {};
    }
    bool taken = admin.error() == from_errno(EADDRINUSE);
    return problem(
        {taken ? ProblemCode::busy : ProblemCode::failed,
         fmt::format("cannot open the admin socket {}: {}", admin_path_, admin.error().message()),
         taken ? "another rnbd-client runs; give this one its own --socket" : "",
         to_errno(admin.error())});
  }

  void show_attributes() {
    view_ = show_tree(
        config_.tree, admin_path_ == default_client_socket(), default_server_socket(),
        {.group = config_.admin_group,
         .own = Side::client,
         .on_home =
             [this](std::function<void(Attributes&)> call) {
               reactors_->home().post([this, call = std::move(call)] { call(*attributes_); });
             },
         .last_command = attributes_->last_command()});
  }

  // Without it lost links are noticed by their silence only.
  void watch_links() {
    auto links = LinkWatch::start(reactors_->home(), [this](const auto& local, bool up) {
      manager_->link_changed(local, up);
    });
    if (links)
      links_ = std::move(*links);
    else
      log_warning("links of this machine are not watched: {}", links.error().message());
  }

  // On the home loop.
  void answer(const AdminRequest& request, const AdminReply& answered) {
    if (!manager_) {
      AdminResponse response;
      response.error = Problem{ProblemCode::busy, "the daemon is starting", "try again", EAGAIN};
      return answered(response);
    }
    if (Attributes::is_for(request.command)) return attributes_->handle(request, answered);
    const AdminReply reply = attributes_->noting(answered);
    switch (request.command) {
      case AdminCommand::map:
        return manager_->map(request.map, request.exclusive, request.once, reply);
      case AdminCommand::unmap:
        return manager_->unmap(request.target, request.session, request.force, reply);
      case AdminCommand::add_path:
        return manager_->add_path(request.target, request.new_path, reply);
      case AdminCommand::remove_path:
      case AdminCommand::disconnect:
      case AdminCommand::reconnect:
        return manager_->change_paths(request.command, request.target, request.path, reply);
      case AdminCommand::set:
        return manager_->set(request.target, request.settings, request.force, reply);
      case AdminCommand::resize:
        return manager_->resize(request.target, request.size, reply);
      case AdminCommand::remap:
      case AdminCommand::recover:
        return manager_->open_again(request.command, request.target, reply);
      case AdminCommand::reset:
        return manager_->reset(request.target, request.path, request.counters, reply);
      case AdminCommand::list:
      case AdminCommand::ping:
        return reply(manager_->list());
      default: {
        AdminResponse response;
        response.error = Problem{ProblemCode::usage, "rnbd-client does not know this command",
                                 "ask rnbd-server", EINVAL};
        return reply(response);
      }
    }
  }

  // As a crash, but with the files and sockets taken away: ublk devices wait for the next daemon.
  [[noreturn]] void leave_volumes() {
    auto left = std::make_shared<std::promise<void>>();
    auto future = left->get_future();
    reactors_->on_home([&] { frontends_->leave_ublk([left] { left->set_value(); }); });
    if (future.wait_for(kCloseTimeout) != std::future_status::ready)
      log_warning("servers do not answer: block devices are left as they are");
    stop_frontends();
    log_info("volumes are left to the next daemon");
    std::_Exit(0);
  }

  // After what is not in use was unmapped. A server that does not answer leaves it in doubt.
  bool some_in_use() {
    auto closed = std::make_shared<std::promise<bool>>();  // outlives this call if closing is late
    auto future = closed->get_future();
    reactors_->on_home(
        [&] { manager_->close_unused([closed](bool in_use) { closed->set_value(in_use); }); });
    return future.wait_for(kCloseTimeout) != std::future_status::ready || future.get();
  }

  void close_volumes() {
    auto closed = std::make_shared<std::promise<void>>();  // outlives this call if closing is late
    auto future = closed->get_future();
    reactors_->on_home([&] { manager_->close_all([closed] { closed->set_value(); }); });
    if (future.wait_for(kCloseTimeout) == std::future_status::ready) return;
    log_warning("servers do not answer: giving up what still runs");
    reactors_->on_home([&] { manager_->fail_all(); });
    if (future.wait_for(kGiveUpTimeout) == std::future_status::ready) return;
    log_error("volumes cannot be closed: leaving without");
    _exit(static_cast<int>(ProblemCode::failed));
  }

  void stop_frontends() {
    auto stopped = std::make_shared<std::promise<void>>();
    auto future = stopped->get_future();
    reactors_->on_home([&] { frontends_->stop([stopped] { stopped->set_value(); }); });
    if (future.wait_for(kGiveUpTimeout) == std::future_status::ready) return;
    log_error("NBD clients or the mount do not let go: leaving without");
    _exit(static_cast<int>(ProblemCode::failed));
  }

  ClientConfig config_;
  bool power_down_ = false;
  std::unique_ptr<Reactors> reactors_;
  std::unique_ptr<Frontends> frontends_;
  std::unique_ptr<Manager> manager_;
  std::unique_ptr<LinkWatch> links_;
  std::unique_ptr<Attributes> attributes_;
  std::unique_ptr<FuseView> view_;
  std::string admin_path_;
  std::unique_ptr<AdminServer> admin_;
};

Outcome<std::unique_ptr<ClientDaemon>> ClientDaemon::start(const Config& config) {
  auto impl = std::make_unique<Impl>(config);
  if (auto started = impl->start(); !started) return tl::unexpected(started.error());
  return std::unique_ptr<ClientDaemon>(new ClientDaemon(std::move(impl)));
}

ClientDaemon::ClientDaemon(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ClientDaemon::~ClientDaemon() = default;
void ClientDaemon::reload(const Config& config) { impl_->reload(config); }
void ClientDaemon::power_down() { impl_->power_down(); }
const std::string& ClientDaemon::admin_socket() const { return impl_->admin_socket(); }

}  // namespace rnbd::daemon
