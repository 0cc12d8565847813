#pragma once
// Integers with a byte order by type and alignment 1, for wire structs: le16/32/64 and be16/32/64.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace rnbd {

template <class T, std::endian Order>
class Ordered {
 public:
  constexpr Ordered() = default;
  constexpr Ordered(T value) { store(value); }  // NOLINT: implicit on purpose, it is a number
  constexpr Ordered& operator=(T value) {
    store(value);
    return *this;
  }
  constexpr operator T() const { return load(); }  // NOLINT
  constexpr T value() const { return load(); }

 private:
  constexpr T load() const {
    auto value = std::bit_cast<T>(bytes_);
    return Order == std::endian::native ? value : swap(value);
  }
  constexpr void store(T value) {
    bytes_ = std::bit_cast<std::array<std::uint8_t, sizeof(T)>>(
        Order == std::endian::native ? value : swap(value));
  }
  static constexpr T swap(T value) {
    if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
    if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
    if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
  }
  std::array<std::uint8_t, sizeof(T)> bytes_{};
};

using le16 = Ordered<std::uint16_t, std::endian::little>;
using le32 = Ordered<std::uint32_t, std::endian::little>;
using le64 = Ordered<std::uint64_t, std::endian::little>;
using be16 = Ordered<std::uint16_t, std::endian::big>;
using be32 = Ordered<std::uint32_t, std::endian::big>;
using be64 = Ordered<std::uint64_t, std::endian::big>;

// What every wire struct must be: exactly Size bytes, alignment 1, copyable as bytes, no hidden
// padding.
template <class T, std::size_t Size>
inline constexpr bool WireStruct =
    sizeof(T) == Size &&
    alignof(T) == 1 && std::is_trivially_copyable_v<T>&& std::is_standard_layout_v<T>;

}  // namespace rnbd
