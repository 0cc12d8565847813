#include "wire/crc32c.h"

#include <gtest/gtest.h>

#include <vector>

namespace rnbd::wire {
namespace {

std::span<const std::byte> bytes(const std::vector<std::uint8_t>& v) {
  return std::as_bytes(std::span(v));
}

TEST(Crc32c, AgreesWithTheIscsiVectors) {  // RFC 3720 appendix B.4
  std::vector<std::uint8_t> rising(32), falling(32);
  for (std::uint8_t i = 0; i < 32; ++i) {
    rising[i] = i;
    falling[31U - i] = i;
  }
  EXPECT_EQ(crc32c(bytes(std::vector<std::uint8_t>(32, 0))), 0x8a9136aaU);
  EXPECT_EQ(crc32c(bytes(std::vector<std::uint8_t>(32, 0xff))), 0x62a8ab43U);
  EXPECT_EQ(crc32c(bytes(rising)), 0x46dd794eU);
  EXPECT_EQ(crc32c(bytes(falling)), 0x113fdb5cU);
  EXPECT_EQ(crc32c({}), 0U);
}

TEST(Crc32c, IsTheSameHoweverTheBytesAreCut) {
  std::vector<std::uint8_t> data(1000);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::uint8_t>(i * 7);
  const auto whole = crc32c(bytes(data));
  for (std::size_t cut = 0; cut <= data.size(); cut += 13) {
    Crc32c crc;
    crc.update(bytes(data).first(cut));
    crc.update(bytes(data).subspan(cut));
    EXPECT_EQ(crc.value(), whole) << cut;
  }
}

}  // namespace
}  // namespace rnbd::wire
