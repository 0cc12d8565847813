// The data path of a channel: a request out, its answer in.

#include <cstring>

#include "base/mutation.h"
#include "rtrs/client/channel.h"

namespace rnbd::rtrs::client {

std::error_code Channel::send(Request& request, std::uint32_t permit) {
  if (closing_) return from_errno(ENOTCONN);
  RNBD_ASSERT(entries_[permit].request == nullptr);
  if (request.control) return send_control(request, permit);
  const bool read = request.direction == Direction::read;
  const auto usr_len = static_cast<std::uint16_t>(request.message.size());
  const std::uint32_t offset = request.data_length + usr_len;

  iovecs_.clear();
  if (!read) {
    std::size_t total = 0;
    for (const iovec& segment : request.data) {
      total += segment.iov_len;
      iovecs_.push_back(segment);
    }
    RNBD_ASSERT(total == request.data_length);
  }

  const bool exposed = read && request.data_length != 0;
  wire::Descriptor target;
  if (exposed) {
    auto span = connection_->expose(permit, request.data);
    if (!span) return span.error();
    target = {span->address, span->key, request.data_length};
  }

  // The user message goes along with ours when it is small, else straight from the submitter.
  std::byte* const slot = slots_.data() + std::size_t{permit} * kSlotSize;
  std::size_t used = 0;
  if (usr_len <= kSlotSize - wire::kRtrsMessageMax) {
    if (usr_len != 0) std::memcpy(slot, request.message.data(), usr_len);
    used = usr_len;
  } else {
    iovecs_.push_back({const_cast<std::byte*>(request.message.data()), usr_len});
  }
  if (read) {
    const auto message =
        exposed ? wire::encode_read(usr_len, target, false) : wire::encode_read(usr_len);
    std::memcpy(slot + used, message.bytes.data(), message.size);
    used += message.size;
  } else {
    used += wire::store(std::span(slot + used, kSlotSize - used), wire::encode_write(usr_len));
  }
  iovecs_.push_back({slot, used});

  if (auto error = post_request(permit, iovecs_, read ? request.data_length : 0, offset)) {
    if (exposed) connection_->hide(permit);
    return error;
  }
  posted(request, permit, exposed);
  counters_.started(request.direction, offset);
  return {};
}

void Channel::posted(Request& request, std::uint32_t permit, bool exposed) {
  const TimePoint now = loop_.now();
  entries_[permit] =
      Entry{.request = &request, .posted = now, .cpu = loop_.cpu(), .exposed = exposed};
  if (request.posted == TimePoint{}) request.posted = now;
  if (request.lost_on == nullptr) return;
  if (request.lost_on != path()) counters_.failed_over.add();
  request.lost_on = nullptr;
}

bool Channel::give_up(Request& request) {
  const std::uint32_t permit = request.permit - permits_.first;  // wraps for ids below ours
  if (permit >= entries_.size() || entries_[permit].request != &request) return false;
  Entry& entry = entries_[permit];
  if (!entry.sent) return true;
  if (entry.exposed) connection_->forget(permit);
  entry.request = std::exchange(request.heir, nullptr);
  lane_.give_back(request);
  return true;
}

std::error_code Channel::send_control(Request& request, std::uint32_t permit) {
  RNBD_ASSERT(request.message.size() <= kSlotSize);
  std::byte* const slot = slots_.data() + std::size_t{permit} * kSlotSize;
  std::memcpy(slot, request.message.data(), request.message.size());
  const iovec local{slot, request.message.size()};
  if (auto error = post_request(permit, {&local, 1}, 0, 0)) return error;
  posted(request, permit, false);
  counters_.started(request.direction, 0);
  return {};
}

// Writes `local` into the permit's chunk at `at`; the RTRS message begins at `offset` of the chunk.
std::error_code Channel::post_request(std::uint32_t permit, std::span<const iovec> local,
                                      std::uint32_t at, std::uint32_t offset) {
  const wire::RemoteChunk& chunk = chunks_[permit];
  const fabric::Work work{
      .op = fabric::Work::Op::write_imm,
      .local = local,
      .remote = {chunk.address + at, chunk.key, 0},
      .immediate = immediate_.encode(permits_.first + permit, offset),
      .cookie = std::uint64_t{permit} + 1,
  };
  return connection_->post({&work, 1});
}

void Channel::on_immediate(std::uint32_t immediate) {
  const auto type = wire::immediate_type(immediate);
  if (pending_key_ && type != wire::ImmediateType::io_response)
    return fail(Errc::protocol_violation);
  switch (type) {
    case wire::ImmediateType::io_response:
      if (!pending_key_) return on_response(immediate, {});
      {
        const auto key = *pending_key_;
        pending_key_.reset();
        return on_response(immediate, key);
      }
    case wire::ImmediateType::heartbeat:
      if (lane_.cid() == 0) send_heartbeat(wire::kHeartbeatAckImmediate);
      return;
    case wire::ImmediateType::heartbeat_ack:
      if (lane_.cid() == 0) handler_.on_heartbeat_answer();
      return;
    case wire::ImmediateType::notice:
      if (lane_.cid() == 0) handler_.on_notice();
      return;
    // We never ask for an invalidation and we are no server.
    case wire::ImmediateType::io_response_invalidated:
    case wire::ImmediateType::io_request:
      return fail(Errc::protocol_violation);
  }
  // Other types are for peers that know them.
}

// With key refresh an answer brings the chunk's next key: in one message where the fabric has
// send_imm, else as a send with the immediate right behind it. Nothing else may be sent to us.
void Channel::on_send(std::span<const std::byte> bytes, const fabric::ReceiveEvent& event) {
  if (!limits_.new_rkey || event.invalidated_key != 0) return fail(Errc::protocol_violation);
  if (event.kind == fabric::ReceiveEvent::Kind::send_with_immediate) {
    if (wire::immediate_type(event.immediate) != wire::ImmediateType::io_response) {
      return fail(Errc::protocol_violation);
    }
    return on_response(event.immediate, bytes);
  }
  if (pending_key_ || send_imm_ || bytes.size() != sizeof(*pending_key_)) {
    return fail(Errc::protocol_violation);
  }
  std::copy(bytes.begin(), bytes.end(), pending_key_.emplace().begin());
}

void Channel::on_response(std::uint32_t immediate, std::span<const std::byte> key_message) {
  const auto response = wire::decode_response(immediate);
  const std::uint32_t permit = response.id - permits_.first;  // wraps for ids below ours
  if (permit >= entries_.size()) return fail(Errc::protocol_violation);
  Entry& entry = entries_[permit];
  if (entry.request == nullptr || entry.answered) return fail(Errc::protocol_violation);
  if (limits_.new_rkey) {
    auto key = wire::parse_rkey_response(key_message, response.id);
    if (!key) return fail(key.error());
    chunks_[permit].key = *key;
  }
  // Success without the data would hand out what was in the memory before.
  if (entry.exposed && response.error == 0 && !connection_->filled(permit)) {
    return fail(Errc::protocol_violation);
  }
  // From here on the peer cannot touch the data; a late write to it is a fault of the peer.
  if (entry.exposed) connection_->hide(permit);
  entry.exposed = false;
  entry.answered = true;
  entry.error = response.error;
  if (entry.sent || broken(Rule::r14)) finish(permit);
}

void Channel::finish(std::uint32_t permit) {
  Entry& entry = entries_[permit];
  Request& request = *entry.request;
  const std::error_code error = from_errno(entry.error);
  counters_.wire.add(loop_.now() - entry.posted);
  if (const unsigned cpu = loop_.cpu(); cpu != entry.cpu) {
    counters_.migrated_from.add(entry.cpu);
    counters_.migrated_to.add(cpu);
  }
  if (error) counters_.errors.add();
  entry = Entry{};
  counters_.inflight.subtract();
  lane_.complete(request, permit, error);
}

}  // namespace rnbd::rtrs::client
