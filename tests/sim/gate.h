#pragma once
// The proof that the checkers see: each safety rule is switched off in turn, and schedules are run
// until one fails.

#include <cstdint>

namespace rnbd::sim_test {

// True when every rule was missed within `count` schedules. Prints a table.
bool run_mutation_gate(std::uint64_t first, std::uint64_t count, unsigned jobs);

}  // namespace rnbd::sim_test
