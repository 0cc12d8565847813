#include "frontend/nbd/reply_queue.h"

#include <sys/socket.h>

#include <cerrno>

#include "wire/bytes.h"

namespace rnbd::nbd {

void encode_reply(Slot& slot, const std::error_code& result, bool structured) {
  const wire::NbdRequest& request = slot.request;
  const bool read = request.command == wire::NbdCommand::read;
  const bool with_data = read && !result && request.length > 0;
  slot.data_size = with_data ? request.length : 0;
  const auto put = [&](const auto& header) {
    slot.header_size = static_cast<std::uint32_t>(wire::store(slot.header, header));
  };
  const wire::NbdError error = wire::nbd_error(result);
  if (!structured || !read) return put(wire::encode_nbd_simple_reply(request.cookie, error));
  if (result) return put(wire::encode_nbd_error_chunk(request.cookie, error));
  if (!with_data) return put(wire::encode_nbd_done_chunk(request.cookie));
  put(wire::encode_nbd_data_chunk(request.cookie, request.offset, request.length, true));
}

std::int64_t ReplyQueue::send_once(int socket) {
  std::size_t count = 0;
  std::size_t skip = sent_;
  const auto add = [&](std::byte* data, std::size_t size) {
    if (skip >= size) {
      skip -= size;
      return;
    }
    gather_[count++] = {data + skip, size - skip};
    skip = 0;
  };
  replies_.for_each([&](Slot& slot) {
    add(slot.header.data(), slot.header_size);
    if (slot.data_size > 0) add(slot.data, slot.data_size);
  });
  msghdr message{};
  message.msg_iov = gather_.data();
  message.msg_iovlen = count;
  for (;;) {
    const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return sent;
    if (errno == EINTR) continue;
    return errno == EAGAIN || errno == EWOULDBLOCK ? kBlocked : kFailed;
  }
}

}  // namespace rnbd::nbd
