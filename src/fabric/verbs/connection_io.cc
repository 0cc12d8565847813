// The half of VerbsConnection that moves bytes.

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "base/assert.h"
#include "base/log.h"
#include "fabric/verbs/connection.h"

namespace rnbd::fabric::verbs {
namespace {

constexpr int kCompletionsPerPoll = 16;
constexpr int kPollsPerTurn = 8;  // then others have their turn

std::uint64_t size_of(std::span<const iovec> local) {
  std::uint64_t bytes = 0;
  for (const iovec& part : local) bytes += part.iov_len;
  return bytes;
}

ibv_wr_opcode opcode_of(Work::Op op) {
  switch (op) {
    case Work::Op::send:
      return IBV_WR_SEND;
    case Work::Op::send_invalidate:
      return IBV_WR_SEND_WITH_INV;
    case Work::Op::send_imm:
      return IBV_WR_SEND_WITH_IMM;
    case Work::Op::write:
      return IBV_WR_RDMA_WRITE;
    case Work::Op::write_imm:
      return IBV_WR_RDMA_WRITE_WITH_IMM;
  }
  return IBV_WR_SEND;
}

ibv_sge piece(const void* bytes, std::size_t length, std::uint32_t key) {
  return {.addr = reinterpret_cast<std::uintptr_t>(bytes),
          .length = static_cast<std::uint32_t>(length),
          .lkey = key};
}

void gather(std::byte* to, std::span<const iovec> local) {
  for (const iovec& part : local) {
    if (part.iov_len == 0) continue;
    std::memcpy(to, part.iov_base, part.iov_len);
    to += part.iov_len;
  }
}

// What a failed work request says about the end of the connection.
std::error_code send_error(ibv_wc_status status) {
  switch (status) {
    case IBV_WC_REM_ACCESS_ERR:
    case IBV_WC_REM_INV_REQ_ERR:
    case IBV_WC_REM_OP_ERR:
    case IBV_WC_REM_ABORT_ERR:
      return Errc::peer_terminated;
    case IBV_WC_RNR_RETRY_EXC_ERR:
      return Errc::receive_queue_empty;
    case IBV_WC_RETRY_EXC_ERR:
    case IBV_WC_RESP_TIMEOUT_ERR:
      return from_errno(ETIMEDOUT);
    case IBV_WC_WR_FLUSH_ERR:
      return Errc::remote_access;
    default:
      return from_errno(EIO);
  }
}

// All of it the peer's doing: longer than what was posted, or where it may not.
std::error_code receive_error(ibv_wc_status status) {
  return status == IBV_WC_LOC_LEN_ERR ? from_errno(EMSGSIZE) : make_error_code(Errc::remote_access);
}

}  // namespace

// ---- Posting ----

std::error_code VerbsConnection::post(std::span<const Work> batch) {
  if (state_ != State::open) return from_errno(ENOTCONN);
  if (!sends_.fits(batch.size())) return from_errno(ENOBUFS);
  if (batch.size() > SendChain::kRequests) return from_errno(EMSGSIZE);
  if (chain_.room() < batch.size()) {
    ring();
    if (state_ != State::open) return from_errno(ENOTCONN);
  }
  std::size_t built = 0;
  for (const Work& work : batch) {
    if (const auto error = build(work)) {
      chain_.drop(built);
      for (; built > 0; --built) outgoing_.give_back(sends_.pop_newest().slice);
      return error;
    }
    ++built;
  }
  core_.reactor.defer(flush_);
  return {};
}

std::error_code VerbsConnection::build(const Work& work) {
  const std::uint64_t bytes = size_of(work.local);
  if (bytes > std::numeric_limits<std::int32_t>::max()) return from_errno(EMSGSIZE);
  SendChain::Request& request = chain_.add();
  SendQueue::Item item{.cookie = work.cookie};
  if (const auto error = attach_bytes(request, work.local, bytes, item)) {
    chain_.drop(1);
    return error;
  }
  ibv_send_wr& wr = request.wr;
  wr.opcode = opcode_of(work.op);
  if (work.op == Work::Op::send_invalidate) {
    wr.invalidate_rkey = work.invalidate_key;
  } else {
    wr.imm_data = htonl(work.immediate);
  }
  if ((work.op == Work::Op::write || work.op == Work::Op::write_imm) && bytes != 0) {
    wr.wr.rdma.remote_addr = work.remote.address;
    wr.wr.rdma.rkey = work.remote.key;
  }
  wr.wr_id = sends_.push(item);
  return {};
}

// Few bytes travel inline; registered memory is read in place; the rest is copied into memory that
// is registered.
std::error_code VerbsConnection::attach_bytes(SendChain::Request& request,
                                              std::span<const iovec> local, std::size_t bytes,
                                              SendQueue::Item& item) {
  ibv_send_wr& wr = request.wr;
  wr.sg_list = request.pieces.data();
  item.copied = true;
  if (bytes == 0) return {};
  if (bytes <= chain_.inline_max()) {
    std::byte* const copy = chain_.inline_bytes(request).data();
    gather(copy, local);
    request.pieces[0] = piece(copy, bytes, 0);
    wr.num_sge = 1;
    wr.send_flags = IBV_SEND_INLINE;
    return {};
  }
  bool registered = true;
  for (const iovec& part : local) {
    if (part.iov_len == 0) continue;
    std::uint32_t key = 0;
    const auto used = static_cast<std::size_t>(wr.num_sge);
    registered = used < request.pieces.size() && domain_.find(part.iov_base, part.iov_len, key);
    if (!registered) break;
    request.pieces[used] = piece(part.iov_base, part.iov_len, key);
    ++wr.num_sge;
  }
  if (registered) {
    item.copied = false;
    return {};
  }
  auto slice = outgoing_.take(bytes);
  if (!slice) return slice.error();
  gather(slice->data, local);
  request.pieces[0] = piece(slice->data, bytes, slice->local_key());
  wr.num_sge = 1;
  item.slice = *slice;
  return {};
}

// Posts what was collected. Done early is what may be; then at least the last asks for a completion
// if anybody waits for it.
void VerbsConnection::ring() {
  const std::size_t count = chain_.size();
  if (count == 0) return;
  sends_.settle();
  for (std::size_t i = 0; i < count; ++i) {
    ibv_send_wr& wr = chain_[i].wr;
    const bool last = i + 1 == count;
    const bool forced = last && state_ == State::draining;
    if (forced) sends_.force_signal(wr.wr_id);
    if (forced || sends_.wants_signal(wr.wr_id, last)) {
      wr.send_flags |= IBV_SEND_SIGNALED;
      ++counters_.signalled;
    }
  }
  ++counters_.doorbells;
  counters_.work_requests += count;
  ibv_send_wr* bad = nullptr;
  const int error = ibv_post_send(id_->qp, chain_.take(), &bad);
  if (error != 0) {
    log_error("verbs: posting to {}: {}", peer_.to_string_with_port(), from_errno(error).message());
    end(from_errno(error));
  }
}

void VerbsConnection::flush() {
  if (state_ != State::open && state_ != State::draining) return;
  ring();
  deliver_done();
  check_drained();
  if (!trim_timer_.armed() && !(outgoing_.empty() && windows_.empty()))
    trim_timer_.arm_after(core_.options.trim_after);
}

// One request of ours, signalled, at once. False if it could not be posted.
bool VerbsConnection::post_own(ibv_send_wr& request, const Slice& slice) {
  if (sends_.own_room() == 0) return false;
  request.wr_id = sends_.push({.user = false, .slice = slice});
  request.send_flags |= IBV_SEND_SIGNALED;
  sends_.force_signal(request.wr_id);
  ibv_send_wr* bad = nullptr;
  return ibv_post_send(id_->qp, &request, &bad) == 0;
}

std::error_code VerbsConnection::post_receive(std::span<std::byte> buffer, std::uint64_t cookie) {
  if (state_ == State::draining || ending()) return from_errno(ENOTCONN);
  if (receives_.full()) return from_errno(ENOBUFS);
  if (id_->qp == nullptr) return from_errno(ENOTCONN);
  ReceiveQueue::Item item{.buffer = buffer, .cookie = cookie};
  ibv_recv_wr request{};
  ibv_sge where{};
  if (!buffer.empty()) {
    std::uint32_t key = 0;
    std::byte* bytes = buffer.data();
    if (!domain_.find(bytes, buffer.size(), key)) {
      auto slice = inbox_.take(buffer.size());
      if (!slice) return slice.error();
      item.slice = *slice;
      bytes = slice->data;
      key = slice->local_key();
    }
    where = piece(bytes, buffer.size(), key);
    request.sg_list = &where;
    request.num_sge = 1;
  }
  request.wr_id = kReceiveBit | receives_.push(item);
  ibv_recv_wr* bad = nullptr;
  const int error = ibv_post_recv(id_->qp, &request, &bad);
  if (error == 0) return {};
  receives_.pop_newest();
  inbox_.give_back(item.slice);
  return from_errno(error);
}

// ---- Windows ----

// Work requests of windows may use all our own slots but those that ending takes. A window that is
// exposed has one reserved for hiding it.
bool VerbsConnection::window_requests_fit(std::size_t requests) const {
  return sends_.own_room() >= kOwnAtTheEnd + windows_.exposed() + requests;
}

Result<RemoteSpan> VerbsConnection::expose(std::uint32_t window, std::span<const iovec> local) {
  if (state_ == State::draining || ending()) return fail_errno(ENOTCONN);
  if (windows_.type2()) {
    if (state_ != State::open) return fail_errno(ENOTCONN);
    if (!window_requests_fit(2)) return fail_errno(ENOBUFS);
    // Its last binding has to be posted before the next one is built: see WindowTable::next_key.
    if (windows_.bound_by(window) > sends_.head() - chain_.size()) ring();
    if (ending()) return fail_errno(ENOTCONN);
  }
  auto opened = windows_.open(window, local);
  if (!opened) return fail(opened.error());
  if (windows_.type2()) {
    ibv_send_wr bind{};
    windows_.fill_bind(**opened, bind);
    (*opened)->bound_by = add_own(bind, {});
  }
  return windows_.remote_of(**opened);
}

void VerbsConnection::hide(std::uint32_t window) {
  auto* const exposed = windows_.find(window);
  // At the end the bytes may already be somebody else's again.
  if (exposed == nullptr || ending()) return;
  const Slice slice = windows_.close(*exposed);
  if (!windows_.type2()) return windows_.give_back(slice);
  // Until its key is dead the peer may still write to the slice.
  ibv_send_wr invalidate{};
  invalidate.opcode = IBV_WR_LOCAL_INV;
  invalidate.invalidate_rkey = exposed->key;
  add_own(invalidate, slice);
}

// The peer writes to a slice of ours; what it brings is no longer copied.
void VerbsConnection::forget(std::uint32_t window) {
  if (auto* const exposed = windows_.find(window)) exposed->parts.clear();
}

// Goes with what is posted next, in order. Its sequence number, and one.
std::uint64_t VerbsConnection::add_own(const ibv_send_wr& request, const Slice& slice) {
  if (chain_.room() == 0) ring();
  if (ending()) return 0;
  ibv_send_wr& wr = chain_.add().wr;
  wr = request;
  wr.wr_id = sends_.push({.user = false, .slice = slice});
  core_.reactor.defer(flush_);
  return wr.wr_id + 1;
}

// The peer named the key, the device has killed it.
bool VerbsConnection::on_invalidated(std::uint32_t key) {
  auto* const exposed = windows_.type2() ? windows_.find_key(key) : nullptr;
  if (exposed == nullptr) return false;
  windows_.give_back(windows_.close(*exposed));
  return true;
}

// ---- Gates ----

Result<RemoteSpan> VerbsConnection::open_gate(Memory& memory, std::size_t chunk,
                                              std::uint64_t cookie) {
  if (const auto error = move_gate(memory, chunk, true, cookie)) return fail(error);
  return static_cast<VerbsMemory&>(memory).windows()->remote(chunk);
}

std::error_code VerbsConnection::shut_gate(Memory& memory, std::size_t chunk,
                                           std::uint64_t cookie) {
  return move_gate(memory, chunk, false, cookie);
}

// A window of type 1 is bound by a call of its own, which chooses the key: what was collected
// leaves before it.
std::error_code VerbsConnection::move_gate(Memory& memory, std::size_t chunk, bool open,
                                           std::uint64_t cookie) {
  ChunkWindows* const windows = static_cast<VerbsMemory&>(memory).windows();
  if (windows == nullptr) return from_errno(EOPNOTSUPP);
  if (state_ != State::open) return from_errno(ENOTCONN);
  if (!sends_.fits(1)) return from_errno(ENOBUFS);
  ring();
  if (state_ != State::open) return from_errno(ENOTCONN);
  const std::uint64_t sequence = sends_.push({.cookie = cookie});
  ++counters_.doorbells;
  ++counters_.work_requests;
  ++counters_.signalled;
  if (const int error = windows->bind(id_->qp, chunk, open, sequence)) {
    sends_.pop_newest();
    log_error("verbs: binding a window: {}", from_errno(error).message());
    end(from_errno(error));
    return from_errno(error);
  }
  sends_.force_signal(sequence);
  return {};
}

// ---- Completions ----

bool VerbsConnection::drain() {
  std::array<ibv_wc, kCompletionsPerPoll> completions;
  bool found = false;
  for (int turn = 0; turn < kPollsPerTurn; ++turn) {
    const int count = ibv_poll_cq(completions_->get(), kCompletionsPerPoll, completions.data());
    if (count < 0) fault_ = from_errno(EIO);
    if (count <= 0) break;
    found = true;
    for (int i = 0; i < count; ++i) on_completion(completions[static_cast<std::size_t>(i)]);
    if (count < kCompletionsPerPoll) break;
  }
  if (fault_ && !ending()) {
    why_is_guess_ = fault_is_guess_;
    end(*fault_);
  }
  if (found) {
    deliver_done();
    check_drained();
  }
  return found;
}

void VerbsConnection::on_completion(const ibv_wc& completion) {
  if (completion.wr_id == kMarkerReceive) {
    marker_received_ = true;
  } else if (completion.status != IBV_WC_SUCCESS) {
    on_failure(completion);
  } else if ((completion.wr_id & kReceiveBit) != 0) {
    on_received(completion);
  } else {
    on_sent(completion);
  }
  if (state_ == State::flushing && marker_sent_ && marker_received_) core_.reactor.defer(finish_);
}

void VerbsConnection::on_failure(const ibv_wc& completion) {
  const bool is_send = (completion.wr_id & kReceiveBit) == 0;
  if (is_send && ending() && completion.wr_id == marker_) marker_sent_ = true;
  // Everything before the first that failed had completed.
  const std::uint64_t failed = std::min(completion.wr_id, posted_end_);
  if (is_send && !send_failed_ && failed > sends_.tail())
    sends_.retire(failed - 1, [this](const SendQueue::Item& item) { give_back(item); });
  send_failed_ |= is_send;
  // Flushed work does not know what broke the queue pair: if nothing else does it was the peer,
  // whose access the device refused.
  const bool flushed = completion.status == IBV_WC_WR_FLUSH_ERR;
  const std::error_code error =
      is_send ? send_error(completion.status) : receive_error(completion.status);
  if (!fault_ || (fault_is_guess_ && !flushed)) {
    fault_ = error;
    fault_is_guess_ = flushed;
  }
  if (ending() && why_is_guess_ && !flushed) {
    why_ = error;
    why_is_guess_ = false;
  }
}

void VerbsConnection::give_back(const SendQueue::Item& item) {
  if (item.user) {
    outgoing_.give_back(item.slice);
  } else {
    windows_.give_back(item.slice);
  }
}

void VerbsConnection::on_sent(const ibv_wc& completion) {
  const bool known =
      sends_.retire(completion.wr_id, [this](const SendQueue::Item& item) { give_back(item); });
  if (!known) ++counters_.strays;
}

void VerbsConnection::on_received(const ibv_wc& completion) {
  if (state_ == State::accepted) announce();  // the confirmation is still under way, or lost
  if (state_ != State::open) return;          // handed back when the end is there
  if (receives_.empty() || (completion.wr_id & ~kReceiveBit) != receives_.front_sequence()) {
    ++counters_.strays;
    return;
  }
  const ReceiveQueue::Item item = receives_.pop();
  ReceiveEvent event;
  event.cookie = item.cookie;
  const bool immediate = (completion.wc_flags & IBV_WC_WITH_IMM) != 0;
  if (completion.opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
    event.kind = ReceiveEvent::Kind::immediate;
    event.immediate = ntohl(completion.imm_data);
  } else {
    event.kind = immediate ? ReceiveEvent::Kind::send_with_immediate : ReceiveEvent::Kind::send;
    event.bytes = item.buffer.first(std::min<std::size_t>(completion.byte_len, item.buffer.size()));
    if (item.slice.data != nullptr && !event.bytes.empty())
      std::memcpy(event.bytes.data(), item.slice.data, event.bytes.size());
    if (immediate) event.immediate = ntohl(completion.imm_data);
    if ((completion.wc_flags & IBV_WC_WITH_INV) != 0) {
      event.invalidated_key = completion.invalidated_rkey;
      if (!on_invalidated(event.invalidated_key)) {
        inbox_.give_back(item.slice);
        return end(Errc::remote_access);
      }
    }
  }
  inbox_.give_back(item.slice);
  handler_.on_receive(event);
}

void VerbsConnection::deliver_done() {
  while (state_ == State::open || state_ == State::draining) {
    const auto cookie = sends_.pop_done();
    if (!cookie) return;
    handler_.on_done(*cookie, {});
  }
}

// Graceful: when all that was posted has arrived, the end may come.
void VerbsConnection::check_drained() {
  if (state_ != State::draining) return;
  if (sends_.idle()) return end(*why_);
  if (sends_.end_is_signalled()) return;
  ibv_send_wr nothing{};
  nothing.opcode = IBV_WR_RDMA_WRITE;
  if (!post_own(nothing)) end(*why_);
}

void VerbsConnection::trim() {
  const bool left = static_cast<int>(outgoing_.trim()) + static_cast<int>(windows_.trim()) != 0;
  if (left && !ending()) trim_timer_.arm_after(core_.options.trim_after);
}

}  // namespace rnbd::fabric::verbs
