#include "sim/gate.h"

#include <cstdio>

#include "sim/batch.h"

namespace rnbd::sim_test {
namespace {

constexpr std::uint32_t bit(Rule rule) { return 1U << static_cast<unsigned>(rule); }

// A rule whose absence another one makes up for is switched off together with that one.
struct Case {
  const char* name;
  std::uint32_t rules;
  bool assertions_count = false;  // an assertion of the server is what stands there for the rule
};
constexpr Case kCases[] = {
    {"R1", bit(Rule::r1)},
    {"R2", bit(Rule::r2)},
    {"R3", bit(Rule::r3)},
    {"R4", bit(Rule::r4), true},
    {"R5", bit(Rule::r5)},
    {"R6 (R3 off as well)", bit(Rule::r6) | bit(Rule::r3)},
    {"R7", bit(Rule::r7)},
    {"R8", bit(Rule::r8)},
    {"R9", bit(Rule::r9)},
    {"R10", bit(Rule::r10)},
    {"R11 (R3, R4 off as well)", bit(Rule::r11) | bit(Rule::r3) | bit(Rule::r4)},
    {"R12", bit(Rule::r12)},
    {"R13", bit(Rule::r13)},
    {"R14", bit(Rule::r14)},
    {"R15", bit(Rule::r15)},
    {"R16 (R3, R4 off as well)", bit(Rule::r16) | bit(Rule::r3) | bit(Rule::r4)},
};

}  // namespace

bool run_mutation_gate(std::uint64_t first, std::uint64_t count, unsigned jobs) {
  bool all = true;
  std::printf("| Rule switched off | Schedules until it was noticed | By |\n| --- | --- | --- |\n");
  for (const Case& each : kCases) {
    const BatchResult result = run_batch({.first = first,
                                          .count = count,
                                          .jobs = jobs,
                                          .failures_max = 1,
                                          .assertions_count = each.assertions_count,
                                          .switched_off = each.rules});
    const bool caught = !result.failures.empty();
    all = all && caught;
    std::printf("| %s | %llu | %s |\n", each.name,
                static_cast<unsigned long long>(result.schedules + 1),
                caught ? result.failures[0].what.c_str() : "NOT NOTICED");
    std::fflush(stdout);
  }
  return all;
}

}  // namespace rnbd::sim_test
