// A whole request as the server takes it: the immediate, the chunk a client wrote, the RTRS message
// in it, the RNBD message before that, and whether they agree. Input: immediate (4, little endian),
// then the bytes of the chunk.

#include <algorithm>

#include "wire/rnbd.h"
#include "wire/rtrs.h"

using namespace rnbd;
using namespace rnbd::wire;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint32_t kQueueDepth = 512;
  constexpr std::uint32_t kUsrLenMax = 4096;
  Reader reader(std::as_bytes(std::span(data, size)));
  const auto immediate = reader.take<le32>();
  if (!immediate) return 0;
  const ByteView chunk = reader.rest();
  const std::uint32_t offset = RequestImmediate(kQueueDepth).decode(*immediate).offset;
  if (offset >= chunk.size()) return 0;

  const ByteView header = chunk.subspan(offset, std::min(kRtrsMessageMax, chunk.size() - offset));
  const auto request = parse_io_request(header, offset, kUsrLenMax);
  if (!request) return 0;
  RNBD_ASSERT(request->usr_len <= kUsrLenMax);
  RNBD_ASSERT(request->data_length + request->usr_len == offset);
  RNBD_ASSERT(!request->has_target || request->read);
  if (request->control) {
    RNBD_ASSERT(offset == 0 && !request->read);
    const auto control = parse_control(header);
    RNBD_ASSERT(control || control.error() == from_errno(EOPNOTSUPP));
    return 0;
  }
  RNBD_ASSERT(!request->has_target || request->target.length <= request->data_length);
  RNBD_ASSERT(request->has_target || !request->need_invalidate);
  RNBD_ASSERT(!request->has_target || !request->bad_target);

  const auto message = parse_rnbd_message(chunk.subspan(request->data_length, request->usr_len));
  if (!message || !std::holds_alternative<Io>(*message)) return 0;
  const auto& io = std::get<Io>(*message);
  const std::uint32_t reply_length = request->has_target ? request->target.length : 0;
  if (check_io(io, {request->read, request->data_length, reply_length})) return 0;
  const bool carries_data = io.op == IoOp::read || io.op == IoOp::write;
  RNBD_ASSERT(request->data_length == (carries_data ? io.length : 0));
  RNBD_ASSERT(reply_length == (io.op == IoOp::read ? io.length : 0));
  return 0;
}
