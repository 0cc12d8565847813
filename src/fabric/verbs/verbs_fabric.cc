#include "fabric/verbs/verbs_fabric.h"

#include <cerrno>

#include "base/log.h"
#include "fabric/verbs/connection.h"
#include "fabric/verbs/domain.h"
#include "fabric/verbs/incoming.h"
#include "fabric/verbs/listener.h"

namespace rnbd::fabric::verbs {
namespace {

constexpr std::size_t kRejectDataMax = 148;  // IBTA's REJ carries so many bytes

bool is_ours(const Address& address) {
  return !address.is_unix() && address.transport() != Transport::tcp;
}

}  // namespace

VerbsFabric::VerbsFabric(Reactor& reactor, Options options)
    : capabilities_{.name = "verbs",
                    .send_imm = true,
                    .remote_invalidate = options.windows && !options.windows_of_software,
                    .send_invalidate = true,
                    .keyed_gates = options.windows},
      core_(reactor, std::move(options)) {}

VerbsFabric::~VerbsFabric() = default;

// An identifier bound to the device that serves the path's source address.
Result<CmId> VerbsFabric::bound_to(const PathAddress& address) {
  if (address.destination.empty()) return fail_errno(EDESTADDRREQ);
  Address source = address.source;
  if (source.empty()) {
    auto chosen = source_for(address.destination);
    if (!chosen) return fail(chosen.error());
    source = *chosen;
  }
  auto channel = core_.events.channel();
  if (!channel) return fail(channel.error());
  auto id = CmId::create(*channel, source.family());
  if (!id) return id;
  if (const auto error = id->bind(source)) return fail(error);
  if (!core_.allowed(*id)) return fail_errno(ENODEV);
  return id;
}

std::size_t VerbsFabric::ways(const PathAddress& address) {
  return is_ours(address.destination) && bound_to(address) ? 1 : 0;
}

Result<std::unique_ptr<Domain>> VerbsFabric::create_domain(const PathAddress& address,
                                                           std::size_t way) {
  if (way != 0 || !is_ours(address.destination)) return fail_errno(ENODEV);
  auto anchor = bound_to(address);
  if (!anchor) return fail(anchor.error());
  return VerbsDomain::create(std::move(*anchor), core_.options);
}

Result<std::unique_ptr<Domain>> VerbsFabric::create_domain(const IncomingConnection& first) {
  const auto& incoming = static_cast<const VerbsIncoming&>(first);
  auto anchor = bound_to({.source = first.local_address(), .destination = first.peer_address()});
  if (!anchor) return fail(anchor.error());
  if (anchor->get()->verbs != incoming.id()->verbs) return fail_errno(EXDEV);
  return VerbsDomain::create(std::move(*anchor), core_.options);
}

Result<std::unique_ptr<Connection>> VerbsFabric::connect(const ConnectRequest& request,
                                                         Domain& domain,
                                                         const ConnectionOptions& options,
                                                         ConnectionHandler& handler) {
  auto connection =
      std::make_unique<VerbsConnection>(core_, static_cast<VerbsDomain&>(domain), options, handler);
  if (const auto error = connection->dial(request)) return fail(error);
  return connection;
}

Result<std::unique_ptr<Connection>> VerbsFabric::accept(std::unique_ptr<IncomingConnection> request,
                                                        Domain& domain,
                                                        std::span<const std::byte> private_data,
                                                        const ConnectionOptions& options,
                                                        ConnectionHandler& handler) {
  if (private_data.size() > kAcceptDataMin) return fail_errno(EMSGSIZE);  // as IBTA's REP
  auto& incoming = static_cast<VerbsIncoming&>(*request);
  auto connection =
      std::make_unique<VerbsConnection>(core_, static_cast<VerbsDomain&>(domain), options, handler);
  if (const auto error = connection->adopt(incoming.take_id(), private_data)) return fail(error);
  return connection;
}

void VerbsFabric::reject(std::unique_ptr<IncomingConnection> request,
                         std::span<const std::byte> private_data) {
  auto& incoming = static_cast<VerbsIncoming&>(*request);
  const std::size_t size = std::min(private_data.size(), kRejectDataMax);
  rdma_reject(incoming.id().get(), private_data.data(), static_cast<std::uint8_t>(size));
}

Result<std::unique_ptr<Listener>> VerbsFabric::listen(const Address& address,
                                                      ListenHandler& handler) {
  if (address.empty() || !is_ours(address)) return fail_errno(EPROTONOSUPPORT);
  return VerbsListener::open(core_, address, handler);
}

}  // namespace rnbd::fabric::verbs
