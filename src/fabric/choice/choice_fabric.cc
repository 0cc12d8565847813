#include "fabric/choice/choice_fabric.h"

#include <cerrno>

#include "base/assert.h"
#include "base/log.h"

namespace rnbd::fabric {
namespace {

class ChoiceDomain final : public Domain {
 public:
  ChoiceDomain(std::size_t index, std::unique_ptr<Domain> chosen)
      : index_(index), chosen_(std::move(chosen)) {}
  const Capabilities& capabilities() const override { return chosen_->capabilities(); }
  DeviceName device() const override { return chosen_->device(); }
  Result<std::unique_ptr<Memory>> register_memory(const MemoryOptions& options) override {
    return chosen_->register_memory(options);
  }
  std::size_t index() const { return index_; }
  Domain& chosen() { return *chosen_; }

 private:
  std::size_t index_;  // of the fabric it belongs to
  std::unique_ptr<Domain> chosen_;
};

class ChoiceIncoming final : public IncomingConnection {
 public:
  ChoiceIncoming(std::size_t index, std::unique_ptr<IncomingConnection> request)
      : index_(index), request_(std::move(request)) {}
  std::span<const std::byte> private_data() const override { return request_->private_data(); }
  const Address& local_address() const override { return request_->local_address(); }
  const Address& peer_address() const override { return request_->peer_address(); }
  std::size_t index() const { return index_; }
  const IncomingConnection& request() const { return *request_; }
  std::unique_ptr<IncomingConnection> take() { return std::move(request_); }

 private:
  std::size_t index_;
  std::unique_ptr<IncomingConnection> request_;
};

// Tells which fabric a request came in by.
class Ear final : public ListenHandler {
 public:
  Ear(std::size_t index, ListenHandler& handler) : index_(index), handler_(handler) {}
  void on_connect_request(std::unique_ptr<IncomingConnection> request) override {
    handler_.on_connect_request(std::make_unique<ChoiceIncoming>(index_, std::move(request)));
  }

 private:
  std::size_t index_;
  ListenHandler& handler_;
};

class ChoiceListener final : public Listener {
 public:
  const Address& local_address() const override { return listeners_.front()->local_address(); }
  bool empty() const { return listeners_.empty(); }
  Ear& add_ear(std::size_t index, ListenHandler& handler) {
    return *ears_.emplace_back(std::make_unique<Ear>(index, handler));
  }
  void add(std::unique_ptr<Listener> listener) { listeners_.push_back(std::move(listener)); }

 private:
  std::vector<std::unique_ptr<Ear>> ears_;  // outlive the listeners
  std::vector<std::unique_ptr<Listener>> listeners_;
};

ChoiceDomain& choice(Domain& domain) { return static_cast<ChoiceDomain&>(domain); }

Result<std::unique_ptr<Domain>> wrap(std::size_t index, Result<std::unique_ptr<Domain>> domain) {
  if (!domain) return domain;
  return std::make_unique<ChoiceDomain>(index, std::move(*domain));
}

}  // namespace

ChoiceFabric::ChoiceFabric(std::vector<Fabric*> fabrics) : fabrics_(std::move(fabrics)) {
  RNBD_ASSERT(!fabrics_.empty());
}

std::size_t ChoiceFabric::ways(const PathAddress& address) {
  std::size_t count = 0;
  for (Fabric* fabric : fabrics_) count += fabric->ways(address);
  return count;
}

Result<std::unique_ptr<Domain>> ChoiceFabric::create_domain(const IncomingConnection& first) {
  const auto& incoming = static_cast<const ChoiceIncoming&>(first);
  return wrap(incoming.index(), fabrics_[incoming.index()]->create_domain(incoming.request()));
}

Result<std::unique_ptr<Domain>> ChoiceFabric::create_domain(const PathAddress& address,
                                                            std::size_t way) {
  for (std::size_t index = 0; index < fabrics_.size(); ++index) {
    const std::size_t ways = fabrics_[index]->ways(address);
    if (way < ways) return wrap(index, fabrics_[index]->create_domain(address, way));
    way -= ways;
  }
  return fail_errno(ENODEV);
}

Result<std::unique_ptr<Connection>> ChoiceFabric::connect(const ConnectRequest& request,
                                                          Domain& domain,
                                                          const ConnectionOptions& options,
                                                          ConnectionHandler& handler) {
  ChoiceDomain& chosen = choice(domain);
  return fabrics_[chosen.index()]->connect(request, chosen.chosen(), options, handler);
}

Result<std::unique_ptr<Connection>> ChoiceFabric::accept(
    std::unique_ptr<IncomingConnection> request, Domain& domain,
    std::span<const std::byte> private_data, const ConnectionOptions& options,
    ConnectionHandler& handler) {
  auto& incoming = static_cast<ChoiceIncoming&>(*request);
  // A path whose connections come by different ways is none.
  if (incoming.index() != choice(domain).index()) return fail_errno(EXDEV);
  return fabrics_[incoming.index()]->accept(incoming.take(), choice(domain).chosen(), private_data,
                                            options, handler);
}

void ChoiceFabric::reject(std::unique_ptr<IncomingConnection> request,
                          std::span<const std::byte> private_data) {
  auto& incoming = static_cast<ChoiceIncoming&>(*request);
  fabrics_[incoming.index()]->reject(incoming.take(), private_data);
}

Result<std::unique_ptr<Listener>> ChoiceFabric::listen(const Address& address,
                                                       ListenHandler& handler) {
  auto all = std::make_unique<ChoiceListener>();
  Address wanted = address;
  std::error_code error = from_errno(ENODEV);
  // The last first: it is the one without devices, whose choice of a port the others follow.
  for (std::size_t index = fabrics_.size(); index-- > 0;) {
    auto listener = fabrics_[index]->listen(wanted, all->add_ear(index, handler));
    if (listener) {
      wanted.set_port((*listener)->local_address().port());
      if (!all->empty())
        log_info("{}: by {} as well", wanted.to_string_with_port(),
                 fabrics_[index]->capabilities().name);
      all->add(std::move(*listener));
      continue;
    }
    if (listener.error() == std::errc::protocol_not_supported ||
        (!all->empty() && listener.error() == std::errc::no_such_device))
      continue;
    if (error == from_errno(ENODEV)) error = listener.error();  // a missing device explains least
    if (!all->empty())
      log_warning("cannot listen on {} by {}: {}", wanted.to_string_with_port(),
                  fabrics_[index]->capabilities().name, error.message());
  }
  if (all->empty()) return fail(error);
  return all;
}

}  // namespace rnbd::fabric
