#pragma once
// Moving wire structs in and out of bytes: always by copy, so neither alignment nor a peer that
// still writes to the memory matters. Parsers are given private copies and never look at a byte
// twice.

#include <cstddef>
#include <cstring>
#include <optional>
#include <span>

#include "base/assert.h"
#include "base/endian.h"

namespace rnbd::wire {

using ByteView = std::span<const std::byte>;

template <class T>
concept Layout = WireStruct<T, sizeof(T)>;

template <Layout T>
std::span<const std::byte, sizeof(T)> bytes_of(const T& value) {
  return std::as_bytes(std::span<const T, 1>(&value, 1));
}

// Writes `value` at the front of `out`, which has room for it; returns its size.
template <Layout T>
std::size_t store(std::span<std::byte> out, const T& value) {
  RNBD_ASSERT(out.size() >= sizeof(T));
  std::memcpy(out.data(), &value, sizeof(T));
  return sizeof(T);
}

// The T at the front of `bytes`; nothing if they are too few.
template <Layout T>
std::optional<T> load(ByteView bytes) {
  if (bytes.size() < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

// Takes a message apart from front to back; never past its end.
class Reader {
 public:
  explicit Reader(ByteView bytes) : rest_(bytes) {}

  template <Layout T>
  std::optional<T> take() {
    auto value = load<T>(rest_);
    if (value) rest_ = rest_.subspan(sizeof(T));
    return value;
  }
  std::optional<ByteView> take_bytes(std::size_t count) {
    if (count > rest_.size()) return std::nullopt;
    const ByteView taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  ByteView rest() const { return rest_; }
  bool empty() const { return rest_.empty(); }

 private:
  ByteView rest_;
};

}  // namespace rnbd::wire
