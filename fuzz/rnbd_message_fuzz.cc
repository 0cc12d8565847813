// What a server makes of a user message.

#include "wire/rnbd.h"

using namespace rnbd;
using namespace rnbd::wire;

namespace {

template <class T>
T again(const T& message) {
  const auto encoded = encode(message);
  const auto parsed = parse_rnbd_message(bytes_of(encoded));
  RNBD_ASSERT(parsed);
  RNBD_ASSERT(std::holds_alternative<T>(*parsed));
  return std::get<T>(*parsed);
}

void check(const SessionInfo& message) { RNBD_ASSERT(again(message).version == message.version); }

void check(const Open& message) {
  RNBD_ASSERT(valid_device_name(message.device_name));
  RNBD_ASSERT(again(message).access_mode == message.access_mode);
  const auto encoded = encode(message);  // the name parsed lies in here
  const auto parsed = parse_rnbd_message(bytes_of(encoded));
  RNBD_ASSERT(std::get<Open>(*parsed).device_name == message.device_name);
}

void check(const Io& message) {
  const Io copy = again(message);
  RNBD_ASSERT(copy.device_id == message.device_id);
  RNBD_ASSERT(copy.op == message.op);
  RNBD_ASSERT(copy.flags == message.flags);
  RNBD_ASSERT(copy.sector == message.sector);
  RNBD_ASSERT(copy.length == message.length);
  RNBD_ASSERT(copy.priority == message.priority);
}

void check(const Close& message) { RNBD_ASSERT(again(message).device_id == message.device_id); }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto message = parse_rnbd_message(std::as_bytes(std::span(data, size)));
  if (message) std::visit([](const auto& alternative) { check(alternative); }, *message);
  return 0;
}
