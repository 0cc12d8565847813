#pragma once
// For the proof that the simulator's checkers work: in a build with RNBD_MUTATIONS one safety rule
// (docs/safety.md) can be switched off, and the swarm must notice. In every other build broken() is
// constant and costs nothing.

#include <cstdint>

namespace rnbd {

enum class Rule : std::uint8_t {
  none,
  r1,
  r2,
  r3,
  r4,
  r5,
  r6,
  r7,
  r8,
  r9,
  r10,
  r11,
  r12,
  r13,
  r14,
  r15,
  r16,
};

#ifdef RNBD_MUTATIONS
// A bit for each rule; set before the simulation starts; one thread.
inline std::uint32_t switched_off = 0;
inline bool broken(Rule rule) { return (switched_off >> static_cast<unsigned>(rule) & 1) != 0; }
#else
constexpr bool broken(Rule) { return false; }
#endif

}  // namespace rnbd
