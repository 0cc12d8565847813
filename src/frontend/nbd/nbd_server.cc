#include "frontend/nbd/nbd_server.h"

#include <algorithm>
#include <bit>
#include <map>
#include <memory>
#include <utility>

#include "base/log.h"
#include "frontend/nbd/acceptor.h"
#include "frontend/nbd/listener.h"
#include "frontend/nbd/negotiation.h"
#include "frontend/nbd/shard.h"

namespace rnbd::nbd {
namespace {

class ServerImpl final : public Server, public ExportDirectory, public NegotiationHandler {
 public:
  ServerImpl(std::span<Reactor* const> reactors, ServerOptions options);
  ~ServerImpl() override;
  std::error_code listen();
  void start();

  Result<void> add_export(ExportOptions options, block::Device& device) override;
  void remove_export(const std::string& name, std::function<void(std::error_code)> done) override;
  std::vector<ExportStatus> exports() const override;
  std::uint32_t connections(const std::string& name) const override;
  void close(std::function<void()> done) override;
  const std::string& socket_path() const override { return options_.socket_path; }
  std::uint16_t tcp_port() const override { return tcp_port_; }

 private:
  struct Export {
    std::uint64_t id = 0;
    ExportOptions options;
    block::Device* device = nullptr;
    std::uint32_t connections = 0;
    std::vector<std::function<void(std::error_code)>> removing;  // not empty: on its way out
  };

  std::vector<std::string> names() const override;
  bool find(std::string_view name, bool structured, ExportInfo& info) const override;
  const Export* lookup(std::string_view name) const;
  void on_client(UniqueFd client);
  void on_negotiated(Negotiation&) override { home_.defer(reap_task_); }
  void reap_negotiations();
  void hand_over(Negotiation& negotiation);
  void on_connection_gone(std::uint64_t export_id);
  void finish_removal(const std::string& name);
  void finish_close();

  ServerOptions options_;
  Reactor& home_;
  UnixListener unix_;
  UniqueFd tcp_;
  std::uint16_t tcp_port_ = 0;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  std::vector<std::unique_ptr<Negotiation>> negotiations_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::size_t next_shard_ = 0;
  std::map<std::string, Export, std::less<>> exports_;
  std::uint64_t next_id_ = 1;
  std::uint32_t connections_ = 0;
  bool closing_ = false;
  // What start() posts must not find us gone. Shared with that call alone.
  std::shared_ptr<int> alive_ = std::make_shared<int>();
  std::function<void()> closed_;
  std::size_t shards_to_pass_ = 0;
  Task reap_task_ = Task::of<&ServerImpl::reap_negotiations>(this);
};

ServerImpl::ServerImpl(std::span<Reactor* const> reactors, ServerOptions options)
    : options_(std::move(options)), home_(*reactors[0]) {
  for (Reactor* reactor : reactors) {
    auto on_gone = [this](std::uint64_t id) { on_connection_gone(id); };
    shards_.push_back(std::make_unique<Shard>(*reactor, home_, on_gone));
  }
}

ServerImpl::~ServerImpl() {
  RNBD_ASSERT(exports_.empty());
  RNBD_ASSERT(connections_ == 0);
}

std::error_code ServerImpl::listen() {
  if (!options_.socket_path.empty()) {
    auto listener = UnixListener::create(options_.socket_path, options_.socket_mode);
    if (!listener) return listener.error();
    unix_ = std::move(*listener);
  }
  if (options_.tcp_port) {
    auto socket = listen_on_loopback(*options_.tcp_port);
    if (!socket) return socket.error();
    tcp_ = std::move(*socket);
    tcp_port_ = bound_port(tcp_.get());
  }
  return {};
}

void ServerImpl::start() {
  home_.post([this, alive = std::weak_ptr<int>(alive_)] {
    if (alive.expired() || closing_) return;
    for (const int fd : {unix_.fd(), tcp_.get()}) {
      if (fd < 0) continue;
      acceptors_.push_back(
          std::make_unique<Acceptor>(home_, fd, [this](UniqueFd c) { on_client(std::move(c)); }));
      acceptors_.back()->start();
    }
  });
}

// ---- Exports ----

Result<void> ServerImpl::add_export(ExportOptions options, block::Device& device) {
  if (closing_) return fail_errno(ESHUTDOWN);
  if (options.name.size() > wire::kNbdNameMax || options.name.find('\0') != std::string::npos) {
    return fail_errno(EINVAL);
  }
  if (exports_.contains(options.name)) return fail_errno(EEXIST);
  Export& added = exports_[options.name];
  added.id = next_id_++;
  added.options = std::move(options);
  added.options.description.resize(std::min(added.options.description.size(), wire::kNbdNameMax));
  added.device = &device;
  return {};
}

void ServerImpl::remove_export(const std::string& name, std::function<void(std::error_code)> done) {
  const auto it = exports_.find(name);
  if (it == exports_.end()) {
    home_.post([done = std::move(done)] { done(from_errno(ENOENT)); });
    return;
  }
  it->second.removing.push_back(std::move(done));
  for (auto& shard : shards_) shard->disconnect(it->second.id);
  // Not from inside this call, and a negotiation that has chosen it by now is counted before.
  home_.post([this, name = name] { finish_removal(name); });
}

void ServerImpl::finish_removal(const std::string& name) {
  const auto it = exports_.find(name);
  if (it == exports_.end() || it->second.removing.empty() || it->second.connections > 0) return;
  const auto waiting = std::move(it->second.removing);
  exports_.erase(it);
  for (const auto& done : waiting) done({});
  finish_close();
}

std::vector<ExportStatus> ServerImpl::exports() const {
  std::vector<ExportStatus> all;
  for (const auto& [name, exported] : exports_) all.push_back({name, exported.connections});
  return all;
}

std::uint32_t ServerImpl::connections(const std::string& name) const {
  const auto it = exports_.find(name);
  return it == exports_.end() ? 0 : it->second.connections;
}

std::vector<std::string> ServerImpl::names() const {
  std::vector<std::string> all;
  for (const auto& [name, exported] : exports_) {
    if (exported.removing.empty()) all.push_back(name);
  }
  return all;
}

const ServerImpl::Export* ServerImpl::lookup(std::string_view name) const {
  const auto it = name.empty() && exports_.size() == 1 ? exports_.begin() : exports_.find(name);
  return it == exports_.end() || !it->second.removing.empty() ? nullptr : &it->second;
}

bool ServerImpl::find(std::string_view name, bool structured, ExportInfo& info) const {
  const Export* found = lookup(name);
  if (found == nullptr) return false;
  const Announce announce{
      .read_only = found->options.read_only,
      .structured = structured,
      .payload_max = std::min(options_.payload_bytes_max, wire::kNbdPayloadMax)};
  info =
      describe(found->options.name, found->options.description, found->device->limits(), announce);
  info.id = found->id;
  return true;
}

// ---- Clients ----

void ServerImpl::on_client(UniqueFd client) {
  if (connections_ >= options_.connections_max) {
    log_warning("nbd: refused a client: {} connections are the limit", options_.connections_max);
    return;
  }
  ++connections_;
  negotiations_.push_back(std::make_unique<Negotiation>(home_, std::move(client), *this,
                                                        options_.handshake_timeout, *this));
}

void ServerImpl::reap_negotiations() {
  for (auto& negotiation : negotiations_) {
    if (!negotiation->over()) continue;
    hand_over(*negotiation);
    negotiation.reset();
  }
  std::erase(negotiations_, nullptr);
}

void ServerImpl::hand_over(Negotiation& negotiation) {
  const Handshake& handshake = negotiation.handshake();
  const auto it = negotiation.agreed() ? exports_.find(handshake.chosen().name) : exports_.end();
  if (it == exports_.end() || it->second.id != handshake.chosen().id ||
      !it->second.removing.empty()) {
    --connections_;
    return;
  }
  ConnectionSetup setup;
  setup.socket = negotiation.take_socket();
  setup.export_id = it->second.id;
  setup.device = it->second.device;
  setup.limits = it->second.device->limits();
  setup.geometry = handshake.chosen().geometry;
  setup.structured = handshake.structured();
  setup.inflight_max = options_.inflight_max;
  setup.payload_bytes_max = options_.payload_bytes_max;
  setup.received = negotiation.take_received();
  ++it->second.connections;
  // In turn: one client's several connections end up on different reactors.
  shards_[next_shard_++ % shards_.size()]->adopt(std::move(setup));
}

void ServerImpl::on_connection_gone(std::uint64_t export_id) {
  RNBD_ASSERT(connections_ > 0);
  --connections_;
  for (auto& [name, exported] : exports_) {
    if (exported.id != export_id) continue;
    RNBD_ASSERT(exported.connections > 0);
    --exported.connections;
    return finish_removal(std::string(name));
  }
}

void ServerImpl::close(std::function<void()> done) {
  RNBD_ASSERT(!closing_);
  closing_ = true;
  closed_ = std::move(done);
  acceptors_.clear();
  unix_.close();
  tcp_.reset();
  connections_ -= static_cast<std::uint32_t>(negotiations_.size());
  negotiations_.clear();
  const auto all = exports();
  for (const auto& exported : all) remove_export(exported.name, [](std::error_code) {});
  home_.post([this] { finish_close(); });
}

void ServerImpl::finish_close() {
  if (!closing_ || !exports_.empty() || !closed_) return;
  RNBD_ASSERT(connections_ == 0);
  // Once round every loop: then no call posted to a shard or back is left.
  shards_to_pass_ = shards_.size();
  for (auto& shard : shards_) {
    shard->pass([this, closed = closed_] {
      if (--shards_to_pass_ == 0) closed();
    });
  }
  closed_ = nullptr;
}

}  // namespace

Result<std::unique_ptr<Server>> Server::create(std::span<Reactor* const> reactors,
                                               ServerOptions options) {
  RNBD_ASSERT(!reactors.empty());
  constexpr std::uint32_t kPayloadMin = 1U << 20;
  constexpr std::uint32_t kInflightMax = 512;  // twice this many pieces fit one gathered send
  const bool sound = std::has_single_bit(options.payload_bytes_max) &&
                     options.payload_bytes_max >= kPayloadMin && options.inflight_max >= 1 &&
                     options.inflight_max <= kInflightMax;
  if (!sound) return fail_errno(EINVAL);
  auto server = std::make_unique<ServerImpl>(reactors, std::move(options));
  if (const auto error = server->listen()) return fail(error);
  server->start();
  return server;
}

}  // namespace rnbd::nbd
