#include "sim/client.h"

namespace rnbd::sim_test {

using fabric::sim::Host;
using fabric::sim::World;

ClientProcess::ClientProcess(World& world, Host& host, const Config& config,
                             const std::vector<std::unique_ptr<ServerHost>>& servers,
                             ClientRecord& record, std::size_t number)
    : random_(world.random().next()), world_(world) {
  for (std::size_t i = 0; i < config.client_loops; ++i) fabrics_.push_back(&host.add_fabric());
  close_.set_place(&loop(), world.next_id());
  const std::vector<fabric::Fabric*> all(fabrics_.begin(), fabrics_.end());
  record.identities.resize(servers.size());
  for (std::size_t server = 0; server < servers.size(); ++server) {
    client::ClientOptions options;
    options.session = config.session;
    options.session.name = "client" + std::to_string(number);
    for (std::size_t path = 0; path < config.paths; ++path)
      options.session.paths.push_back({host.address(path), servers[server]->address(path)});
    // Without paths there was nothing under way.
    if (const auto& old = record.identities[server]; old && !old->paths.empty())
      options.session.resume = old;
    options.on_identity = [this, &record, server](const auto& identity) {
      if (!dead_) record.identities[server] = identity;
    };
    clients_.push_back(client::Client::create(all, 0, random_, options).value());
  }
}

ClientProcess::~ClientProcess() { RNBD_ASSERT(closed()); }

void ClientProcess::close() {
  if (!std::exchange(closing_, true)) world_.schedule(close_, world_.now());
}

void ClientProcess::close_clients() {
  for (const auto& client : clients_) client->close([this] { ++clients_closed_; });
}

}  // namespace rnbd::sim_test
