#pragma once
// Where random numbers come from: the system in production, a seed in the simulator.

#include <array>
#include <cstdint>

namespace rnbd {

using Uuid = std::array<std::uint8_t, 16>;

class Random {
 public:
  virtual ~Random() = default;
  virtual std::uint64_t next() = 0;
  std::uint64_t below(std::uint64_t bound) { return bound == 0 ? 0 : next() % bound; }
  Uuid uuid();  // version 4
};

// getrandom(2), buffered; any thread may have its own, none may share one.
class SystemRandom final : public Random {
 public:
  std::uint64_t next() override;

 private:
  std::array<std::uint64_t, 32> pool_{};
  std::size_t used_ = 32;
};

// xoshiro256** seeded by splitmix64: the same seed gives the same numbers on every machine.
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(std::uint64_t seed);
  std::uint64_t next() override;

 private:
  std::array<std::uint64_t, 4> state_{};
};

}  // namespace rnbd
