#pragma once
// Many schedules, in child processes: a schedule that ends its process, by a violation, an
// assertion or for good, is one failure and no more.

#include <cstdint>
#include <string>
#include <vector>

#include "base/mutation.h"

namespace rnbd::sim_test {

struct BatchOptions {
  std::uint64_t first = 1;
  std::uint64_t count = 0;
  std::vector<std::uint64_t> seeds{};  // instead, if not empty
  unsigned jobs = 1;
  std::size_t failures_max = 20;   // then it stops
  bool assertions_count = true;    // as failures, beside what the checkers say
  std::uint32_t switched_off = 0;  // rules, as in base/mutation.h
};

struct Failure {
  std::uint64_t seed = 0;
  std::string what;
};

struct BatchResult {
  std::vector<Failure> failures;
  std::uint64_t schedules = 0;  // ended well
  std::uint64_t operations = 0;
  std::uint64_t events = 0;
  std::uint64_t hash = 0;  // of all trace hashes, in whatever order
  double seconds = 0;
  double cpu_seconds = 0;  // of all children of this process so far
};

BatchResult run_batch(const BatchOptions& options);

}  // namespace rnbd::sim_test
