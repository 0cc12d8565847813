#include "fabric/iwarp/iwarp_fabric.h"

#include <cerrno>

#include "base/log.h"
#include "fabric/iwarp/connection.h"
#include "fabric/iwarp/domain.h"
#include "fabric/iwarp/incoming.h"
#include "fabric/iwarp/listener.h"

namespace rnbd::fabric::iwarp {

IwarpFabric::IwarpFabric(Reactor& reactor, Options options)
    : reactor_(reactor),
      options_(options),
      lingering_(std::make_unique<LingeringSockets>(reactor, options_)) {}

IwarpFabric::~IwarpFabric() = default;

const Capabilities& IwarpFabric::capabilities() const { return kCapabilities; }

std::size_t IwarpFabric::ways(const PathAddress& address) {
  return address.destination.transport() != Transport::rdma ? 1 : 0;
}

Result<std::unique_ptr<Domain>> IwarpFabric::create_domain(const IncomingConnection&) {
  return std::make_unique<IwarpDomain>(random_);
}

Result<std::unique_ptr<Domain>> IwarpFabric::create_domain(const PathAddress&, std::size_t) {
  return std::make_unique<IwarpDomain>(random_);
}

Result<std::unique_ptr<Connection>> IwarpFabric::connect(const ConnectRequest& request,
                                                         Domain& domain,
                                                         const ConnectionOptions& options,
                                                         ConnectionHandler& handler) {
  auto connection = std::make_unique<IwarpConnection>(
      reactor_, options_, random_, static_cast<IwarpDomain&>(domain), options, handler);
  if (const auto error = connection->dial(request)) return fail(error);
  return connection;
}

Result<std::unique_ptr<Connection>> IwarpFabric::accept(std::unique_ptr<IncomingConnection> request,
                                                        Domain& domain,
                                                        std::span<const std::byte> private_data,
                                                        const ConnectionOptions& options,
                                                        ConnectionHandler& handler) {
  auto& incoming = static_cast<IwarpIncoming&>(*request);
  if (reactor_.now() - incoming.arrived() > options_.decision_timeout)
    return fail(Errc::handshake_timeout);
  bool crc = true;
  if (const auto error = incoming.answer(true, private_data, options_, crc)) return fail(error);
  auto connection = std::make_unique<IwarpConnection>(
      reactor_, options_, random_, static_cast<IwarpDomain&>(domain), options, handler);
  connection->adopt(incoming.take_fd(), crc, incoming.local_address(), incoming.peer_address());
  return connection;
}

void IwarpFabric::reject(std::unique_ptr<IncomingConnection> request,
                         std::span<const std::byte> private_data) {
  auto& incoming = static_cast<IwarpIncoming&>(*request);
  bool crc = false;
  if (!incoming.answer(false, private_data, options_, crc)) lingering_->add(incoming.take_fd());
}

Result<std::unique_ptr<Listener>> IwarpFabric::listen(const Address& address,
                                                      ListenHandler& handler) {
  if (address.transport() == Transport::rdma) return fail_errno(EPROTONOSUPPORT);
  return IwarpListener::open(reactor_, options_, address, *lingering_, handler);
}

}  // namespace rnbd::fabric::iwarp
