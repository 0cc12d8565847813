// A hostile stream against the receiving machine of iwarp. The first byte sets options and the size
// of the pieces; then a stream of frames. STags and offsets that name our memory are known to the
// input: STag 00000001 is replaced by the memory's and 00000002 by a window's, and offsets count
// from their starts, by rewriting whole headers at frame boundaries before the stream is fed.

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/assert.h"
#include "fabric/iwarp/receiver.h"
#include "wire/bytes.h"

using namespace rnbd;
using namespace rnbd::fabric;
using namespace rnbd::fabric::iwarp;

namespace {

constexpr std::size_t kMemory = 16384;
constexpr std::size_t kChunk = 4096;

struct Sink final : ReceiveSink {
  void on_receive(const ReceiveEvent& event) override {
    RNBD_ASSERT(!stopped);
    ++messages;
    for (const std::byte b : event.bytes)
      sum += std::to_integer<unsigned>(b);  // every byte is ours to read
    if (messages == stop_after) {
      stopped = true;
      receiver->stop();
    }
  }
  Receiver* receiver = nullptr;
  unsigned messages = 0, stop_after = 0, sum = 0;
  bool stopped = false;
};

// Gives names of the input's own the meaning they have here. Only changes bytes, never their
// number.
void translate(std::span<std::byte> stream, const RemoteSpan& memory, const RemoteSpan& window) {
  while (stream.size() >= sizeof(wire::TaggedHeader)) {
    auto start = *wire::load<FrameStart>(stream);
    const std::size_t size = start.frame_size();
    if (start.tagged()) {
      auto header = *wire::load<wire::TaggedHeader>(stream);
      const RemoteSpan& named = header.stag == 1 ? memory : window;
      if (header.stag == 1 || header.stag == 2) {
        header.stag = named.key;
        header.offset = header.offset + named.address;
        wire::store(stream, header);
      }
    } else if (stream.size() >= sizeof(wire::UntaggedHeader)) {
      auto header = *wire::load<wire::UntaggedHeader>(stream);
      if (header.invalidate_stag == 1) header.invalidate_stag = memory.key;
      if (header.invalidate_stag == 2) header.invalidate_stag = window.key;
      wire::store(stream, header);
    }
    if (size >= stream.size()) return;
    stream = stream.subspan(size);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const unsigned mode = data[0];
  const std::size_t step = (mode & 1) != 0 ? size : 1U + data[1];
  SeededRandom random(7);
  IwarpDomain domain(random);
  auto memory = std::move(*domain.register_memory(
      {.size = kMemory, .access = Access::remote_write, .chunk_size = kChunk}));
  memory->set_gate(2, false);
  Keys keys(domain, random, 3);
  std::vector<std::byte> scattered(3000);  // the heap's red zones guard it
  const iovec parts[] = {
      {scattered.data(), 1000}, {scattered.data() + 1000, 0}, {scattered.data() + 1000, 2000}};
  const RemoteSpan window = *keys.expose(1, parts);
  ReceiveQueue receives(8);
  std::vector<std::byte> buffers(8 * 700);
  for (std::size_t i = 0; i < 6; ++i)
    receives.push({std::span(buffers).subspan(i * 700, i * 140), i});

  Sink sink;
  Receiver receiver(keys, receives, sink,
                    {.crc = (mode & 2) != 0,
                     .verify_first = (mode & 4) != 0,
                     .immediate_half = (mode & 8) != 0 ? ImmediateHalf::low : ImmediateHalf::high});
  sink.receiver = &receiver;
  sink.stop_after = (mode & 16) != 0 ? 3 : 0;

  std::vector<std::byte> stream(size - 2);
  std::memcpy(stream.data(), data + 2, stream.size());
  translate(stream, memory->remote(0, kMemory), window);
  std::span<const std::byte> rest(stream);
  bool posted = false;
  while (!rest.empty() && receiver.status() == Receiver::Status::more) {
    rest = rest.subspan(receiver.feed(rest.first(std::min(step, rest.size()))));
    if ((mode & 32) != 0 && rest.size() < stream.size() / 2) keys.hide(1);
    if (receiver.status() != Receiver::Status::blocked) continue;
    RNBD_ASSERT(receives.empty());
    if (posted) {
      RNBD_ASSERT(receiver.give_up_waiting() == Receiver::Status::fault);
    } else {
      posted = true;
      receives.push({std::span(buffers).subspan(6 * 700, 700), 6});
      receiver.resume();
    }
  }
  if (receiver.status() == Receiver::Status::fault) {
    RNBD_ASSERT(receiver.fault().error);
    std::array<std::byte, wire::kTerminateFpduMax> frame;
    wire::build_terminate(receiver.fault().cause, receiver.culprit(), receiver.culprit_length(),
                          true, frame);
  }
  // The shut chunk was never written.
  for (const std::byte b : memory->bytes().subspan(2 * kChunk, kChunk))
    RNBD_ASSERT(b == std::byte{0});
  return 0;
}
