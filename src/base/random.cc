#include "base/random.h"

#include <sys/random.h>

#include <bit>
#include <cstring>

#include "base/assert.h"

namespace rnbd {

Uuid Random::uuid() {
  const std::array<std::uint64_t, 2> words{next(), next()};
  Uuid uuid;
  std::memcpy(uuid.data(), words.data(), uuid.size());
  uuid[6] = static_cast<std::uint8_t>((uuid[6] & 0x0f) | 0x40);
  uuid[8] = static_cast<std::uint8_t>((uuid[8] & 0x3f) | 0x80);
  return uuid;
}

std::uint64_t SystemRandom::next() {
  if (used_ == pool_.size()) {
    const ssize_t got = ::getrandom(pool_.data(), sizeof pool_, 0);
    RNBD_ASSERT(got == static_cast<ssize_t>(sizeof pool_));
    used_ = 0;
  }
  return pool_[used_++];
}

SeededRandom::SeededRandom(std::uint64_t seed) {
  for (auto& word : state_) {
    seed += 0x9e3779b97f4a7c15;
    std::uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    word = z ^ (z >> 31);
  }
}

std::uint64_t SeededRandom::next() {
  const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const std::uint64_t t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

}  // namespace rnbd
