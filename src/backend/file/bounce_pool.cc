#include "backend/file/bounce_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace rnbd::backend {
namespace {

// Calls f(segment bytes, offset within the range, length) for each piece of the range.
template <class F>
void for_each_piece(const block::Request& request, std::size_t position, std::size_t length,
                    F&& f) {
  std::size_t done = 0;
  for (const iovec& segment : request.segments) {
    if (done == length) return;
    if (position >= segment.iov_len) {
      position -= segment.iov_len;
      continue;
    }
    const std::size_t piece = std::min(segment.iov_len - position, length - done);
    f(static_cast<std::byte*>(segment.iov_base) + position, done, piece);
    done += piece;
    position = 0;
  }
}

}  // namespace

BouncePool::BouncePool() {
  all_.reserve(kBuffers);
  free_.reserve(kBuffers);
}

void BouncePool::Unmap::operator()(std::byte* memory) const { ::munmap(memory, kBytes); }

std::byte* BouncePool::acquire() {
  if (free_.empty()) {
    if (all_.size() == kBuffers) return nullptr;
    void* memory =
        ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    all_.emplace_back(static_cast<std::byte*>(memory));
    free_.push_back(all_.back().get());
  }
  std::byte* buffer = free_.back();
  free_.pop_back();
  return buffer;
}

void gather(const block::Request& request, std::size_t position, std::byte* to,
            std::size_t length) {
  for_each_piece(request, position, length,
                 [to](const std::byte* bytes, std::size_t at, std::size_t piece) {
                   std::memcpy(to + at, bytes, piece);
                 });
}

void scatter(const std::byte* from, const block::Request& request, std::size_t position,
             std::size_t length) {
  for_each_piece(request, position, length,
                 [from](std::byte* bytes, std::size_t at, std::size_t piece) {
                   std::memcpy(bytes, from + at, piece);
                 });
}

}  // namespace rnbd::backend
