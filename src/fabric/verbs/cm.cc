#include "fabric/verbs/cm.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "base/unique_fd.h"

namespace rnbd::fabric::verbs {
namespace {

constexpr int kEventsPerRound = 64;

// Without a device librdmacm would complain on stderr.
bool any_device() {
  int count = 0;
  ibv_device** list = ibv_get_device_list(&count);
  if (list != nullptr) ibv_free_device_list(list);
  return count > 0;
}

// Where the kernel does not copy pinned pages at fork by itself.
void prepare_for_fork() {
  if (ibv_is_fork_initialized() == IBV_FORK_DISABLED) ibv_fork_init();
}

socklen_t length_of(const sockaddr* address) {
  switch (address->sa_family) {
    case AF_INET:
      return sizeof(sockaddr_in);
    case AF_INET6:
      return sizeof(sockaddr_in6);
    case AF_IB:
      return sizeof(sockaddr_ib);
    default:
      return 0;
  }
}

bool carries_data(const rdma_cm_event& event) {
  switch (event.event) {
    case RDMA_CM_EVENT_CONNECT_REQUEST:
    case RDMA_CM_EVENT_CONNECT_RESPONSE:
    case RDMA_CM_EVENT_ESTABLISHED:
    case RDMA_CM_EVENT_REJECTED:
      return true;
    default:
      return false;
  }
}

CmEvent copy_of(const rdma_cm_event& event) {
  CmEvent copy;
  copy.type = event.event;
  copy.status = event.status;
  const auto& conn = event.param.conn;
  if (carries_data(event) && conn.private_data != nullptr) {
    copy.data_size = std::min<std::size_t>(conn.private_data_len, copy.data.size());
    std::memcpy(copy.data.data(), conn.private_data, copy.data_size);
  }
  return copy;
}

}  // namespace

Result<std::shared_ptr<CmChannel>> CmChannel::create() {
  if (!any_device()) return fail_errno(ENODEV);
  prepare_for_fork();
  rdma_event_channel* raw = rdma_create_event_channel();
  if (raw == nullptr) {
    const int error = errno;
    log_warning("RDMA devices are there, but no connection manager (is rdma_ucm loaded?): {}",
                from_errno(error).message());
    return fail_errno(error == ENOENT ? ENODEV : error);
  }
  auto channel = std::make_shared<CmChannel>(raw);
  const int flags = ::fcntl(raw->fd, F_GETFL);
  if (flags < 0 || ::fcntl(raw->fd, F_SETFL, flags | O_NONBLOCK) != 0) return fail_errno(errno);
  return channel;
}

Result<CmId> CmId::create(const std::shared_ptr<CmChannel>& channel, int family, bool reuse) {
  rdma_cm_id* id = nullptr;
  const rdma_port_space space = family == AF_IB ? RDMA_PS_IB : RDMA_PS_TCP;
  if (rdma_create_id(channel->get(), &id, nullptr, space) != 0) return fail_errno(errno);
  int yes = 1;
  if (reuse) rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_REUSEADDR, &yes, sizeof yes);
  return CmId(id, channel);
}

void CmId::reset() {
  if (id_ != nullptr) {
    if (id_->qp != nullptr) rdma_destroy_qp(id_);
    rdma_destroy_id(id_);
    id_ = nullptr;
  }
  channel_.reset();
}

std::error_code CmId::migrate(const std::shared_ptr<CmChannel>& channel) {
  if (channel == channel_) return {};
  if (rdma_migrate_id(id_, channel->get()) != 0) return from_errno(errno);
  channel_ = channel;
  return {};
}

std::error_code CmId::bind(Address address, bool keep_port) {
  if (!keep_port) address.set_port(0);
  // const_cast: librdmacm knows no const, it only reads the address.
  auto* raw = const_cast<sockaddr*>(address.data());
  return rdma_bind_addr(id_, raw) == 0 ? std::error_code{} : from_errno(errno);
}

Address local_address_of(rdma_cm_id* id) {
  const sockaddr* address = rdma_get_local_addr(id);
  return Address::from_sockaddr(address, length_of(address));
}

Address peer_address_of(rdma_cm_id* id) {
  const sockaddr* address = rdma_get_peer_addr(id);
  return Address::from_sockaddr(address, length_of(address));
}

Result<Address> source_for(const Address& destination) {
  if (destination.family() != AF_INET && destination.family() != AF_INET6)
    return fail_errno(EAFNOSUPPORT);
  const UniqueFd fd(::socket(destination.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno(errno);
  Address target = destination;
  if (target.port() == 0) target.set_port(1);  // connecting a datagram socket sends nothing
  if (::connect(fd.get(), target.data(), target.length()) != 0) return fail_errno(errno);
  sockaddr_storage source{};
  socklen_t length = sizeof source;
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&source), &length) != 0)
    return fail_errno(errno);
  return Address::from_sockaddr(reinterpret_cast<const sockaddr*>(&source), length);
}

std::error_code CmEvent::error() const {
  constexpr int kInvalidServiceId = 8;  // a reject reason of IBTA's CM: nobody listens there
  switch (type) {
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
      return from_errno(status < 0 ? -status : EHOSTUNREACH);
    case RDMA_CM_EVENT_UNREACHABLE:
      return from_errno(status < 0 ? -status : ETIMEDOUT);
    case RDMA_CM_EVENT_REJECTED:
      if (status == kInvalidServiceId || status == -ECONNREFUSED) return from_errno(ECONNREFUSED);
      return Errc::connect_rejected;
    default:
      return from_errno(status < 0 ? -status : ECONNRESET);
  }
}

Result<std::shared_ptr<CmChannel>> CmEvents::channel() {
  if (channel_ != nullptr) return channel_;
  auto made = CmChannel::create();
  if (!made) return made;
  channel_ = *made;
  watch_.start(reactor_, channel_->get()->fd, POLLIN);
  return channel_;
}

void CmEvents::on_ready(std::uint32_t) { poll(); }

void CmEvents::poll() {
  if (channel_ == nullptr) return;
  for (int left = kEventsPerRound; left > 0; --left) {
    if (!take_one()) return;
  }
  reactor_.defer(again_);
}

bool CmEvents::take_one() {
  rdma_cm_event* event = nullptr;
  if (rdma_get_cm_event(channel_->get(), &event) != 0) {
    if (errno == EINTR) return true;
    if (errno != EAGAIN) log_error("rdma_get_cm_event: {}", from_errno(errno).message());
    return false;
  }
  const bool request = event->event == RDMA_CM_EVENT_CONNECT_REQUEST;
  rdma_cm_id* const about = request ? event->listen_id : event->id;
  CmEvent copy = copy_of(*event);
  if (request) copy.request = CmId(event->id, channel_);
  rdma_ack_cm_event(event);
  const auto target = targets_.find(about);
  if (target != targets_.end()) target->second->on_cm_event(copy);
  return true;
}

}  // namespace rnbd::fabric::verbs
