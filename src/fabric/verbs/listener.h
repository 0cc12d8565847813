#pragma once
// Listens on one address, or on all of a family, for connect requests of RDMA peers.

#include "fabric/fabric.h"
#include "fabric/verbs/core.h"

namespace rnbd::fabric::verbs {

class VerbsListener final : public Listener, private CmTarget {
 public:
  static Result<std::unique_ptr<Listener>> open(Core& core, const Address& address,
                                                ListenHandler& handler);
  ~VerbsListener() override;
  const Address& local_address() const override { return local_; }

 private:
  VerbsListener(Core& core, const Address& address, ListenHandler& handler);
  std::error_code start();
  void on_cm_event(CmEvent& event) override;
  void retry();

  Core& core_;
  ListenHandler& handler_;
  Address local_;
  CmId id_;
  Timer retry_;  // the device went away: until it is back
};

}  // namespace rnbd::fabric::verbs
