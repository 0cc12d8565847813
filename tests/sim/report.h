#pragma once
// Where a schedule says what it does and what it found. A violation ends the schedule: what holds
// the report decides how (the program exits, a test remembers).

#include <cstdarg>
#include <cstdio>
#include <functional>
#include <string>

#include "fabric/sim/world.h"

namespace rnbd::sim_test {

class Report {
 public:
  using Violation = std::function<void(const std::string& what)>;
  Report(Violation violation, bool trace) : violation_(std::move(violation)), trace_(trace) {}

  void set_world(const fabric::sim::World* world) { world_ = world; }
  bool trace() const { return trace_; }
  // One line of the readable trace.
  __attribute__((format(printf, 2, 3))) void note(const char* format, ...) const {
    if (!trace_) return;
    std::printf("%12.3f us  ", microseconds());
    va_list arguments;
    va_start(arguments, format);
    std::vprintf(format, arguments);
    va_end(arguments);
    std::putchar('\n');
  }
  __attribute__((format(printf, 2, 3))) void violation(const char* format, ...) const {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (trace_) std::printf("%12.3f us  VIOLATION %s\n", microseconds(), text);
    violation_(text);
  }

 private:
  double microseconds() const {
    return world_ == nullptr ? 0 : static_cast<double>(world_->elapsed().count()) / 1000.0;
  }
  Violation violation_;
  bool trace_;
  const fabric::sim::World* world_ = nullptr;
};

}  // namespace rnbd::sim_test
