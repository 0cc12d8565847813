#pragma once
// Programs started by the demo: run to their end with a bound on the time, or kept running and
// ended cleanly. Their output goes to a file.

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/loop.h"

namespace rnbd::cli {

// Whether a program of that name can be started.
bool have_program(const std::string& name);

struct Finished {
  int status = -1;  // exit status; 128 + signal; -1: not started or not in time
  std::string output;
  bool ok() const { return status == 0; }
};
Finished run_program(const std::vector<std::string>& words, const std::string& output_file,
                     Duration timeout);

class Process final {
 public:
  Process() = default;
  ~Process();  // ends it, harshly if it must
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // `environment`: "NAME=value" added to ours.
  bool start(const std::vector<std::string>& words, const std::string& output_file,
             const std::string& environment = {});
  bool running();
  bool wait(Duration timeout);  // false: still running
  int status() const { return status_; }
  bool terminate(Duration timeout);  // SIGTERM; true when it ended with status 0

 private:
  pid_t pid_ = -1;
  int status_ = -1;
};

}  // namespace rnbd::cli
