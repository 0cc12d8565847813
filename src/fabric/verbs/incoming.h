#pragma once
// A connect request: all that answering needs. Belongs to no loop; destroying it refuses.

#include <vector>

#include "fabric/fabric.h"
#include "fabric/verbs/cm.h"

namespace rnbd::fabric::verbs {

class VerbsIncoming final : public IncomingConnection {
 public:
  explicit VerbsIncoming(CmEvent& event)
      : id_(std::move(event.request)),
        private_data_(event.private_data().begin(), event.private_data().end()),
        local_(local_address_of(id_.get())),
        peer_(peer_address_of(id_.get())) {}

  std::span<const std::byte> private_data() const override { return private_data_; }
  const Address& local_address() const override { return local_; }
  const Address& peer_address() const override { return peer_; }

  const CmId& id() const { return id_; }
  CmId take_id() { return std::move(id_); }

 private:
  CmId id_;
  std::vector<std::byte> private_data_;
  Address local_;
  Address peer_;
};

}  // namespace rnbd::fabric::verbs
