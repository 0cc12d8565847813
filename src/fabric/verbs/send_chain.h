#pragma once
// Work requests built and not yet posted: they leave as one list. Small local bytes are kept beside
// them, to travel inline.

#include <infiniband/verbs.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "base/assert.h"

namespace rnbd::fabric::verbs {

class SendChain {
 public:
  static constexpr std::size_t kRequests = 64;
  static constexpr std::size_t kPieces = 4;  // local pieces of one request

  struct Request {
    ibv_send_wr wr;
    std::array<ibv_sge, kPieces> pieces;
  };

  // `inline_max`: bytes of one request that may travel inline; 0 if none may.
  explicit SendChain(std::size_t inline_max);

  std::size_t size() const { return size_; }
  std::size_t room() const { return kRequests - size_; }
  std::size_t inline_max() const { return inline_max_; }
  void set_inline_max(std::size_t most) { inline_max_ = std::min(most, inline_max_); }

  Request& add();  // zeroed; there is room
  void drop(std::size_t newest) { size_ -= newest; }
  Request& operator[](std::size_t index) { return requests_[index]; }
  std::span<std::byte> inline_bytes(const Request& request);
  // Links all of them; the list stays valid until the next add().
  ibv_send_wr* take();

 private:
  std::size_t inline_max_;
  std::size_t stride_;
  std::size_t size_ = 0;
  std::unique_ptr<Request[]> requests_;
  std::unique_ptr<std::byte[]> inline_;
};

}  // namespace rnbd::fabric::verbs
