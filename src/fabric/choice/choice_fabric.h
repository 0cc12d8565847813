#pragma once
// Several fabrics of one loop as one: a path goes by the first that has a way to its address (RDMA
// where a device routes there, else TCP), a listener listens on all that can. Nothing of it is on
// the data path: connections are the chosen fabric's own.

#include <memory>
#include <vector>

#include "fabric/fabric.h"

namespace rnbd::fabric {

class ChoiceFabric final : public Fabric {
 public:
  // In order of preference; at least one, all of one loop, which outlive it. The ChoiceFabrics of
  // all loops are made alike, so that a request that came in on one can be accepted on another.
  explicit ChoiceFabric(std::vector<Fabric*> fabrics);

  Loop& loop() override { return fabrics_.front()->loop(); }
  // Of the preferred one: those of a path are its domain's.
  const Capabilities& capabilities() const override { return fabrics_.front()->capabilities(); }
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
  // Succeeds when one of them listens. A fabric that does not know the kind of address
  // (EPROTONOSUPPORT) or has no device for it (ENODEV) is passed over; another's failure is logged.
  Result<std::unique_ptr<Listener>> listen(const Address& address, ListenHandler& handler) override;

 private:
  std::vector<Fabric*> fabrics_;
};

}  // namespace rnbd::fabric
