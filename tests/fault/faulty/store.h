#pragma once
// The content of one faulty file, in memory: what is on stable storage, and on top of it the pages
// written since, which a power cut may take. As with a page cache whose writeback failed, pages
// that were there when a flush failed stay readable, but no later flush makes them stable: only
// writing them again does. One thread.

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace rnbd::fault {

class Store {
 public:
  static constexpr std::size_t kPage = 4096;

  explicit Store(std::uint64_t size) : stable_(size) {}
  std::uint64_t size() const { return stable_.size(); }

  // Ranges lie within size().
  void read(std::uint64_t offset, std::span<std::byte> out) const;
  void write(std::uint64_t offset, std::span<const std::byte> bytes);
  void zero(std::uint64_t offset, std::uint64_t length);
  void flush();
  void flush_range(std::uint64_t offset, std::uint64_t length);
  void flush_failed();
  // Each page not stable is lost or not, as the numbers that follow from `seed` say.
  void power_cut(std::uint64_t seed);
  std::size_t unstable_pages() const { return pages_.size(); }

 private:
  struct Page {
    std::array<std::byte, kPage> bytes;
    bool doomed = false;  // a flush of it failed
  };
  Page& page_to_change(std::uint64_t number);
  void make_stable(std::uint64_t number, const Page& page);

  std::vector<std::byte> stable_;
  std::map<std::uint64_t, Page> pages_;
};

}  // namespace rnbd::fault
