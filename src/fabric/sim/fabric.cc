#include "fabric/sim/fabric.h"

#include <netinet/in.h>

#include <algorithm>
#include <cerrno>

#include "fabric/sim/world.h"

namespace rnbd::fabric::sim {
namespace {

constexpr std::size_t kMaxPrivateData = 256;

bool wildcard(const Address& address) {
  if (address.family() != AF_INET) return false;
  return reinterpret_cast<const sockaddr_in*>(address.data())->sin_addr.s_addr == htonl(INADDR_ANY);
}

}  // namespace

SimFabric::SimFabric(Host& host, SimLoop& loop, const FabricOptions& options)
    : host_(host), loop_(loop), options_(options), life_(host.life()) {
  capabilities_.name = "sim";
  capabilities_.send_imm = options.send_imm;
  capabilities_.remote_invalidate = options.remote_invalidate;
  capabilities_.send_invalidate = options.remote_invalidate;
  capabilities_.keyed_gates = options.keyed_gates;
  capabilities_.max_private_data = kMaxPrivateData;
}

SimFabric::~SimFabric() = default;

bool SimFabric::ghost() const { return !host_.up() || host_.life() != life_; }

std::size_t SimFabric::ways(const PathAddress& address) {
  return address.destination.family() == AF_INET ? 1 : 0;
}

Result<std::unique_ptr<Domain>> SimFabric::create_domain(const IncomingConnection& first) {
  return std::make_unique<SimDomain>(world(), host_, capabilities_, options_.gates,
                                     world().find_host(first.peer_address()));
}

Result<std::unique_ptr<Domain>> SimFabric::create_domain(const PathAddress&, std::size_t) {
  return std::make_unique<SimDomain>(world(), host_, capabilities_, options_.gates, nullptr);
}

Result<std::unique_ptr<Connection>> SimFabric::connect(const ConnectRequest& request,
                                                       Domain& domain,
                                                       const ConnectionOptions& options,
                                                       ConnectionHandler& handler) {
  RNBD_ASSERT(loop_.on_this_thread());
  const Address& destination = request.address.destination;
  if (destination.family() != AF_INET) return fail_errno(EAFNOSUPPORT);
  if (request.private_data.size() > kMaxPrivateData) return fail_errno(EINVAL);
  std::size_t on_peer = 0;
  std::size_t on_self = 0;
  Host* const peer = world().find_host(destination, &on_peer);
  if (!request.address.source.empty()) {
    if (world().find_host(request.address.source, &on_self) != &host_)
      return fail_errno(EADDRNOTAVAIL);
  } else if (on_peer < host_.address_count()) {
    on_self = on_peer;  // same network
  }
  Link* link = nullptr;
  if (peer != nullptr && !ghost()) link = &world().link(host_, *peer, on_self, on_peer);
  const int side = link != nullptr && link->joins(0, host_, on_self) ? 0 : 1;
  const Address source = host_.address_with_port(host_.next_port(), on_self);
  auto pipe = Pipe::create(world(), link, side, source, destination);
  auto connection = std::make_unique<SimConnection>(*this, static_cast<SimDomain&>(domain), options,
                                                    handler, pipe, 0);
  connection->start_connecting(request.private_data, request.timeout,
                               link == nullptr ? Duration{} : link->connect_delay_);
  return connection;
}

Result<std::unique_ptr<Connection>> SimFabric::accept(std::unique_ptr<IncomingConnection> request,
                                                      Domain& domain,
                                                      std::span<const std::byte> private_data,
                                                      const ConnectionOptions& options,
                                                      ConnectionHandler& handler) {
  RNBD_ASSERT(loop_.on_this_thread());
  if (private_data.size() > kMaxPrivateData) return fail_errno(EINVAL);
  if (ghost()) return fail_errno(ENETDOWN);
  auto connection =
      std::make_unique<SimConnection>(*this, static_cast<SimDomain&>(domain), options, handler,
                                      static_cast<SimIncoming&>(*request).take(), 1);
  connection->start_accepted(private_data);
  return connection;
}

void SimFabric::reject(std::unique_ptr<IncomingConnection> request,
                       std::span<const std::byte> private_data) {
  RNBD_ASSERT(loop_.on_this_thread());
  RNBD_ASSERT(private_data.size() <= kMaxPrivateData);
  const auto pipe = static_cast<SimIncoming&>(*request).take();
  if (ghost()) return;
  pipe->prepare(1, Message::Kind::rejected)
      .payload.assign(private_data.begin(), private_data.end());
  pipe->launch(1);
}

Result<std::unique_ptr<Listener>> SimFabric::listen(const Address& address,
                                                    ListenHandler& handler) {
  RNBD_ASSERT(loop_.on_this_thread());
  if (address.family() != AF_INET) return fail_errno(EAFNOSUPPORT);
  if (!wildcard(address) && world().find_host(address) != &host_) return fail_errno(EADDRNOTAVAIL);
  if (ghost()) return fail_errno(ENETDOWN);
  Address real = address;
  if (real.port() == 0) real.set_port(host_.next_port());
  if (host_.find_listener(real) != nullptr) return fail_errno(EADDRINUSE);
  return std::make_unique<SimListener>(*this, handler, real);
}

SimListener::SimListener(SimFabric& fabric, ListenHandler& handler, const Address& address)
    : fabric_(fabric), handler_(handler), address_(address) {
  fabric_.host().listeners_.push_back(this);
}

SimListener::~SimListener() { std::erase(fabric_.host().listeners_, this); }

bool SimListener::hears(const Address& address) const {
  if (fabric_.ghost()) return false;
  return address_.port() == address.port() && (wildcard(address_) || address_.same_host(address));
}

void SimListener::deliver(std::shared_ptr<Pipe> pipe, std::span<const std::byte> private_data) {
  handler_.on_connect_request(std::make_unique<SimIncoming>(std::move(pipe), private_data));
}

SimIncoming::~SimIncoming() {
  if (!taken_) pipe_->finish(1, Errc::handshake_closed);
}

}  // namespace rnbd::fabric::sim
