#include "fabric/sim/memory.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/mutation.h"
#include "fabric/sim/world.h"

namespace rnbd::fabric::sim {
namespace {

// Keys of memory have the top bit, keys of windows do not; both carry the index of what they name.
constexpr std::uint32_t kMemoryKey = 0x80000000;
constexpr std::uint32_t kMemoryIndexMask = 0xffff;
constexpr std::uint32_t kWindowIndexMask = 0xffff;

std::uint32_t memory_key(World& world, std::uint32_t index) {
  return kMemoryKey | (static_cast<std::uint32_t>(world.random().next()) & 0x7fff0000) | index;
}
std::uint64_t random_base(World& world) { return (world.random().next() >> 3 | 1) << 12 >> 1; }

// The offset of [address, address + length) in a range; none where it sticks out.
bool inside(std::uint64_t base, std::uint64_t size, std::uint64_t address, std::uint64_t length) {
  return address >= base && address - base <= size && length <= size - (address - base);
}

}  // namespace

void ChunkPool::Free::operator()(std::byte* memory) const { std::free(memory); }

ChunkPool::ChunkPool(const MemoryOptions& options)
    : size(options.size),
      bytes(static_cast<std::byte*>(std::calloc(std::max<std::size_t>(options.size, 1), 1))) {
  RNBD_ASSERT(bytes != nullptr);
}

SimMemory::SimMemory(SimDomain& domain, const MemoryOptions& options, std::uint32_t key,
                     std::uint64_t base)
    : domain_(domain), options_(options), key_(key), base_(base), pool_(domain.make_pool(options)) {
  if (options.chunk_size == 0) return;
  const std::size_t count = (options.size + options.chunk_size - 1) / options.chunk_size;
  if (domain.capabilities_.keyed_gates) {
    gate_keys_.resize(count, 0);
  } else {
    pool_->gates.resize(count, true);
  }
}

SimMemory::~SimMemory() {
  RNBD_ASSERT(domain_.connections_ == 0);  // they may still touch it
  domain_.memories_[key_ & kMemoryIndexMask] = nullptr;
}

RemoteSpan SimMemory::remote(std::size_t offset, std::size_t length) const {
  RNBD_ASSERT(inside(0, options_.size, offset, length));
  return {.address = base_ + offset, .key = key_, .length = static_cast<std::uint32_t>(length)};
}

void SimMemory::set_gate(std::size_t chunk, bool open) {
  if (!gate_keys_.empty()) return;
  RNBD_ASSERT(chunk < pool_->gates.size());
  pool_->gates[chunk] = open;
}

std::uint32_t SimMemory::fresh_gate_key() {
  // A number of the world's own, so that no old key ever fits.
  const auto number = static_cast<std::uint32_t>(domain_.world_.next_id() & 0x7fff);
  return kMemoryKey | number << 16 | (key_ & kMemoryIndexMask);
}

RemoteSpan SimMemory::gate(std::size_t chunk, std::uint32_t key) const {
  const std::size_t offset = chunk * options_.chunk_size;
  const std::size_t length = std::min(options_.chunk_size, options_.size - offset);
  return {.address = base_ + offset, .key = key, .length = static_cast<std::uint32_t>(length)};
}

std::byte* SimMemory::writable(std::uint32_t key, std::uint64_t address, std::size_t length) {
  if (!gate_keys_.empty()) {
    const auto found = std::ranges::find(gate_keys_, key);
    if (found == gate_keys_.end()) return nullptr;
    const auto chunk = gate(static_cast<std::size_t>(found - gate_keys_.begin()), key);
    return inside(chunk.address, chunk.length, address, length)
               ? pool_->bytes.get() + (address - base_)
               : nullptr;
  }
  if (key != key_) return nullptr;
  if (options_.access != Access::remote_write || !inside(base_, options_.size, address, length))
    return nullptr;
  const std::size_t offset = address - base_;
  if (domain_.gates_ && !pool_->gates.empty() && length > 0) {
    const std::size_t last = (offset + length - 1) / options_.chunk_size;
    for (std::size_t chunk = offset / options_.chunk_size; chunk <= last; ++chunk) {
      if (!pool_->gates[chunk]) return nullptr;
    }
  }
  return pool_->bytes.get() + offset;
}

void SimMemory::renew_key() {
  const std::uint32_t old = key_;
  while (key_ == old) key_ = memory_key(domain_.world_, old & kMemoryIndexMask);
}

SimDomain::~SimDomain() {
  RNBD_ASSERT(connections_ == 0);
  for (const SimMemory* memory : memories_) RNBD_ASSERT(memory == nullptr);
}

Result<std::unique_ptr<Memory>> SimDomain::register_memory(const MemoryOptions& options) {
  if (memories_.size() > kMemoryIndexMask) return fail_errno(ENOMEM);
  const auto index = static_cast<std::uint32_t>(memories_.size());
  auto memory =
      std::make_unique<SimMemory>(*this, options, memory_key(world_, index), random_base(world_));
  memories_.push_back(memory.get());
  return memory;
}

// One pool for each memory; or, with rule R1 switched off, one for all paths of a client.
std::shared_ptr<ChunkPool> SimDomain::make_pool(const MemoryOptions& options) {
  if (!broken(Rule::r1) || peer_ == nullptr || options.chunk_size == 0)
    return std::make_shared<ChunkPool>(options);
  for (const auto& [peer, pool] : host_.pools_) {
    if (peer == peer_ && pool->size == options.size) return pool;
  }
  return host_.pools_.emplace_back(peer_, std::make_shared<ChunkPool>(options)).second;
}

SimMemory* SimDomain::find(std::uint32_t key) {
  if ((key & kMemoryKey) == 0) return nullptr;
  const std::uint32_t index = key & kMemoryIndexMask;
  if (index >= memories_.size() || memories_[index] == nullptr) return nullptr;
  return memories_[index];
}

RemoteSpan SimWindows::expose(std::uint32_t index, std::span<const iovec> local) {
  Window& window = windows_[index];
  // A number of the world's own in the key: a stale key, or another connection's, never fits by
  // chance.
  const auto fresh = static_cast<std::uint32_t>(world_.next_id() & 0x7fff);
  window.key = ((fresh == 0 ? 1 : fresh) << 16) | index;
  window.base = random_base(world_);
  window.length = 0;
  window.local.assign(local.begin(), local.end());
  for (const iovec& part : local) window.length += part.iov_len;
  return {.address = window.base,
          .key = window.key,
          .length = static_cast<std::uint32_t>(window.length)};
}

SimWindows::Window* SimWindows::find(std::uint32_t key) {
  const std::uint32_t index = key & kWindowIndexMask;
  if (key == 0 || index >= windows_.size()) return nullptr;
  return windows_[index].key == key ? &windows_[index] : nullptr;
}

bool SimWindows::invalidate(std::uint32_t key) {
  Window* window = find(key);
  if (window != nullptr) window->key = 0;
  return window != nullptr;
}

bool SimWindows::write(std::uint32_t key, std::uint64_t address, std::span<const std::byte> bytes) {
  Window* window = find(key);
  if (window == nullptr || !inside(window->base, window->length, address, bytes.size()))
    return false;
  std::uint64_t skip = address - window->base;
  for (const iovec& part : window->local) {
    if (skip >= part.iov_len) {
      skip -= part.iov_len;
      continue;
    }
    const std::size_t count = std::min<std::size_t>(bytes.size(), part.iov_len - skip);
    std::memcpy(static_cast<std::byte*>(part.iov_base) + skip, bytes.data(), count);
    bytes = bytes.subspan(count);
    skip = 0;
    if (bytes.empty()) break;
  }
  return true;
}

}  // namespace rnbd::fabric::sim
