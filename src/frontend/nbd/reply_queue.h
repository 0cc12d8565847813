#pragma once
// The requests of a connection, in reusable slots, and the replies waiting to be sent: all that are
// ready go out in one gathered send, data straight from the memory the device filled.

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <vector>

#include "base/intrusive_list.h"
#include "block/split_request.h"
#include "wire/nbd.h"

namespace rnbd::nbd {

class Connection;

// One request of a connection, from its header to its reply. In one list at a time: free, or
// replies.
struct Slot : ListNode {
  struct Io : block::SplitRequest {
    Slot* slot = nullptr;
  };
  Connection* connection = nullptr;
  wire::NbdRequest request;
  std::byte* data = nullptr;      // payload in the arena; nullptr if there is none
  std::uint32_t header_size = 0;  // of the reply
  std::uint32_t data_size = 0;    // bytes of `data` the reply carries
  std::array<std::byte, sizeof(wire::layout::NbdOffsetDataChunk)> header{};
  Io io;

  std::size_t reply_size() const { return std::size_t{header_size} + data_size; }
};

// Fills the reply's header in `slot` for its result.
void encode_reply(Slot& slot, const std::error_code& result, bool structured);

class ReplyQueue {
 public:
  explicit ReplyQueue(std::uint32_t replies_max) : gather_(std::size_t{2} * replies_max) {}

  bool empty() const { return replies_.empty(); }
  void push(Slot& slot) { replies_.push_back(slot); }
  enum class Sent { all, blocked, failed };
  // Sends what there is; `released(slot)` for each slot whose reply is out.
  template <class Released>
  Sent send(int socket, Released&& released) {
    while (!replies_.empty()) {
      const std::int64_t sent = send_once(socket);
      if (sent < 0) return sent == kBlocked ? Sent::blocked : Sent::failed;
      sent_ += static_cast<std::size_t>(sent);
      while (!replies_.empty() && sent_ >= replies_.front().reply_size()) {
        Slot& slot = replies_.pop_front();
        sent_ -= slot.reply_size();
        released(slot);
      }
    }
    return Sent::all;
  }
  // Forgets every reply.
  template <class Released>
  void drop(Released&& released) {
    sent_ = 0;
    while (!replies_.empty()) released(replies_.pop_front());
  }

 private:
  static constexpr std::int64_t kBlocked = -1;
  static constexpr std::int64_t kFailed = -2;
  std::int64_t send_once(int socket);

  IntrusiveList<Slot> replies_;
  std::size_t sent_ = 0;  // bytes of the first reply that are out
  std::vector<iovec> gather_;
};

}  // namespace rnbd::nbd
