#include "fabric/sim/device.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "fabric/sim/loop.h"
#include "fabric/sim/world.h"

namespace rnbd::fabric::sim {

// One door. A slot carries a request through its two moments: it begins to take effect, and it is
// done.
class SimDevice::Queue final : public block::Queue {
 public:
  Queue(SimDevice& device, SimLoop& loop) : device_(device), loop_(loop) { ++device_.queues_; }
  ~Queue() override {
    RNBD_ASSERT(free_.size() == slots_.size());  // outstanding requests would never be done
    --device_.queues_;
  }

  void submit(block::Request& request) override {
    RNBD_ASSERT(loop_.on_this_thread());
    if (free_.empty()) {
      slots_.push_back(std::make_unique<Slot>(*this));
      free_.push_back(slots_.back().get());
    }
    Slot& slot = *free_.back();
    free_.pop_back();
    ++device_.outstanding_;
    slot.start(request);
  }

 private:
  struct Slot {
    explicit Slot(Queue& owner) : queue(owner) {
      for (Event* event : {&effect, &completion}) event->set_place(&queue.loop_, queue.device_.id_);
    }
    void start(block::Request& what) {
      request = &what;
      result = block::check(what, queue.device_.limits());
      applied = 0;
      World& world = queue.device_.world_;
      const DeviceOptions& options = queue.device_.options_;
      Duration whole = options.latency + world.some(options.jitter);
      if (world.chance(options.tail_chance)) whole += world.some(options.tail);
      done_at = std::max(world.now() + whole, queue.device_.stalled_until_);
      split = block::carries_data(what.op) && what.length >= 2 * options.logical_block_size &&
              world.chance(options.split_chance);
      world.schedule(effect, world.now() + world.some(whole));
    }
    void on_effect() {
      SimDevice& device = queue.device_;
      if (!result) result = device.refuse(*request);
      if (!result) {
        const std::uint64_t block = device.options_.logical_block_size;
        applied = split ? block * (1 + device.world_.random().below(request->length / block - 1))
                        : request->length;
        device.apply(*request, 0, applied);
      }
      device.world_.schedule(completion, std::max(done_at, device.stalled_until_));
    }
    void on_completion() {
      SimDevice& device = queue.device_;
      if (device.stalled_until_ > device.world_.now())
        return device.world_.schedule(completion, device.stalled_until_);
      if (!result && !device.powered_) result = from_errno(EIO);
      if (!result && applied < request->length) device.apply(*request, applied, request->length);
      block::Request& finished = *request;
      finished.result = result;
      --device.outstanding_;
      queue.free_.push_back(this);
      finished.done(finished);
    }
    Queue& queue;
    block::Request* request = nullptr;
    std::error_code result;
    std::uint64_t applied = 0;
    bool split = false;
    TimePoint done_at{};
    Event effect = Event::of<&Slot::on_effect>(EventKind::device, this);
    Event completion = Event::of<&Slot::on_completion>(EventKind::device, this);
  };

  SimDevice& device_;
  SimLoop& loop_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> free_;
};

SimDevice::SimDevice(World& world, const DeviceOptions& options)
    : world_(world), options_(options), id_(world.next_id()) {
  resize(options.size);
}

SimDevice::~SimDevice() { RNBD_ASSERT(queues_ == 0); }

block::Limits SimDevice::limits() const {
  block::Limits limits;
  limits.size = options_.size;
  limits.logical_block_size = options_.logical_block_size;
  limits.physical_block_size = std::max(options_.logical_block_size, 4096u);
  limits.max_discard = limits.max_write_zeroes = std::uint64_t{1} << 30;
  limits.discard_granularity = options_.logical_block_size;
  limits.volatile_cache = limits.fua = options_.volatile_cache;
  limits.read_only = options_.read_only;
  return limits;
}

Result<std::unique_ptr<block::Queue>> SimDevice::open_queue(Loop& loop) {
  return std::make_unique<Queue>(*this, static_cast<SimLoop&>(loop));
}

void SimDevice::resize(std::uint64_t size) {
  RNBD_ASSERT(size % options_.logical_block_size == 0);
  options_.size = size;
  bytes_.resize(size);
  if (options_.volatile_cache) stable_.resize(size);
  dirty_.resize(size / options_.logical_block_size);
  forgotten_.resize(size / options_.logical_block_size);
}

std::error_code SimDevice::refuse(const block::Request& request) {
  if (!powered_) return from_errno(EIO);
  if (request.offset + request.length > options_.size) return from_errno(EIO);  // it shrank
  if (fail_next_ > 0) {
    --fail_next_;
    return fail_with_;
  }
  return error_ ? error_(request) : std::error_code{};
}

void SimDevice::fail_next(std::uint32_t count, std::error_code error) {
  fail_next_ = count;
  fail_with_ = error;
}

void SimDevice::apply(const block::Request& request, std::uint64_t from, std::uint64_t to) {
  if (request.offset + to > options_.size) return;
  if (from == 0 && (request.flags & block::kPreflush) != 0) make_durable(0, options_.size);
  switch (request.op) {
    case block::Op::read:
      move_data(request, from, to);
      break;
    case block::Op::write:
      move_data(request, from, to);
      written(request, request.offset + from, to - from);
      break;
    case block::Op::flush:
      make_durable(0, options_.size);
      break;
    case block::Op::discard:
    case block::Op::secure_erase:
    case block::Op::write_zeroes:
      std::fill_n(bytes_.begin() + static_cast<std::ptrdiff_t>(request.offset + from), to - from,
                  std::byte{0});
      written(request, request.offset + from, to - from);
      break;
  }
  if (from == 0 && observer_) observer_(request);
}

void SimDevice::move_data(const block::Request& request, std::uint64_t from, std::uint64_t to) {
  std::uint64_t at = 0;  // offset of the segment in the request
  for (const iovec& segment : request.segments) {
    const std::uint64_t begin = std::max(from, at);
    const std::uint64_t end = std::min<std::uint64_t>(to, at + segment.iov_len);
    if (begin < end) {
      std::byte* memory = static_cast<std::byte*>(segment.iov_base) + (begin - at);
      std::byte* device = bytes_.data() + request.offset + begin;
      if (request.op == block::Op::read) std::memcpy(memory, device, end - begin);
      if (request.op == block::Op::write) std::memcpy(device, memory, end - begin);
    }
    at += segment.iov_len;
  }
}

void SimDevice::written(const block::Request& request, std::uint64_t offset, std::uint64_t length) {
  if (!options_.volatile_cache) return;
  const std::uint64_t block = options_.logical_block_size;
  for (std::uint64_t i = offset / block; i < (offset + length) / block; ++i) {
    dirty_[i] = true;
    forgotten_[i] = false;
  }
  if ((request.flags & block::kFua) != 0) make_durable(offset, length);
}

void SimDevice::make_durable(std::uint64_t offset, std::uint64_t length) {
  if (!options_.volatile_cache) return;
  const std::uint64_t block = options_.logical_block_size;
  for (std::uint64_t i = offset / block; i < (offset + length) / block; ++i) {
    if (!dirty_[i]) continue;
    std::memcpy(stable_.data() + i * block, bytes_.data() + i * block, block);
    dirty_[i] = false;
  }
}

void SimDevice::power_cut() {
  powered_ = false;
  if (!options_.volatile_cache) return;
  const std::uint64_t block = options_.logical_block_size;
  for (std::uint64_t i = 0; i < dirty_.size(); ++i) {
    if (!dirty_[i] && !forgotten_[i]) continue;
    const bool survives = world_.chance(2);
    std::byte* from = (survives ? bytes_ : stable_).data() + i * block;
    std::memcpy((survives ? stable_ : bytes_).data() + i * block, from, block);
    dirty_[i] = forgotten_[i] = false;
  }
}

void SimDevice::forget_dirty() {
  for (std::size_t i = 0; i < dirty_.size(); ++i) {
    if (dirty_[i]) forgotten_[i] = true;
    dirty_[i] = false;
  }
}

void SimDevice::stall(Duration time) {
  stalled_until_ = std::max(stalled_until_, world_.now() + time);
}

}  // namespace rnbd::fabric::sim
