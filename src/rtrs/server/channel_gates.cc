// The half of Channel that moves gates, where they have keys: a request runs when its chunk is
// shut, and its answer brings the client the key under which the chunk is open again.

#include "rtrs/server/channel.h"

namespace rnbd::rtrs::server {

void Channel::on_keyed_request(std::uint32_t immediate) {
  if (!shared_.gate.open()) return on_request(immediate);
  const std::uint32_t chunk = immediate_.decode(immediate).chunk;
  if (chunk >= shared_.chunks->count()) return fail(Errc::protocol_violation);
  switch (shared_.chunk_gates->take(chunk, cid_, immediate)) {
    case ChunkGates::Taken::now:
      return shut_chunk(immediate);
    case ChunkGates::Taken::later:
      ++outstanding_;
      return;
    case ChunkGates::Taken::no:
      return fail(Errc::protocol_violation);
  }
}

// Then on_done goes on with the request.
void Channel::shut_chunk(std::uint32_t immediate) {
  const std::uint32_t chunk = immediate_.decode(immediate).chunk;
  if (auto error = connection_->shut_gate(shared_.chunks->memory(), chunk, kShutCookie | immediate))
    fail(error);
}

// On whatever connection the chunk was given back; whoever waits may be on another.
void Channel::on_chunk_opened(std::uint32_t chunk) {
  const auto waiting = shared_.chunk_gates->opened(chunk);
  if (!waiting) return;
  Channel& channel = *shared_.channels[waiting->cid];
  channel.loop().post(
      [&channel, immediate = waiting->immediate] { channel.on_chunk_ours(immediate); });
}

void Channel::on_chunk_ours(std::uint32_t immediate) {
  --outstanding_;
  if (closed_) return maybe_finished();
  if (!closing_) shut_chunk(immediate);
}

// The key goes with the answer, behind the opening: it is good when it arrives.
std::error_code Channel::post_keyed(std::span<const fabric::Work> batch, RequestImpl& request) {
  const std::uint32_t chunk = request.chunk_;
  fabric::Work answer = batch.back();
  if (batch.size() > 1) {
    if (auto error = connection_->post(batch.first(batch.size() - 1))) return error;
  }
  const auto opened = open_chunk(chunk, 0);
  if (!opened) return opened.error();
  request.key_message_ = wire::encode_rkey_response(static_cast<std::uint16_t>(chunk), opened->key);
  const iovec message{&request.key_message_, sizeof request.key_message_};
  answer.op = fabric::Work::Op::send_imm;
  answer.local = {&message, 1};
  answer.cookie = kAnswerCookie | chunk << kChunkShift | (batch.size() + 1);
  const auto error = connection_->post({&answer, 1});
  if (error) on_chunk_opened(chunk);  // nobody else will say so
  return error;
}

Result<fabric::RemoteSpan> Channel::open_chunk(std::uint32_t chunk, std::uint64_t cookie) {
  shared_.chunk_gates->opening(chunk);
  auto opened = connection_->open_gate(shared_.chunks->memory(), chunk, cookie);
  if (!opened) on_chunk_opened(chunk);
  return opened;
}

std::vector<std::byte> Channel::open_all_chunks() {
  std::vector<wire::Descriptor> regions;
  for (std::uint32_t chunk = 0; chunk < shared_.chunks->count(); ++chunk) {
    const auto opened = open_chunk(chunk, kOpenedCookie | chunk);
    if (!opened) return fail(opened.error()), std::vector<std::byte>();
    regions.push_back({opened->address, opened->key, opened->length});
  }
  return wire::encode_info_response(regions);
}

}  // namespace rnbd::rtrs::server
