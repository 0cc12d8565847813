#include "daemon/server/server_daemon.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <future>

#include "base/log.h"
#include "daemon/admin/admin_server.h"
#include "daemon/admin/runtime.h"
#include "daemon/reactors.h"
#include "daemon/server/export_opener.h"
#include "daemon/server/server_admin.h"
#include "daemon/server/session_history.h"
#include "daemon/service.h"
#include "daemon/tree/fuse_view.h"
#include "daemon/whole_file.h"
#include "rnbd/server/exports.h"
#include "rtrs/server/server.h"

namespace rnbd::daemon {
namespace {

constexpr auto kStopTimeout = std::chrono::seconds(10);

rtrs::server::ServerOptions server_options(const ServerConfig& config) {
  rtrs::server::ServerOptions options;
  options.queue_depth = static_cast<std::uint32_t>(config.sess_queue_depth);
  options.max_chunk_size = static_cast<std::uint32_t>(config.max_chunk_size);
  options.heartbeat = {config.network.heartbeat_interval,
                       static_cast<unsigned>(config.network.heartbeat_missed_max)};
  options.fast_heartbeat = {config.network.fast_heartbeat_interval,
                            static_cast<unsigned>(config.network.fast_heartbeat_missed_max)};
  options.handshake_timeout = config.handshake_timeout;
  options.max_sessions = static_cast<std::uint32_t>(config.max_sessions);
  options.max_paths_per_session = static_cast<std::uint32_t>(config.max_paths_per_session);
  options.max_chunk_memory = config.max_chunk_memory;
  return options;
}

Problem listen_problem(const std::string& where, const std::error_code& error, Rdma rdma) {
  int code = to_errno(error);
  if (code == ENODEV)
    return {ProblemCode::config, fmt::format("cannot listen: {} {}", rdma_words(rdma).why, where),
            rdma_words(rdma).hint, code};
  std::string hint;
  if (code == EADDRINUSE) hint = "something listens there already; choose another --port";
  if (code == EADDRNOTAVAIL) hint = "this machine has no such address";
  if (code == EACCES) hint = "ports below 1024 need root";
  return {code_of_errno(code), fmt::format("cannot listen on {}: {}", where, error.message()), hint,
          code};
}

}  // namespace

class ServerDaemon::Impl {
 public:
  explicit Impl(const Config& config) : config_(config.server), exports_config_(config.exports) {}

  Outcome<void> start() {
    if (auto checked = check_search_path(); !checked) return checked;
    // Chunk memory, and the queues: about 1 KiB per request on each connection.
    const Reactors::Pinned pinned{.per_path = config_.sess_queue_depth * config_.max_chunk_size,
                                  .per_connection = config_.sess_queue_depth * 1024};
    auto reactors = Reactors::start("rnbd-srv", config_.loops, config_.network, pinned);
    if (!reactors) return tl::unexpected(reactors.error());
    reactors_ = std::move(*reactors);
    opener_ = std::make_unique<ExportOpener>(config_, exports_config_);
    Outcome<void> served;
    reactors_->on_home([&] { served = serve(); });
    if (!served) return served;
    if (auto opened = open_admin_socket(); !opened) return opened;
    show_attributes();
    return {};
  }

  ~Impl() {
    admin_.reset();
    view_.reset();
    if (!reactors_) return;
    if (server_) stop_server();
    reactors_->on_home([this] {
      requests_.reset();
      server_.reset();
      exports_.reset();
    });
    opener_.reset();
    reactors_.reset();
  }

  void reload(const Config& next) {
    begin_reload();
    Config before;
    before.server = config_;
    std::vector<std::string> changed = changed_keys(before, next, "server");
    if (next.exports != exports_config_) changed.emplace_back("[[export]]");
    set_log_level(parse_log_level(next.log_level));
    if (next.server.admin_group != config_.admin_group)
      if (auto error = admin_->set_group(next.server.admin_group))
        log_error("admin_group '{}': {}", printable(next.server.admin_group), error.message());
    reactors_->on_home([&] {
      config_.dev_search_path = next.server.dev_search_path;
      config_.follow_symlinks = next.server.follow_symlinks;
      config_.direct = next.server.direct;
      config_.write_through = next.server.write_through;
      config_.block_size = next.server.block_size;
      config_.admin_group = next.server.admin_group;
      exports_config_ = next.exports;
      opener_->configure(config_, exports_config_);
    });
    constexpr std::array<std::string_view, 7> kLive{
        "dev_search_path", "follow_symlinks", "direct",    "write_through",
        "block_size",      "admin_group",     "[[export]]"};
    end_reload(changed, kLive);
  }

  std::vector<std::string> listening() const { return listening_; }
  const std::string& admin_socket() const { return admin_path_; }

 private:
  Outcome<void> check_search_path() {
    if (config_.dev_search_path.empty() && exports_config_.empty())
      return problem({ProblemCode::config,
                      "there is nothing to serve: neither a dev_search_path nor an [[export]]",
                      "name the directory of the volumes: rnbd-server DIR", 0});
    std::string path =
        config_.dev_search_path.substr(0, config_.dev_search_path.find("%SESSNAME%"));
    std::error_code error;
    if (!path.empty() && !std::filesystem::is_directory(path, error))
      return problem({ProblemCode::config,
                      fmt::format("dev_search_path {} is not a directory{}", path,
                                  error ? ": " + error.message() : ""),
                      "create it, or name another", error.value()});
    return {};
  }

  std::string state_dir() const {
    return state_directory(config_.state_dir, config_.admin_socket, default_server_socket());
  }

  Outcome<void> serve() {
    auto options = server_options(config_);
    options.identity.instance = random_.uuid();
    options.identity.boot = boot_id();
    if (auto error = make_directory(state_dir(), 0700))
      log_warning("cannot make {}: {}", state_dir(), error.message());
    history_ = std::make_unique<SessionHistoryFile>(state_dir() + "/server-sessions.json",
                                                    options.identity.boot);
    options.history = history_.get();
    server::ExportsOptions exports;
    exports.identity = options.identity;
    exports.refuse_survivors = config_.after_reboot == "refuse";
    exports.max_devices_per_session = static_cast<std::uint32_t>(config_.max_devices_per_session);
    exports.offer_write_zeroes = config_.offer_write_zeroes;
    exports_ = server::Exports::create(reactors_->loops(), *opener_,
                                       options.max_chunk_size - options.header_size, exports);
    auto created = rtrs::server::Server::create(reactors_->fabrics(), random_, *exports_, options);
    if (!created)
      return problem({ProblemCode::config,
                      fmt::format("cannot serve with these sizes: {}", created.error().message()),
                      "see max_chunk_size, sess_queue_depth and max_chunk_memory",
                      to_errno(created.error())});
    server_ = std::move(*created);
    return listen_everywhere();
  }

  // The listener on ip::: takes IPv4 as well, unless the system was told otherwise.
  bool has_ipv4_by_ipv6() const {
    const auto only = read_file("/proc/sys/net/ipv6/bindv6only", 16);
    return only && only->starts_with('0') &&
           std::ranges::any_of(server_->listen_addresses(), [](const fabric::Address& address) {
             return address.to_string() == "ip:::";
           });
  }

  Outcome<void> listen_everywhere() {
    auto port = static_cast<std::uint16_t>(config_.port_nr);
    std::optional<Problem> last;
    // Whatever their order: behind an IPv4 address of the same port ip::: could not be had.
    std::vector<std::string> listen = config_.listen;
    std::stable_partition(listen.begin(), listen.end(),
                          [](const std::string& text) { return text == "ip:::"; });
    for (const std::string& text : listen) {
      auto address = fabric::Address::parse(text, port);
      if (!address)
        return problem({ProblemCode::config,
                        fmt::format("cannot parse the listen address '{}'", text),
                        "ip:0.0.0.0, ip:10.0.0.1, ip:::", EINVAL});
      if (text == "ip:0.0.0.0" && has_ipv4_by_ipv6()) continue;
      std::error_code error = server_->listen(*address);
      if (error) {
        last = listen_problem(address->to_string_with_port(), error, reactors_->rdma());
        // A machine without IPv6, or where ip::: takes IPv4 as well, is served by the other
        // default.
        bool wildcard = text == "ip:::" || text == "ip:0.0.0.0";
        int code = to_errno(error);
        if (!wildcard && code == EADDRINUSE && address->family() == AF_INET && has_ipv4_by_ipv6())
          last->hint = "ip::: takes IPv4 as well: name the IPv6 addresses instead of it";
        if (wildcard && (code == EAFNOSUPPORT || code == EADDRNOTAVAIL ||
                         (code == EADDRINUSE && !server_->listen_addresses().empty())))
          continue;
        return problem(*last);
      }
      if (port == 0) port = server_->listen_addresses().back().port();
    }
    if (!config_.unix_listen.empty()) {
      auto address = fabric::Address::parse("unix:" + config_.unix_listen, 0);
      std::error_code error = address ? server_->listen(*address) : address.error();
      if (error)
        return problem(listen_problem("unix:" + config_.unix_listen, error, reactors_->rdma()));
    }
    for (const fabric::Address& address : server_->listen_addresses())
      listening_.push_back(address.is_unix() ? address.to_string() : address.to_string_with_port());
    if (listening_.empty())
      return problem(last.value_or(Problem{ProblemCode::config, "no address to listen on",
                                           "listen = [\"ip:0.0.0.0\"]", EINVAL}));
    return {};
  }

  Outcome<void> open_admin_socket() {
    requests_ =
        std::make_unique<ServerAdmin>(config_, exports_config_, listening_, *server_, *exports_);
    admin_path_ = config_.admin_socket.empty() ? default_server_socket() : config_.admin_socket;
    std::string directory = std::filesystem::path(admin_path_).parent_path();
    std::error_code error = directory.empty() ? std::error_code() : make_directory(directory);
    if (!error) {
      auto admin =
          AdminServer::create({.path = admin_path_, .group = config_.admin_group},
                              [this](const AdminRequest& request, AdminReply reply) {
                                reactors_->home().post([this, request, reply = std::move(reply)] {
                                  requests_->handle(request, reply);
                                });
                              });
      if (admin)
        admin_ = std::move(*admin);
      else
        error = admin.error();
    }
    if (!error) return {};
    bool taken = error == from_errno(EADDRINUSE);
    return problem(
        {taken ? ProblemCode::busy : ProblemCode::failed,
         fmt::format("cannot open the admin socket {}: {}", admin_path_, error.message()),
         taken ? "another rnbd-server runs; give this one its own --socket" : "", to_errno(error)});
  }

  void show_attributes() {
    view_ = show_tree(config_.tree, admin_path_ == default_server_socket(), default_client_socket(),
                      {.group = config_.admin_group,
                       .own = Side::server,
                       .on_home =
                           [this](std::function<void(Attributes&)> call) {
                             reactors_->home().post(
                                 [this, call = std::move(call)] { call(requests_->attributes()); });
                           },
                       .last_command = requests_->attributes().last_command()});
  }

  void stop_server() {
    auto stopped =
        std::make_shared<std::promise<void>>();  // outlives this call if the server is late
    reactors_->on_home([&] { server_->stop([stopped] { stopped->set_value(); }); });
    if (stopped->get_future().wait_for(kStopTimeout) == std::future_status::ready) return;
    log_error("requests still run after {} s: leaving without them", kStopTimeout.count());
    _exit(static_cast<int>(ProblemCode::failed));
  }

  ServerConfig config_;
  std::vector<ExportConfig> exports_config_;
  SystemRandom random_;
  std::unique_ptr<Reactors> reactors_;
  std::unique_ptr<ExportOpener> opener_;
  std::unique_ptr<server::Exports> exports_;
  std::unique_ptr<SessionHistoryFile> history_;
  std::unique_ptr<rtrs::server::Server> server_;
  std::vector<std::string> listening_;
  std::unique_ptr<ServerAdmin> requests_;
  std::unique_ptr<FuseView> view_;
  std::string admin_path_;
  std::unique_ptr<AdminServer> admin_;
};

Outcome<std::unique_ptr<ServerDaemon>> ServerDaemon::start(const Config& config) {
  auto impl = std::make_unique<Impl>(config);
  if (auto started = impl->start(); !started) return tl::unexpected(started.error());
  return std::unique_ptr<ServerDaemon>(new ServerDaemon(std::move(impl)));
}

ServerDaemon::ServerDaemon(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ServerDaemon::~ServerDaemon() = default;
void ServerDaemon::reload(const Config& config) { impl_->reload(config); }
std::vector<std::string> ServerDaemon::listening() const { return impl_->listening(); }
const std::string& ServerDaemon::admin_socket() const { return impl_->admin_socket(); }

}  // namespace rnbd::daemon
