#pragma once
// What two looks at the daemons, some time apart, say of the time between: requests and bytes per
// second, latency. The rows of `rnbd top`. Pure.

#include <cstdint>
#include <string>
#include <vector>

#include "app/cli/render.h"
#include "app/cli/structured.h"
#include "base/loop.h"

namespace rnbd::cli {

struct Rate {
  Target kind = Target::device;
  bool server = false;    // of rnbd-server: an open volume, an incoming session or its path
  std::string name{};     // device, session or path; of a server's volume the volume
  std::string volume{};   // devices
  std::string session{};  // devices and paths
  std::string state{};
  double reads = 0, writes = 0, read_bytes = 0, write_bytes = 0;  // per second
  std::uint64_t inflight = 0, held = 0, errors = 0, reconnects = 0;
  // Of the requests in between; without any, or where it is not measured, 0.
  std::uint64_t mean_us = 0;
  std::vector<daemon::StageView> stages{};  // since the start, as the daemon tells them
};

// `before` and `now` are answers to `list`, `interval` apart. What is new counts from nothing; a
// counter that was reset says nothing this time.
std::vector<Rate> rates_between(const Answers& before, const Answers& now, Duration interval);

std::string rates_text(const std::vector<Rate>& rates, Target only, const Style& style);
// {"version":1,"time":...,"interval_ms":...,"devices":[...],"opens":[...],"sessions":[...],
//  "paths":[...]} on one line.
std::string rates_json(const std::vector<Rate>& rates, const std::string& time, Duration interval);

// "2026-11-22T18:00:00.123Z"
std::string rfc3339(std::chrono::system_clock::time_point time);

}  // namespace rnbd::cli
