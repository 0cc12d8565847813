#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "app/cli/daemons.h"
#include "app/cli/doctor.h"
#include "base/log.h"
#include "daemon/admin/units.h"

namespace rnbd::cli {
namespace {

namespace fs = std::filesystem;

std::uint64_t number_of(std::string_view text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// The soft limit of a line of /proc/PID/limits; nothing when it is unlimited.
std::optional<std::uint64_t> soft_limit(const std::string& limits, std::string_view name) {
  std::istringstream lines(limits);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name)) continue;
    std::istringstream words(line.substr(std::min(line.size(), name.size())));
    std::string soft;
    words >> soft;
    if (soft == "unlimited") return std::nullopt;
    return number_of(soft);
  }
  return std::nullopt;
}

bool has_rdma(const Machine& machine) { return !machine.list("/sys/class/infiniband").empty(); }

Finding check_port(const Machine& machine, const std::string& device, const std::string& port) {
  const std::string where = fmt::format("/sys/class/infiniband/{}/ports/{}/", device, port);
  const std::string state = machine.read(where + "state");
  const std::string layer = machine.read(where + "link_layer");
  const std::string rate = machine.read(where + "rate");
  const std::string name = fmt::format("{}/{}", device, port);
  if (state.find("ACTIVE") == std::string::npos)
    return {Severity::warning, "rdma",
            fmt::format("port {} is {}", name, state.empty() ? "unknown" : state),
            layer == "InfiniBand" ? "look at the cable and at the subnet manager"
                                  : "set its network interface up: ip link"};
  std::size_t gids = 0;
  for (const std::string& gid : machine.list(where + "gids")) {
    const std::string text = machine.read(where + "gids/" + gid);
    if (text.find_first_not_of("0:") != std::string::npos) ++gids;
  }
  if (gids == 0)
    return {Severity::warning, "rdma", fmt::format("port {} has no GID", name),
            "give its network interface an address"};
  return {Severity::ok, "rdma",
          fmt::format("port {} is active: {}, {}, {} GIDs", name, layer, rate, gids), ""};
}

void check_sessions(Findings& findings, const daemon::AdminResponse& answer) {
  for (const auto& session : answer.sessions) {
    std::size_t up = 0;
    for (const auto& path : session.paths) {
      if (path.state == "connected") ++up;
      if (path.slow)
        findings.push_back({Severity::warning, "reach",
                            fmt::format("path {} of session {} is slow", printable(path.name),
                                        printable(session.name)),
                            "requests avoid it; look at the network"});
    }
    if (!of_server(answer) && !session.paths.empty() && up == 1)
      findings.push_back(
          {Severity::note, "reach",
           fmt::format("session {} has one path that is up", printable(session.name)),
           "a second one keeps it going when that is lost: 'rnbd add path'"});
    if (session.failover == "immediate")
      findings.push_back(
          {Severity::warning, "daemon",
           fmt::format("session {} has failover=immediate, which is unsafe",
                       printable(session.name)),
           "remove 'failover' from the configuration, unless the data does not matter"});
  }
}

}  // namespace

const char* severity_name(Severity severity) {
  switch (severity) {
    case Severity::ok:
      return "ok";
    case Severity::note:
      return "note";
    case Severity::warning:
      return "warning";
    case Severity::error:
      return "error";
  }
  return "";
}

bool Machine::has(const std::string& path) const {
  std::error_code error;
  return fs::exists(root_ + path, error);
}

std::string Machine::read(const std::string& path) const {
  std::ifstream file(root_ + path);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

std::vector<std::string> Machine::list(const std::string& directory) const {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(root_ + directory, error), end; !error && at != end;
       at.increment(error))
    names.push_back(at->path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

Findings check_drivers(const Machine& machine) {
  Findings findings;
  const bool ublk = machine.has("/dev/ublk-control");
  const bool fuse = machine.has("/dev/fuse");
  const bool loop = machine.has("/dev/loop-control");
  const std::string release = machine.read("/proc/sys/kernel/osrelease");
  if (ublk) {
    findings.push_back({Severity::ok, "driver", "the ublk driver is there", ""});
  } else {
    const bool old = number_of(release) < 6;
    findings.push_back({Severity::note, "driver",
                        "there is no ublk driver: volumes are no fast block devices",
                        old ? fmt::format("Linux {} is too old for it, 6.0 is not", release)
                            : "modprobe ublk_drv"});
  }
  findings.push_back(fuse ? Finding{Severity::ok, "driver", "there is /dev/fuse", ""}
                          : Finding{Severity::note, "driver",
                                    "there is no /dev/fuse: volumes do not appear as files",
                                    "modprobe fuse; in a container pass the device in"});
  findings.push_back(loop ? Finding{Severity::ok, "driver", "there are loop devices", ""}
                          : Finding{Severity::note, "driver", "there is no /dev/loop-control",
                                    "modprobe loop; in a container pass the device in"});
  if (!ublk && !(fuse && loop))
    findings.push_back({Severity::warning, "driver",
                        "volumes cannot be block devices here: only NBD sockets (and files)",
                        "load ublk_drv, or fuse and loop"});
  for (const char* module : {"rnbd_server", "rnbd_client"})
    if (machine.has(std::string("/sys/module/") + module))
      findings.push_back({Severity::note, "driver",
                          fmt::format("the kernel's {} is loaded", module),
                          std::string_view(module) == "rnbd_server"
                              ? "it and rnbd-server need different RDMA ports (port_nr)"
                              : "its devices are /dev/rnbd* too: 'devices_dir' keeps ours apart"});
  return findings;
}

Findings check_limits(const Machine& machine, std::int64_t pid, const std::string& program) {
  constexpr std::uint64_t kFilesLeast = 4096;
  constexpr std::uint64_t kMemoryLeast = std::uint64_t{64} << 20;
  Findings findings;
  const std::string limits =
      machine.read(pid > 0 ? fmt::format("/proc/{}/limits", pid) : "/proc/self/limits");
  if (limits.empty()) return findings;
  const auto files = soft_limit(limits, "Max open files");
  if (files && *files < kFilesLeast)
    findings.push_back({Severity::warning, "limits",
                        fmt::format("{} may open {} files", program, *files),
                        "LimitNOFILE=65536 in its unit, or 'ulimit -n 65536' before it starts"});
  else
    findings.push_back({Severity::ok, "limits",
                        fmt::format("{} may open {} files", program,
                                    files ? std::to_string(*files) : "any number of"),
                        ""});
  const auto memory = soft_limit(limits, "Max locked memory");
  const std::string text =
      fmt::format("{} may pin {}", program, memory ? daemon::human_size(*memory) : "any memory");
  if (memory && *memory < kMemoryLeast)
    findings.push_back({has_rdma(machine) ? Severity::warning : Severity::note, "limits", text,
                        "RDMA needs memory that may be pinned: LimitMEMLOCK=infinity in its unit, "
                        "or 'ulimit -l unlimited'"});
  else
    findings.push_back({Severity::ok, "limits", text, ""});
  return findings;
}

Findings check_rdma(const Machine& machine) {
  Findings findings;
  const auto devices = machine.list("/sys/class/infiniband");
  if (devices.empty()) {
    findings.push_back({Severity::note, "rdma", "there is no RDMA device: paths go over TCP",
                        "over any network card: 'modprobe rdma_rxe; rdma link add rxe0 type rxe "
                        "netdev eth0'"});
    return findings;
  }
  for (const std::string& device : devices)
    for (const std::string& port :
         machine.list(fmt::format("/sys/class/infiniband/{}/ports", device)))
      findings.push_back(check_port(machine, device, port));
  if (!machine.has("/dev/infiniband/rdma_cm"))
    findings.push_back({Severity::error, "rdma", "there is no /dev/infiniband/rdma_cm",
                        "modprobe rdma_ucm; in a container pass /dev/infiniband in"});
  const auto nodes = machine.list("/dev/infiniband");
  if (std::none_of(nodes.begin(), nodes.end(),
                   [](const std::string& n) { return n.starts_with("uverbs"); }))
    findings.push_back({Severity::error, "rdma", "there is no /dev/infiniband/uverbs*",
                        "modprobe ib_uverbs; in a container pass /dev/infiniband in"});
  return findings;
}

Findings check_interface(const Machine& machine, const std::string& interface,
                         const std::string& destination) {
  constexpr std::uint64_t kEthernet = 1500, kJumbo = 4200;  // bytes
  const std::string where = "/sys/class/net/" + interface + "/";
  const std::uint64_t mtu = number_of(machine.read(where + "mtu"));
  const std::string text = fmt::format("{} goes over {} with MTU {}", destination, interface, mtu);
  if (mtu == 0) return {};
  if (mtu < kEthernet)
    return {{Severity::note, "network", text,
             "small packets cost throughput: where the network allows, ip link set dev " +
                 interface + " mtu 1500"}};
  // RDMA over this interface splits its messages into packets of at most 4096 bytes.
  bool rdma = false;
  for (const std::string& device : machine.list("/sys/class/infiniband"))
    rdma = rdma ||
           machine.has(fmt::format("/sys/class/infiniband/{}/device/net/{}", device, interface)) ||
           machine.read(fmt::format("/sys/class/infiniband/{}/parent", device)) == interface;
  if (rdma && mtu < kJumbo)
    return {{Severity::note, "network", text,
             "RDMA is faster with packets of 4096 bytes: MTU 4200 or more, on the whole way"}};
  return {{Severity::ok, "network", text, ""}};
}

Findings check_daemon(const daemon::AdminResponse& answer, const std::string& our_version) {
  Findings findings;
  const auto& daemon = answer.daemon;
  const std::string name = printable(daemon.program);
  const std::string version = printable(daemon.version);
  if (daemon.version == our_version)
    findings.push_back({Severity::ok, "daemon", fmt::format("{} {} answers", name, version), ""});
  else
    findings.push_back({Severity::warning, "daemon",
                        fmt::format("{} is {}, this command {}", name, version, our_version),
                        fmt::format("restart {}: volumes stay", name)});
  for (const auto& d : answer.devices) {
    if (d.state == "open") continue;
    const bool failed = d.state == "failed";
    findings.push_back({failed ? Severity::error : Severity::warning, "device",
                        fmt::format("{} ({}) is {}{}{}", d.name, printable(d.volume), d.state,
                                    d.error.empty() ? "" : ": ", printable(d.error)),
                        failed ? fmt::format("'rnbd recover {}'", d.name)
                               : fmt::format("when its server is there: 'rnbd remap {}'", d.name)});
  }
  for (const auto& o : answer.opens)
    if (o.flush_failed)
      findings.push_back(
          {Severity::error, "device",
           fmt::format("a flush of {} failed: flushes are refused", printable(o.volume)),
           fmt::format("look at its disk, then 'rnbd server recover {}'", printable(o.volume))});
  check_sessions(findings, answer);
  return findings;
}

}  // namespace rnbd::cli
