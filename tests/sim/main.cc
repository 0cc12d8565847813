// rnbd-sim: the whole of RNBD, several clients and servers, in one thread on virtual time, under
// random faults. One seed is one schedule.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <optional>
#include <sstream>
#include <thread>

#include "base/log.h"
#include "sim/batch.h"
#include "sim/gate.h"
#include "sim/schedule.h"

namespace rnbd::sim_test {
namespace {

struct Arguments {
  std::optional<std::uint64_t> seed;
  std::string trace;
  std::uint64_t first = 1;
  std::uint64_t count = 1000;
  unsigned jobs = 1;
  std::string seeds_file;
  std::string rule;
  bool until_caught = false;
  bool mutation_gate = false;
};

std::vector<std::uint64_t> read_seeds(const std::string& name) {
  std::ifstream file(name);
  if (!file) throw CLI::ValidationError("--seeds-file", "cannot read " + name);
  std::vector<std::uint64_t> seeds;
  std::string line;
  while (std::getline(file, line)) {
    line = line.substr(0, line.find('#'));
    if (line.find_first_not_of(" \t") != std::string::npos) seeds.push_back(std::stoull(line));
  }
  return seeds;
}

// "R3" or "R3,R12": the rules that are switched off.
std::uint32_t parse_rules([[maybe_unused]] const std::string& text) {
  std::uint32_t rules = 0;
#ifdef RNBD_MUTATIONS
  std::istringstream stream(text);
  for (std::string word; std::getline(stream, word, ',');) {
    const int number = word.size() > 1 && word[0] == 'R' ? std::atoi(word.c_str() + 1) : 0;
    if (number < 1 || number > static_cast<int>(Rule::r16))
      throw CLI::ValidationError("--rule", "R1 to R16");
    rules |= 1U << number;
  }
#else
  if (!text.empty()) throw CLI::ValidationError("--rule", "only in a build with RNBD_MUTATIONS");
#endif
  return rules;
}

// In this process, to be looked at.
int replay(const Arguments& arguments) {
#ifdef RNBD_MUTATIONS
  switched_off = parse_rules(arguments.rule);
#endif
  const bool trace = !arguments.trace.empty();
  set_log_options({.program = "rnbd-sim", .level = trace ? LogLevel::debug : LogLevel::off});
  Report report(
      [](const std::string& what) {
        std::printf("FAILED: %s\n", what.c_str());
        std::fflush(nullptr);
        ::_exit(1);
      },
      trace);
  const Outcome outcome = run_schedule(*arguments.seed, report, arguments.trace == "all");
  std::printf("seed %" PRIu64 ": passed, %" PRIu64 " operations, %" PRIu64
              " events, trace hash %016" PRIx64 "\n",
              *arguments.seed, outcome.operations, outcome.events, outcome.trace_hash);
  return 0;
}

int run_many(const Arguments& arguments) {
  BatchOptions options{.first = arguments.first,
                       .count = arguments.count,
                       .jobs = std::max(1U, arguments.jobs),
                       .switched_off = parse_rules(arguments.rule)};
  if (!arguments.seeds_file.empty()) {
    options.seeds = read_seeds(arguments.seeds_file);
    if (options.seeds.empty()) return std::puts("no seeds"), 0;
  }
  if (arguments.until_caught) options.failures_max = 1;
  const BatchResult result = run_batch(options);
  const std::uint64_t total = result.schedules + result.failures.size();
  for (const Failure& failure : result.failures)
    std::printf("seed %" PRIu64 ": %s\n    tests/sim/run --seed %" PRIu64 " --trace%s%s\n",
                failure.seed, failure.what.c_str(), failure.seed,
                arguments.rule.empty() ? "" : " --rule ", arguments.rule.c_str());
  std::printf("%" PRIu64 " schedules, %zu failed, %.1f s, %.0f per second of a core; %" PRIu64
              " operations, %" PRIu64 " events; hash %016" PRIx64 "\n",
              total, result.failures.size(), result.seconds,
              static_cast<double>(total) / result.cpu_seconds, result.operations, result.events,
              result.hash);
  return result.failures.empty() ? 0 : 1;
}

int run(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"Simulates RNBD under random faults. One seed is one schedule."};
  app.add_option("--seed", arguments.seed, "Run this one, here");
  app.add_option("--trace", arguments.trace, "With --seed: say what happens (=all: every event)")
      ->expected(0, 1)
      ->default_str("yes");
  app.add_option("--first", arguments.first, "First seed");
  app.add_option("--count", arguments.count, "How many schedules");
  app.add_option("--jobs,-j", arguments.jobs, "Child processes");
  app.add_option("--seeds-file", arguments.seeds_file, "Run the seeds in this file, one a line");
  app.add_option("--rule", arguments.rule, "Switch this safety rule off, R1 to R16");
  app.add_flag("--until-caught", arguments.until_caught, "Stop at the first failure");
  app.add_flag("--mutation-gate", arguments.mutation_gate,
               "Switch each rule off in turn; fail when --count schedules do not notice");
  try {
    app.parse(argc, argv);
    if (arguments.mutation_gate) {
      parse_rules("R1");  // only where rules can be switched off
      return run_mutation_gate(arguments.first, arguments.count, std::max(1U, arguments.jobs)) ? 0
                                                                                               : 1;
    }
    return arguments.seed ? replay(arguments) : run_many(arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
}

}  // namespace
}  // namespace rnbd::sim_test

int main(int argc, char** argv) { return rnbd::sim_test::run(argc, argv); }
