#include "fabric/verbs/send_chain.h"

namespace rnbd::fabric::verbs {

SendChain::SendChain(std::size_t inline_max)
    : inline_max_(inline_max),
      stride_(inline_max),
      requests_(std::make_unique<Request[]>(kRequests)),
      inline_(std::make_unique<std::byte[]>(kRequests * inline_max)) {}

SendChain::Request& SendChain::add() {
  RNBD_ASSERT(size_ < kRequests);
  Request& request = requests_[size_++];
  request.wr = {};
  return request;
}

std::span<std::byte> SendChain::inline_bytes(const Request& request) {
  const auto index = static_cast<std::size_t>(&request - requests_.get());
  return {inline_.get() + index * stride_, stride_};
}

ibv_send_wr* SendChain::take() {
  for (std::size_t i = 0; i < size_; ++i)
    requests_[i].wr.next = i + 1 < size_ ? &requests_[i + 1].wr : nullptr;
  ibv_send_wr* const first = size_ != 0 ? &requests_[0].wr : nullptr;
  size_ = 0;
  return first;
}

}  // namespace rnbd::fabric::verbs
