#include "fabric/verbs/slice_map.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace rnbd::fabric::verbs {
namespace {

constexpr std::uint32_t kBits = 64;

// Bits [first, first + count) of a word; first + count <= 64.
std::uint64_t mask_of(std::uint32_t first, std::uint32_t count) {
  const std::uint64_t ones = count == kBits ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
  return ones << first;
}

}  // namespace

SliceMap::SliceMap(std::uint32_t granules)
    : granules_(granules), words_((granules + kBits - 1) / kBits) {}

std::optional<std::uint32_t> SliceMap::take(std::uint32_t count) {
  RNBD_ASSERT(count > 0);
  if (count > granules_ - used_) return std::nullopt;
  auto first = find(hint_, granules_, count);
  if (!first) first = find(0, granules_, count);
  if (!first) return std::nullopt;
  set(*first, count, true);
  used_ += count;
  hint_ = *first + count;
  return first;
}

void SliceMap::give_back(std::uint32_t first, std::uint32_t count) {
  RNBD_ASSERT(count <= used_ && first <= granules_ && count <= granules_ - first);
  set(first, count, false);
  used_ -= count;
}

std::optional<std::uint32_t> SliceMap::find(std::uint32_t from, std::uint32_t to,
                                            std::uint32_t count) const {
  while (from < to) {
    const std::uint32_t begin = next(from, to, false);
    if (count > to - begin) return std::nullopt;
    const std::uint32_t end = next(begin, begin + count, true);
    if (end == begin + count) return begin;
    from = end;
  }
  return std::nullopt;
}

// The first granule in [from, to) that is taken, or is free; `to` if none is.
std::uint32_t SliceMap::next(std::uint32_t from, std::uint32_t to, bool taken) const {
  while (from < to) {
    const std::uint64_t word = taken ? words_[from / kBits] : ~words_[from / kBits];
    const std::uint64_t rest = word >> (from % kBits);
    if (rest != 0) return std::min(to, from + static_cast<std::uint32_t>(std::countr_zero(rest)));
    from = (from / kBits + 1) * kBits;
  }
  return to;
}

void SliceMap::set(std::uint32_t first, std::uint32_t count, bool taken) {
  while (count > 0) {
    const std::uint32_t bit = first % kBits;
    const std::uint32_t here = std::min(count, kBits - bit);
    const std::uint64_t mask = mask_of(bit, here);
    std::uint64_t& word = words_[first / kBits];
    RNBD_ASSERT((word & mask) == (taken ? 0 : mask));
    word ^= mask;
    first += here;
    count -= here;
  }
}

}  // namespace rnbd::fabric::verbs
