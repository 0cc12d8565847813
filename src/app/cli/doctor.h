#pragma once
// rnbd doctor: looks for what is missing or will get in the way, and says what to do about it.
// Nothing is changed. Each check looks at one thing and may be asked by itself.

#include <optional>
#include <string>
#include <vector>

#include "app/cli/console.h"
#include "daemon/admin/protocol.h"

namespace rnbd::cli {

enum class Severity { ok, note, warning, error };
const char* severity_name(Severity severity);

struct Finding {
  Severity severity = Severity::ok;
  std::string check{};   // driver, limits, rdma, network, reach, daemon, device, config
  std::string text{};    // what is so
  std::string advice{};  // what to do; empty when there is nothing
};
using Findings = std::vector<Finding>;

// Files below a root, which tests put elsewhere.
class Machine final {
 public:
  explicit Machine(std::string root = "") : root_(std::move(root)) {}
  bool has(const std::string& path) const;
  std::string read(const std::string& path) const;  // without white space at its end; "" if absent
  std::vector<std::string> list(const std::string& directory) const;  // sorted

 private:
  std::string root_;
};

Findings check_drivers(const Machine& machine);
// Of a process; what RDMA needs is only needed where it is.
Findings check_limits(const Machine& machine, std::int64_t pid, const std::string& program);
Findings check_rdma(const Machine& machine);
// The interface on the way to somewhere.
Findings check_interface(const Machine& machine, const std::string& interface,
                         const std::string& destination);
// What the daemon itself knows: versions, states of devices and paths.
Findings check_daemon(const daemon::AdminResponse& answer, const std::string& our_version);

std::string findings_text(const Findings& findings, bool only_problems);
std::string findings_json(const Findings& findings);
// 0; 7 when there are warnings, 1 when there are errors.
int status_of(const Findings& findings);

ExitStatus run_doctor(const Command& command);

}  // namespace rnbd::cli
