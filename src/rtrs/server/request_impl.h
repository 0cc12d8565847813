#pragma once
// A request in the hands of the handler: the slot of its chunk, reused for ever. On the loop of the
// connection it came on.

#include <array>

#include "rtrs/server/server.h"
#include "wire/rtrs.h"

namespace rnbd::rtrs::server {

class Channel;

class RequestImpl final : public Request, public ListNode {
 public:
  static constexpr std::size_t kUsualMessage = 320;  // longest user message of RNBD, and some

  Session& session() override;
  std::size_t loop_index() const override;
  void respond(int error) override;
  bool abandoned() const override;

 private:
  friend class Channel;
  Channel* channel_ = nullptr;  // not null: the handler has it
  std::uint32_t chunk_ = 0;
  int error_ = 0;  // to answer: set by respond(), or before it where nobody needs to be asked
  bool control_ = false;
  wire::Control control_message_;
  bool has_target_ = false;
  bool need_invalidate_ = false;
  wire::Descriptor target_;
  wire::layout::RkeyResponse key_message_;
  std::array<std::byte, kUsualMessage> message_copy_;
};

// One slot per chunk, and room for the rare long message.
class RequestPool {
 public:
  RequestPool(std::uint32_t count, std::uint32_t message_size_max)
      : message_size_max_(message_size_max),
        slots_(new RequestImpl[count]),
        long_messages_(
            std::make_unique_for_overwrite<std::byte[]>(std::size_t{count} * message_size_max)) {}

  RequestImpl& slot(std::uint32_t chunk) { return slots_[chunk]; }
  std::byte* long_message(std::uint32_t chunk) {
    return long_messages_.get() + std::size_t{chunk} * message_size_max_;
  }

 private:
  const std::uint32_t message_size_max_;
  std::unique_ptr<RequestImpl[]> slots_;
  std::unique_ptr<std::byte[]> long_messages_;  // touched page by page, so mostly address space
};

}  // namespace rnbd::rtrs::server
