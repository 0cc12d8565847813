#pragma once
// Which granules of a block are taken. Next fit over a bitmap. Pure.

#include <cstdint>
#include <optional>
#include <vector>

namespace rnbd::fabric::verbs {

class SliceMap {
 public:
  explicit SliceMap(std::uint32_t granules);

  // The first of `count` > 0 granules in a row, now taken.
  std::optional<std::uint32_t> take(std::uint32_t count);
  void give_back(std::uint32_t first, std::uint32_t count);
  std::uint32_t used() const { return used_; }
  std::uint32_t size() const { return granules_; }

 private:
  std::optional<std::uint32_t> find(std::uint32_t from, std::uint32_t to,
                                    std::uint32_t count) const;
  std::uint32_t next(std::uint32_t from, std::uint32_t to, bool taken) const;
  void set(std::uint32_t first, std::uint32_t count, bool taken);

  std::uint32_t granules_;
  std::uint32_t used_ = 0;
  std::uint32_t hint_ = 0;  // where the last search ended
  std::vector<std::uint64_t> words_;
};

}  // namespace rnbd::fabric::verbs
