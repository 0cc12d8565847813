#include "rnbd/client/client_impl.h"

namespace rnbd::client {

Result<std::unique_ptr<Client>> Client::create(std::span<fabric::Fabric* const> fabrics,
                                               std::size_t home, Random& random,
                                               ClientOptions options) {
  RNBD_ASSERT(home < fabrics.size());
  std::vector<Loop*> loops;
  for (fabric::Fabric* fabric : fabrics) loops.push_back(&fabric->loop());
  auto factory = [all = std::vector(fabrics.begin(), fabrics.end()), home, &random](
                     rtrs::client::SessionHandler& handler,
                     const rtrs::client::SessionOptions& session) {
    return rtrs::client::Session::create(all, home, random, handler, session);
  };
  return std::make_unique<ClientImpl>(loops, home, std::move(factory), std::move(options));
}

}  // namespace rnbd::client
