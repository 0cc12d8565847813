#pragma once
// What the checker writes: every 512-byte sector says which run, device, block and sequence number
// it belongs to, and carries a CRC32C over itself. So a reader can tell not only damaged bytes, but
// also bytes that are whole and yet of another device, of another place, or of another time; and a
// torn block is told sector by sector.

#include <cstddef>
#include <cstdint>
#include <span>

namespace rnbd::fault {

inline constexpr std::size_t kSectorSize = 512;

struct StampKey {
  std::uint64_t run = 0;
  std::uint64_t device = 0;
  std::uint64_t block = 0;
  std::uint64_t sequence = 0;
  bool operator==(const StampKey&) const = default;
};

struct SectorContent {
  enum class Kind {
    zeros,
    stamp,    // whole: `key` says what it is
    unknown,  // never stamped, or damaged: see `was_stamp`
  };
  Kind kind = Kind::unknown;
  bool was_stamp = false;  // it begins as a stamp does, but its CRC or its place is wrong
  StampKey key;
};

// Fills a whole block; its size is a multiple of kSectorSize.
void stamp_block(std::span<std::byte> block, const StampKey& key);
// Reads sector number `index` of a block.
SectorContent read_sector(std::span<const std::byte> sector, std::size_t index);

}  // namespace rnbd::fault
