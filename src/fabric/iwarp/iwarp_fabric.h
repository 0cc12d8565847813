#pragma once
// RDMA semantics in userspace over a byte stream: a standard iWARP endpoint (MPA RFC 5044 and 6581,
// DDP 5041, RDMAP 5040, Immediate Data 7306) on TCP, and the same bytes on Unix sockets. One fabric
// per reactor; it and everything it makes live on that reactor's thread, except IncomingConnection,
// which may move.

#include <memory>

#include "base/random.h"
#include "fabric/fabric.h"
#include "fabric/iwarp/options.h"
#include "reactor/reactor.h"

namespace rnbd::fabric::iwarp {

class LingeringSockets;

// Destroy after its connections and listeners, on the reactor's thread or when that has ended.
class IwarpFabric final : public Fabric {
 public:
  explicit IwarpFabric(Reactor& reactor, Options options = {});
  ~IwarpFabric() override;

  Loop& loop() override { return reactor_; }
  const Capabilities& capabilities() const override;
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
  Result<std::unique_ptr<Listener>> listen(const Address& address, ListenHandler& handler) override;

 private:
  Reactor& reactor_;
  Options options_;
  SystemRandom random_;
  std::unique_ptr<LingeringSockets> lingering_;  // refused peers, until they have read our answer
};

}  // namespace rnbd::fabric::iwarp
