#pragma once
// RDMA by hardware or rdma_rxe, over libibverbs and librdmacm: the wire of the kernel's RTRS. One
// fabric per reactor; it and everything it makes live on that reactor's thread, except
// IncomingConnection, which may move, and Domain, which connections of several reactors share.
// Without an RDMA device it can be made all the same, and reaches nothing.

#include <memory>

#include "fabric/fabric.h"
#include "fabric/verbs/core.h"
#include "fabric/verbs/options.h"
#include "reactor/reactor.h"

namespace rnbd::fabric::verbs {

// Destroy after its connections and listeners, on the reactor's thread or when that has ended.
class VerbsFabric final : public Fabric {
 public:
  explicit VerbsFabric(Reactor& reactor, Options options = {});
  ~VerbsFabric() override;

  Loop& loop() override { return core_.reactor; }
  // What a device may offer; a domain's are those of its device.
  const Capabilities& capabilities() const override { return capabilities_; }
  std::size_t ways(const PathAddress& address) override;
  using Fabric::create_domain;
  Result<std::unique_ptr<Domain>> create_domain(const IncomingConnection& first) override;
  Result<std::unique_ptr<Domain>> create_domain(const PathAddress& address,
                                                std::size_t way) override;
  Result<std::unique_ptr<Connection>> connect(const ConnectRequest& request, Domain& domain,
                                              const ConnectionOptions& options,
                                              ConnectionHandler& handler) override;
  Result<std::unique_ptr<Connection>> accept(std::unique_ptr<IncomingConnection> request,
                                             Domain& domain,
                                             std::span<const std::byte> private_data,
                                             const ConnectionOptions& options,
                                             ConnectionHandler& handler) override;
  void reject(std::unique_ptr<IncomingConnection> request,
              std::span<const std::byte> private_data) override;
  // ENODEV where there is no RDMA device, EPROTONOSUPPORT for what is not RDMA's to serve.
  Result<std::unique_ptr<Listener>> listen(const Address& address, ListenHandler& handler) override;

 private:
  Result<CmId> bound_to(const PathAddress& address);
  const Capabilities capabilities_;
  Core core_;
};

}  // namespace rnbd::fabric::verbs
