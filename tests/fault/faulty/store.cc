#include "faulty/store.h"

#include <algorithm>

#include "base/random.h"

namespace rnbd::fault {
namespace {

// Calls piece(page, offset in it, offset in the range, length) for each page of a range.
template <class Piece>
void for_each_page(std::uint64_t offset, std::uint64_t length, Piece piece) {
  for (std::uint64_t at = 0; at < length;) {
    const std::uint64_t within = (offset + at) % Store::kPage;
    const std::uint64_t count = std::min(Store::kPage - within, length - at);
    piece((offset + at) / Store::kPage, within, at, count);
    at += count;
  }
}

}  // namespace

Store::Page& Store::page_to_change(std::uint64_t number) {
  const auto [found, is_new] = pages_.try_emplace(number);
  Page& page = found->second;
  if (is_new) {
    const std::size_t start = number * kPage;
    const std::size_t length = std::min(kPage, stable_.size() - start);
    page.bytes.fill(std::byte{0});
    std::copy_n(stable_.data() + start, length, page.bytes.begin());
  }
  page.doomed = false;
  return page;
}

void Store::make_stable(std::uint64_t number, const Page& page) {
  const std::size_t start = number * kPage;
  const std::size_t length = std::min(kPage, stable_.size() - start);
  std::copy_n(page.bytes.begin(), length, stable_.data() + start);
}

void Store::read(std::uint64_t offset, std::span<std::byte> out) const {
  for_each_page(offset, out.size(), [&](auto number, auto within, auto at, auto length) {
    const auto found = pages_.find(number);
    const std::byte* source = found == pages_.end() ? stable_.data() + number * kPage + within
                                                    : found->second.bytes.data() + within;
    std::copy_n(source, length, out.data() + at);
  });
}

void Store::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  for_each_page(offset, bytes.size(), [&](auto number, auto within, auto at, auto length) {
    std::copy_n(bytes.data() + at, length, page_to_change(number).bytes.data() + within);
  });
}

void Store::zero(std::uint64_t offset, std::uint64_t length) {
  for_each_page(offset, length, [&](auto number, auto within, auto, auto count) {
    std::fill_n(page_to_change(number).bytes.data() + within, count, std::byte{0});
  });
}

void Store::flush() { flush_range(0, size()); }

void Store::flush_range(std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return;
  const auto end = pages_.upper_bound((offset + length - 1) / kPage);
  for (auto at = pages_.lower_bound(offset / kPage); at != end;) {
    if (at->second.doomed) {
      ++at;
      continue;
    }
    make_stable(at->first, at->second);
    at = pages_.erase(at);
  }
}

void Store::flush_failed() {
  for (auto& [number, page] : pages_) page.doomed = true;
}

void Store::power_cut(std::uint64_t seed) {
  SeededRandom random(seed);
  for (const auto& [number, page] : pages_)
    if (!page.doomed && random.below(2) == 0) make_stable(number, page);
  pages_.clear();
}

}  // namespace rnbd::fault
