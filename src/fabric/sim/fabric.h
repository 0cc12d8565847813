#pragma once
// The fabric of one simulated loop: Host::add_fabric makes it. See fabric/fabric.h for the contract
// and World for what can be done to it.

#include <memory>
#include <vector>

#include "fabric/fabric.h"
#include "fabric/sim/connection.h"
#include "fabric/sim/host.h"
#include "fabric/sim/loop.h"
#include "fabric/sim/memory.h"
#include "fabric/sim/pipe.h"

namespace rnbd::fabric::sim {

class SimFabric final : public Fabric {
 public:
  SimFabric(Host& host, SimLoop& loop, const FabricOptions& options);
  ~SimFabric() override;

  Loop& loop() override { return loop_; }
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
  Result<std::unique_ptr<Listener>> listen(const Address& address, ListenHandler& handler) override;

  World& world() { return host_.world(); }
  Host& host() { return host_; }
  SimLoop& sim_loop() { return loop_; }
  // It belongs to a life of its host that has ended: nobody can be reached.
  bool ghost() const;

 private:
  Host& host_;
  SimLoop& loop_;
  FabricOptions options_;
  Capabilities capabilities_;
  std::uint32_t life_;
};

class SimListener final : public Listener {
 public:
  SimListener(SimFabric& fabric, ListenHandler& handler, const Address& address);
  ~SimListener() override;
  const Address& local_address() const override { return address_; }
  bool hears(const Address& address) const;
  SimLoop& sim_loop() { return fabric_.sim_loop(); }
  void deliver(std::shared_ptr<Pipe> pipe, std::span<const std::byte> private_data);

 private:
  SimFabric& fabric_;
  ListenHandler& handler_;
  Address address_;
};

class SimIncoming final : public IncomingConnection {
 public:
  SimIncoming(std::shared_ptr<Pipe> pipe, std::span<const std::byte> private_data)
      : pipe_(std::move(pipe)), private_data_(private_data.begin(), private_data.end()) {}
  ~SimIncoming() override;
  std::span<const std::byte> private_data() const override { return private_data_; }
  const Address& local_address() const override { return pipe_->address(1); }
  const Address& peer_address() const override { return pipe_->address(0); }
  std::shared_ptr<Pipe> take() {
    taken_ = true;
    return pipe_;
  }

 private:
  std::shared_ptr<Pipe> pipe_;  // shared with the connecting end
  std::vector<std::byte> private_data_;
  bool taken_ = false;
};

}  // namespace rnbd::fabric::sim
