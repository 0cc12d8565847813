#include "stamp/sector_stamp.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "wire/crc32c.h"

namespace rnbd::fault {
namespace {

constexpr std::uint64_t kMagic = 0x706d6174732d6e72ULL;

struct Header {  // in the order of this machine: written and read by the same program
  std::uint64_t magic;
  StampKey key;
  std::uint32_t index;
  std::uint32_t crc;  // over the whole sector with this field 0
};
static_assert(std::is_trivially_copyable_v<Header>);
static_assert(sizeof(Header) == 48);

// The rest of a sector, so that a sector of mixed bytes cannot have a right CRC by constant
// filling.
void fill(std::span<std::byte> bytes, std::uint64_t seed) {
  std::uint64_t state = seed * 0x9e3779b97f4a7c15ULL + 1;
  for (std::size_t at = 0; at + sizeof(state) <= bytes.size(); at += sizeof(state)) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(bytes.data() + at, &state, sizeof(state));
  }
}

std::uint32_t crc_of(std::span<const std::byte> sector, Header header) {
  header.crc = 0;
  wire::Crc32c crc;
  crc.update(std::as_bytes(std::span(&header, 1)));
  crc.update(sector.subspan(sizeof(Header)));
  return crc.value();
}

}  // namespace

void stamp_block(std::span<std::byte> block, const StampKey& key) {
  for (std::size_t index = 0; index < block.size() / kSectorSize; ++index) {
    const std::span<std::byte> sector = block.subspan(index * kSectorSize, kSectorSize);
    fill(sector.subspan(sizeof(Header)),
         key.sequence ^ (key.block << 20) ^ (key.device << 44) ^ index);
    Header header{
        .magic = kMagic, .key = key, .index = static_cast<std::uint32_t>(index), .crc = 0};
    header.crc = crc_of(sector, header);
    std::memcpy(sector.data(), &header, sizeof(header));
  }
}

SectorContent read_sector(std::span<const std::byte> sector, std::size_t index) {
  SectorContent content;
  Header header;
  std::memcpy(&header, sector.data(), sizeof(header));
  if (header.magic == kMagic) {
    content.key = header.key;
    content.was_stamp = true;
    if (header.index == index && header.crc == crc_of(sector, header))
      content.kind = SectorContent::Kind::stamp;
    return content;
  }
  if (std::all_of(sector.begin(), sector.end(), [](std::byte b) { return b == std::byte{0}; }))
    content.kind = SectorContent::Kind::zeros;
  return content;
}

}  // namespace rnbd::fault
