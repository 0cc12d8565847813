#include "fabric/iwarp/domain.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "base/assert.h"

namespace rnbd::fabric::iwarp {

IndexPermutation::IndexPermutation(Random& random)
    : factor_(static_cast<std::uint32_t>(random.next()) | 1U),
      inverse_(1),
      shift_(static_cast<std::uint32_t>(random.next())) {
  // Newton's iteration: each step doubles the number of right low bits.
  for (int step = 0; step < 6; ++step) inverse_ *= 2U - factor_ * inverse_;
}

std::uint64_t random_base(Random& random) { return random.next() & 0x3ffffffffffff000U; }

IwarpDomain::~IwarpDomain() {
  for (const Slot& slot : slots_) RNBD_ASSERT(slot.memory == nullptr);
}

std::uint32_t IwarpDomain::take_slot() {
  // A freed slot rests until a few newer ones are free, too.
  constexpr std::size_t kResting = 8;
  if (free_.size() > kResting) {
    const std::uint32_t slot = free_.front();
    free_.erase(free_.begin());
    return slot;
  }
  slots_.push_back({.memory = nullptr, .key = static_cast<std::uint8_t>(random_.next())});
  return static_cast<std::uint32_t>(slots_.size() - 1);
}

Result<std::unique_ptr<Memory>> IwarpDomain::register_memory(const MemoryOptions& options) {
  if (options.size == 0 || options.size > (std::size_t{1} << 60)) return fail_errno(EINVAL);
  if (slots_.size() >= kFirstWindowSlot) return fail_errno(ENOSPC);
  const std::uint32_t slot = take_slot();
  Slot& entry = slots_[slot];
  const std::uint32_t index = permutation_.index_of(slot);
  if (index == 0 && entry.key == 0) ++entry.key;  // STag 0 is never valid
  auto memory = std::make_unique<IwarpMemory>(*this, slot, (index << 8) | entry.key,
                                              random_base(random_), options);
  entry.memory = memory.get();
  if (const auto error = memory->map()) return fail(error);
  return memory;
}

const IwarpMemory* IwarpDomain::find(std::uint32_t slot, std::uint8_t key) const {
  if (slot >= slots_.size()) return nullptr;
  const Slot& entry = slots_[slot];
  return entry.memory != nullptr && entry.key == key ? entry.memory : nullptr;
}

void IwarpDomain::remove(const IwarpMemory& memory) {
  Slot& entry = slots_[memory.slot()];
  RNBD_ASSERT(entry.memory == &memory);
  entry.memory = nullptr;
  ++entry.key;
  free_.push_back(memory.slot());
}

IwarpMemory::IwarpMemory(IwarpDomain& domain, std::uint32_t slot, std::uint32_t stag,
                         std::uint64_t base, const MemoryOptions& options)
    : domain_(domain),
      slot_(slot),
      stag_(stag),
      base_(base),
      size_(options.size),
      chunk_size_(options.chunk_size),
      access_(options.access) {
  if (chunk_size_ == 0) return;
  shut_ = std::make_unique<std::atomic<bool>[]>((size_ + chunk_size_ - 1) / chunk_size_);
}

IwarpMemory::~IwarpMemory() {
  domain_.remove(*this);
  if (!mapping_.empty()) ::munmap(mapping_.data(), mapping_.size());
}

std::error_code IwarpMemory::map() {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t usable = (size_ + page - 1) / page * page;
  const std::size_t all = usable + 2 * page;
  void* start = ::mmap(nullptr, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) return from_errno(errno);
  mapping_ = {static_cast<std::byte*>(start), all};
  bytes_ = mapping_.subspan(page, size_);
  if (::mprotect(bytes_.data(), usable, PROT_READ | PROT_WRITE) != 0) return from_errno(errno);
  // Best effort, both: without them the memory is only a little less private.
  ::madvise(bytes_.data(), usable, MADV_DONTFORK);
  ::madvise(bytes_.data(), usable, MADV_DONTDUMP);
  whole_ = {bytes_.data(), bytes_.size()};
  return {};
}

RemoteSpan IwarpMemory::remote(std::size_t offset, std::size_t length) const {
  RNBD_ASSERT(offset <= size_ && length <= size_ - offset);
  RNBD_ASSERT(length <= std::numeric_limits<std::uint32_t>::max());
  return {.address = base_ + offset, .key = stag_, .length = static_cast<std::uint32_t>(length)};
}

void IwarpMemory::set_gate(std::size_t chunk, bool open) {
  RNBD_ASSERT(chunk_size_ != 0 && chunk < (size_ + chunk_size_ - 1) / chunk_size_);
  shut_[chunk].store(!open, std::memory_order_release);
}

bool IwarpMemory::open(std::size_t offset, std::size_t n) const {
  if (chunk_size_ == 0) return true;
  const std::size_t last = (offset + n - 1) / chunk_size_;
  for (std::size_t chunk = offset / chunk_size_; chunk <= last; ++chunk) {
    if (shut_[chunk].load(std::memory_order_acquire)) return false;
  }
  return true;
}

}  // namespace rnbd::fabric::iwarp
