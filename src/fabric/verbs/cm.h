#pragma once
// The connection manager, librdmacm: its identifiers, and its events as values. An event is copied
// and acknowledged before anybody acts on it, for destroying an identifier waits until each of its
// events has been acknowledged.

#include <infiniband/ib.h>
#include <rdma/rdma_cma.h>

#include <array>
#include <memory>
#include <span>
#include <unordered_map>

#include "base/error.h"
#include "fabric/address.h"
#include "reactor/reactor.h"

namespace rnbd::fabric::verbs {

// An event channel. Shared by its fabric and by the identifiers on it, for a connect request may
// outlive, on another thread, the fabric that heard it.
class CmChannel {
 public:
  // ENODEV without an RDMA device or without the kernel's rdma_ucm.
  static Result<std::shared_ptr<CmChannel>> create();
  explicit CmChannel(rdma_event_channel* channel) : channel_(channel) {}
  ~CmChannel() { rdma_destroy_event_channel(channel_); }
  CmChannel(const CmChannel&) = delete;
  CmChannel& operator=(const CmChannel&) = delete;
  rdma_event_channel* get() const { return channel_; }

 private:
  rdma_event_channel* channel_;
};

// Owns an rdma_cm_id and its queue pair.
class CmId {
 public:
  CmId() = default;
  CmId(rdma_cm_id* id, std::shared_ptr<CmChannel> channel)
      : id_(id), channel_(std::move(channel)) {}
  // `reuse`: its address may be in use by others; for all but listeners.
  static Result<CmId> create(const std::shared_ptr<CmChannel>& channel, int family,
                             bool reuse = true);
  CmId(CmId&& other) noexcept
      : id_(std::exchange(other.id_, nullptr)), channel_(std::move(other.channel_)) {}
  CmId& operator=(CmId&& other) noexcept {
    if (this == &other) return *this;
    reset();
    id_ = std::exchange(other.id_, nullptr);
    channel_ = std::move(other.channel_);
    return *this;
  }
  ~CmId() { reset(); }
  void reset();

  rdma_cm_id* get() const { return id_; }
  rdma_cm_id* operator->() const { return id_; }
  explicit operator bool() const { return id_ != nullptr; }
  // Its events come through `channel` from now on.
  std::error_code migrate(const std::shared_ptr<CmChannel>& channel);
  // To the host of `address`, any port unless `keep_port`. Then the device is known.
  std::error_code bind(Address address, bool keep_port = false);

 private:
  rdma_cm_id* id_ = nullptr;
  std::shared_ptr<CmChannel> channel_;
};

Address local_address_of(rdma_cm_id* id);
Address peer_address_of(rdma_cm_id* id);
// The address packets to `destination` leave from.
Result<Address> source_for(const Address& destination);

struct CmEvent {
  rdma_cm_event_type type{};
  int status = 0;
  std::array<std::byte, 256> data{};
  std::size_t data_size = 0;
  CmId request{};  // of RDMA_CM_EVENT_CONNECT_REQUEST: the connection to be
  std::span<const std::byte> private_data() const { return std::span(data).first(data_size); }
  // Why a connection attempt failed.
  std::error_code error() const;
};

class CmTarget {
 public:
  virtual ~CmTarget() = default;
  virtual void on_cm_event(CmEvent& event) = 0;
};

// The channel of one reactor, and who hears the events of which identifier.
class CmEvents {
 public:
  explicit CmEvents(Reactor& reactor) : reactor_(reactor) {}
  Result<std::shared_ptr<CmChannel>> channel();  // made when first asked for
  void add(const CmId& id, CmTarget& target) { targets_[id.get()] = &target; }
  void remove(const CmId& id) { targets_.erase(id.get()); }
  // Handles what is there now, before anything else is done.
  void poll();

 private:
  void on_ready(std::uint32_t events);
  bool take_one();

  Reactor& reactor_;
  std::shared_ptr<CmChannel> channel_;
  // Events of an identifier that is not here, such as one that moved to another thread, are
  // dropped.
  std::unordered_map<rdma_cm_id*, CmTarget*> targets_;
  Watch watch_ = Watch::of<&CmEvents::on_ready>(this);
  Task again_ = Task::of<&CmEvents::poll>(this);
};

}  // namespace rnbd::fabric::verbs
