#include "frontend/ublk/kernel_queue.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "frontend/ublk/io_request.h"

namespace rnbd::ublk {

struct KernelQueue::Slot final : IoOp, block::Request {
  KernelQueue* queue = nullptr;
  iovec data{};
  std::uint16_t tag = 0;
  TagState state;
};

KernelQueue::KernelQueue(Reactor& reactor, const QueueSetup& setup)
    : reactor_(reactor), setup_(setup) {}

Result<std::unique_ptr<KernelQueue>> KernelQueue::create(Reactor& reactor, const QueueSetup& setup,
                                                         block::Device& device) {
  std::unique_ptr<KernelQueue> queue(new KernelQueue(reactor, setup));
  if (const auto error = queue->map()) return fail(error);
  auto backend = device.open_queue(reactor);
  if (!backend) return fail(backend.error());
  queue->backend_ = std::move(*backend);
  queue->commit_command_ = abi::encoded(abi::kCommitAndFetchReq, setup.ioctl_encoded);
  queue->slots_ = std::make_unique<Slot[]>(setup.depth);
  for (std::uint16_t tag = 0; tag < setup.depth; ++tag) {
    Slot& slot = queue->slots_[tag];
    slot.queue = queue.get();
    slot.tag = tag;
    slot.complete = &KernelQueue::on_fetched;
    slot.done = &KernelQueue::on_finished;
    slot.data.iov_base = queue->memory_ + std::size_t{tag} * setup.io_bytes;
  }
  return queue;
}

KernelQueue::~KernelQueue() {
  RNBD_ASSERT(at_kernel_ == 0);
  RNBD_ASSERT(at_backend_ == 0);
  release_kernel_memory();
  if (memory_ != nullptr) ::munmap(memory_, (std::size_t{setup_.depth} + 1) * setup_.io_bytes);
}

std::size_t KernelQueue::descriptor_bytes() const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return (setup_.depth * sizeof(ublksrv_io_desc) + page - 1) / page * page;
}

std::error_code KernelQueue::map() {
  const std::size_t most = abi::kQueueDepthMax * sizeof(ublksrv_io_desc);  // whole pages
  void* descriptors = ::mmap(nullptr, descriptor_bytes(), PROT_READ, MAP_SHARED | MAP_POPULATE,
                             setup_.device_fd, static_cast<off_t>(setup_.id * most));
  if (descriptors == MAP_FAILED) return from_errno(errno);
  descriptors_ = static_cast<const ublksrv_io_desc*>(descriptors);
  void* memory = ::mmap(nullptr, (std::size_t{setup_.depth} + 1) * setup_.io_bytes,
                        PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return from_errno(errno);
  memory_ = static_cast<std::byte*>(memory);
  return {};
}

void KernelQueue::release_kernel_memory() {
  if (descriptors_ == nullptr) return;
  RNBD_ASSERT(at_kernel_ == 0);
  ::munmap(const_cast<ublksrv_io_desc*>(descriptors_), descriptor_bytes());
  descriptors_ = nullptr;
}

void KernelQueue::fetch_all() {
  const std::uint32_t fetch = abi::encoded(abi::kFetchReq, setup_.ioctl_encoded);
  for (std::uint16_t tag = 0; tag < setup_.depth; ++tag) {
    slots_[tag].state.started();
    ++at_kernel_;
    send(slots_[tag], fetch, 0);
  }
}

// ---- Data path ----

void KernelQueue::on_fetched(IoOp& op, int result, std::uint32_t) {
  Slot& slot = static_cast<Slot&>(op);
  KernelQueue& queue = *slot.queue;
  --queue.at_kernel_;
  const bool aborted = result != UBLK_IO_RES_OK;
  switch (slot.state.fetched(queue.mode_, aborted)) {
    case Step::submit:
      return queue.submit(slot);
    case Step::commit_error:
      return queue.commit(slot, -EIO);
    default:
      break;
  }
  if (aborted) queue.gone_ = true;
  queue.tell();
}

void KernelQueue::submit(Slot& slot) {
  ++at_backend_;
  const ublksrv_io_desc io = descriptors_[slot.tag];
  const std::error_code error = translate(io, setup_.io_bytes, slot);
  if (error) {
    slot.result = error;
    return on_finished(slot);
  }
  slot.data.iov_len = slot.length;
  slot.segments = {&slot.data, carries_data(slot.op) ? std::size_t{1} : std::size_t{0}};
  backend_->submit(slot);
}

void KernelQueue::on_finished(block::Request& request) {
  Slot& slot = static_cast<Slot&>(request);
  KernelQueue& queue = *slot.queue;
  --queue.at_backend_;
  if (slot.state.finished(queue.mode_) == Step::commit_result)
    return queue.commit(slot, commit_value(slot));
  queue.tell();
}

void KernelQueue::commit(Slot& slot, std::int32_t value) {
  ++at_kernel_;
  send(slot, commit_command_, value);
}

void KernelQueue::send(Slot& slot, std::uint32_t command, std::int32_t value) {
  // What the backend still has must not be written over by the tag's next request.
  const std::byte* buffer = slot.state.at_backend()
                                ? memory_ + std::size_t{setup_.depth} * setup_.io_bytes
                                : static_cast<std::byte*>(slot.data.iov_base);
  abi::IoCommand words{};
  words.q_id = setup_.id;
  words.tag = slot.tag;
  words.result = value;
  words.addr = reinterpret_cast<std::uintptr_t>(buffer);
  reactor_.submit(slot, [&](io_uring_sqe* entry) {
    io_uring_prep_rw(IORING_OP_URING_CMD, entry, setup_.device_fd, nullptr, 0, 0);
    entry->cmd_op = command;
    std::memcpy(static_cast<void*>(entry->cmd), &words, sizeof words);
  });
}

// ---- The end ----

void KernelQueue::fail_all() {
  if (mode_ != Mode::serving) return;
  mode_ = Mode::failing;
  for (std::uint16_t tag = 0; tag < setup_.depth; ++tag) {
    if (slots_[tag].state.gave_up() == Step::commit_error) commit(slots_[tag], -EIO);
  }
}

void KernelQueue::leave() { mode_ = Mode::leaving; }

void KernelQueue::when_kernel_free(std::function<void()> done) {
  kernel_free_ = std::move(done);
  tell();
}

void KernelQueue::when_backend_free(std::function<void()> done) {
  backend_free_ = std::move(done);
  tell();
}

// The last call here may destroy the queue.
void KernelQueue::tell() {
  const bool kernel_free = at_kernel_ == 0;
  if (gone_ && kernel_free && on_gone_) std::exchange(on_gone_, nullptr)();
  auto backend_call =
      at_backend_ == 0 ? std::exchange(backend_free_, nullptr) : std::function<void()>();
  if (kernel_free && kernel_free_) std::exchange(kernel_free_, nullptr)();
  if (backend_call) backend_call();
}

}  // namespace rnbd::ublk
