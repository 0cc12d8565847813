// rnbd demo: the main job end to end on this machine, with real programs, cleaned up afterwards.
// Every step is one line.

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "app/cli/process.h"
#include "app/cli/verbs.h"
#include "base/unique_fd.h"
#include "daemon/admin/admin_client.h"
#include "daemon/admin/units.h"

namespace rnbd::cli {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using daemon::AdminCommand;
using daemon::AdminRequest;
using daemon::Outcome;
using daemon::Problem;
using daemon::ProblemCode;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kVolumeBytes = std::uint64_t{512} << 20;
constexpr std::uint64_t kFileBytesMax = std::uint64_t{8} << 20;
constexpr std::uint64_t kDataBytesMax = std::uint64_t{48} << 20;

void say(const std::string& text) {
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

tl::unexpected<Problem> failed(std::string what, std::string hint = {}) {
  return daemon::problem({ProblemCode::failed, std::move(what), std::move(hint), 0});
}

std::string last_line(const std::string& text) {
  std::size_t end = text.find_last_not_of("\n ");
  if (end == std::string::npos) return "no output";
  std::size_t start = text.find_last_of('\n', end);
  return text.substr(start == std::string::npos ? 0 : start + 1,
                     end - (start == std::string::npos ? 0 : start + 1) + 1);
}

// Where a daemon says that it is ready.
class ReadySocket {
 public:
  explicit ReadySocket(const std::string& path)
      : path_(path), fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof address.sun_path - 1));
    if (bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fd_.reset();
  }
  // Waits until the daemon said READY=1; false when it ended instead, or took too long.
  bool wait(Process& process, Duration timeout) {
    auto deadline = Clock::now() + timeout;
    while (Clock::now() < deadline && process.running()) {
      pollfd entry{fd_.get(), POLLIN, 0};
      if (poll(&entry, 1, 100) <= 0) continue;  // looks after the process now and then
      char text[256] = {};
      ssize_t n = recv(fd_.get(), text, sizeof text - 1, MSG_DONTWAIT);
      if (n > 0 && std::strstr(text, "READY=1") != nullptr) return true;
    }
    return false;
  }
  std::string environment() const { return "NOTIFY_SOCKET=" + path_; }

 private:
  std::string path_;
  UniqueFd fd_;
};

class Demo {
 public:
  explicit Demo(const Command& command) : keep_(command.keep) {
    std::string name = (fs::temp_directory_path() / "rnbd-demo-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) directory_ = name;
  }

  ~Demo() { clean_up(); }

  Outcome<std::string> run() {
    if (directory_.empty()) return failed("cannot make a temporary directory");
    for (auto step : {&Demo::start_server, &Demo::start_client, &Demo::map, &Demo::make_data,
                      &Demo::use, &Demo::measure, &Demo::finish}) {
      if (auto done = (this->*step)(); !done) return tl::unexpected(done.error());
    }
    return fmt::format("{} served, mapped and used as {}; {} copied through and verified",
                       daemon::human_size(kVolumeBytes), used_as_, daemon::human_size(data_bytes_));
  }

 private:
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  static std::string program(const std::string& name) {
    return (fs::read_symlink("/proc/self/exe").parent_path() / name).string();
  }

  // Runs a program of the system; its last line is the reason when it fails.
  Outcome<std::string> call(const std::vector<std::string>& words, Duration timeout = 60s) {
    Finished finished = run_program(words, path("output"), timeout);
    if (!finished.ok())
      return failed(
          fmt::format("{} failed ({}): {}", words[0], finished.status, last_line(finished.output)));
    return finished.output;
  }

  Outcome<daemon::AdminResponse> ask(const std::string& socket, const AdminRequest& request) {
    auto answer = daemon::ask_daemon(path(socket), request, 30s);
    if (answer && answer->error) return daemon::problem(*answer->error);
    return answer;
  }

  Outcome<void> start_server() {
    fs::create_directory(path("store"));
    std::ofstream(path("store/demo")).close();
    fs::resize_file(path("store/demo"), kVolumeBytes);
    say(fmt::format("serve    a fresh sparse volume of {} in {}", daemon::human_size(kVolumeBytes),
                    path("store")));
    std::ofstream(path("empty.toml"))
        .close();  // whatever is configured on this machine does not matter here
    ReadySocket ready(path("ready-server"));
    bool started =
        server_.start({program("rnbd-server"), path("store"), "--config", path("empty.toml"),
                       "--listen", "ip:127.0.0.1", "--port", "0", "--socket", path("server.sock")},
                      path("server.log"), ready.environment());
    if (!started || !ready.wait(server_, 10s)) return not_started("rnbd-server", "server.log");
    auto answer = ask("server.sock", {.command = AdminCommand::list});
    if (!answer) return tl::unexpected(answer.error());
    std::string listening = answer->daemon.listen.empty() ? "" : answer->daemon.listen[0];
    port_ = static_cast<std::uint16_t>(
        std::strtoul(listening.substr(listening.find_last_of(' ') + 1).c_str(), nullptr, 10));
    say(fmt::format("server   rnbd-server listens on {}", listening));
    return {};
  }

  Outcome<void> start_client() {
    ReadySocket ready(path("ready-client"));
    bool started = client_.start(
        {program("rnbd-client"), "--config", path("empty.toml"), "--socket", path("client.sock")},
        path("client.log"), ready.environment());
    if (!started || !ready.wait(client_, 10s)) return not_started("rnbd-client", "client.log");
    say("client   rnbd-client is ready");
    return {};
  }

  Outcome<void> not_started(const std::string& name, const std::string& log) {
    std::ifstream stream(path(log));
    std::string text((std::istreambuf_iterator<char>(stream)), {});
    return failed(fmt::format("{} did not start: {}", name, last_line(text)));
  }

  Outcome<void> map() {
    AdminRequest request{.command = AdminCommand::map};
    request.map.session = "demo";
    request.map.paths = {{"", "ip:127.0.0.1", port_}};
    request.map.device_path = "demo";
    auto begin = Clock::now();
    auto answer = ask("client.sock", request);
    if (!answer) return tl::unexpected(answer.error());
    device_ = answer->devices.at(0);
    auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin).count();
    say(fmt::format("map      {} -> {} in {} ms", daemon::to_line(request.map),
                    device_.node.empty() ? device_.name : device_.node, took));
    mapped_ = true;
    return {};
  }

  Outcome<void> unmap() {
    auto answer = ask("client.sock", {.command = AdminCommand::unmap, .target = device_.name});
    if (!answer) return tl::unexpected(answer.error());
    mapped_ = false;
    return {};
  }

  // Real files of this machine, and noise, which no layer can guess.
  Outcome<void> make_data() {
    fs::create_directory(path("data"));
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator("/usr/bin", error)) {
      if (data_bytes_ > kDataBytesMax / 2 || !entry.is_regular_file(error) ||
          entry.is_symlink(error) || entry.file_size(error) > kFileBytesMax)
        continue;
      if (fs::copy_file(entry.path(), path("data") / entry.path().filename(), error))
        data_bytes_ += entry.file_size(error);
    }
    std::mt19937_64 random(1);
    std::ofstream noise(path("data/noise"), std::ios::binary);
    for (; data_bytes_ < kDataBytesMax; data_bytes_ += 8) {
      std::uint64_t word = random();
      noise.write(reinterpret_cast<const char*>(&word), sizeof word);
    }
    noise.close();
    auto sums = call({"sh", "-c",
                      "cd '" + path("data") +
                          "' && find . -type f -print0 | sort -z | xargs -0 sha256sum > ../sums"});
    if (!sums) return tl::unexpected(sums.error());
    return {};
  }

  Outcome<void> use() {
    bool mountable = !device_.node.empty() && geteuid() == 0 && have_program("mkfs.ext4");
    return mountable ? use_file_system() : use_nbd();
  }

  Outcome<void> use_file_system() {
    used_as_ = "block device with ext4";
    mountpoint_ = path("mnt");
    fs::create_directory(mountpoint_);
    say(fmt::format("format   mkfs.ext4 {}", device_.node));
    if (auto made = call({"mkfs.ext4", "-q", "-F", device_.node}); !made)
      return tl::unexpected(made.error());
    if (auto mounted = mount("rw"); !mounted) return mounted;
    say(fmt::format("copy     {} of files onto it", daemon::human_size(data_bytes_)));
    if (auto copied = call({"cp", "-a", path("data"), mountpoint_}); !copied)
      return tl::unexpected(copied.error());
    if (auto unmounted = unmount(); !unmounted) return unmounted;
    if (auto again = map_again(); !again) return again;
    if (auto checked = call({"fsck.ext4", "-f", "-n", device_.node}); !checked)
      return tl::unexpected(checked.error());
    if (auto mounted = mount("ro"); !mounted) return mounted;
    auto verified =
        call({"sh", "-c",
              "cd '" + mountpoint_ + "/data' && sha256sum --quiet -c '" + path("sums") + "'"});
    if (!verified) return tl::unexpected(verified.error());
    say("verify   fsck is clean, and every checksum is right");
    return unmount();
  }

  Outcome<void> mount(const std::string& how) {
    auto mounted = call({"mount", "-t", "ext4", "-o", how, device_.node, mountpoint_});
    if (!mounted) return tl::unexpected(mounted.error());
    mounted_ = true;
    return {};
  }

  Outcome<void> unmount() {
    auto unmounted = call({"umount", mountpoint_});
    if (!unmounted) return tl::unexpected(unmounted.error());
    mounted_ = false;
    return {};
  }

  Outcome<void> map_again() {
    if (auto gone = unmap(); !gone) return gone;
    say("unmap    and map again: what is read now comes from the server");
    return map();
  }

  Outcome<void> use_nbd() {
    used_as_ = "NBD export";
    if (!have_program("nbdcopy"))
      return failed("there is no program to use the NBD socket with", "apt install libnbd-bin");
    auto image =
        call({"sh", "-c",
              "tar -C '" + directory_ + "' -cf '" + path("image") + "' data && truncate -s " +
                  std::to_string(kVolumeBytes) + " '" + path("image") + "'"});
    if (!image) return tl::unexpected(image.error());
    say(fmt::format("copy     an archive of {} onto {}", daemon::human_size(data_bytes_),
                    device_.nbd));
    if (auto copied = call({"nbdcopy", "--flush", path("image"), device_.nbd}); !copied)
      return tl::unexpected(copied.error());
    if (auto again = map_again(); !again) return again;
    if (auto copied = call({"nbdcopy", device_.nbd, path("back")}); !copied)
      return tl::unexpected(copied.error());
    if (auto same = call({"cmp", path("image"), path("back")}); !same)
      return failed("what came back differs: " + same.error().what);
    if (auto same = call({"cmp", path("image"), path("store/demo")}); !same)
      return failed("the server's file differs: " + same.error().what);
    say("verify   every byte came back, and the server's file holds it");
    return {};
  }

  struct Job {
    const char* title;
    std::vector<std::string> words;
  };

  Outcome<void> measure() {
    if (!have_program("fio")) {
      say("speed    not measured: fio is not installed");
      return {};
    }
    const Job jobs[] = {
        {"4K random read, depth 1", {"--rw=randread", "--bs=4k", "--iodepth=1"}},
        {"4K random read, depth 32", {"--rw=randread", "--bs=4k", "--iodepth=32"}},
        {"4K random write, depth 32", {"--rw=randwrite", "--bs=4k", "--iodepth=32"}},
        {"128K read, depth 16", {"--rw=read", "--bs=128k", "--iodepth=16"}}};
    say("speed    fio over the NBD socket, TCP to the server, a second each (a demonstration; "
        "bench/run measures)");
    say(fmt::format("         {:<28} {:>10} {:>10} {:>10}", "", "IOPS", "MiB/s", "mean us"));
    for (const Job& job : jobs) {
      std::vector<std::string> words{
          "fio",         "--name=demo",  "--ioengine=nbd", "--uri=" + device_.nbd,
          "--size=256m", "--time_based", "--runtime=1",    "--output-format=json",
          "--randseed=1"};
      words.insert(words.end(), job.words.begin(), job.words.end());
      auto output = call(words);
      if (!output) return tl::unexpected(output.error());
      if (!print_figures(job.title, *output))
        return failed("fio's answer is not understood: " + last_line(*output));
    }
    return {};
  }

  static bool print_figures(const char* title, const std::string& output) {
    std::size_t brace = output.find('{');
    auto json = nlohmann::json::parse(brace == std::string::npos ? "" : output.substr(brace),
                                      nullptr, false);
    if (json.is_discarded() || !json.contains("jobs") || json["jobs"].empty()) return false;
    const auto& job = json["jobs"][0];
    const auto& side = job["read"].value("total_ios", 0) > 0 ? job["read"] : job["write"];
    double latency = side.contains("clat_ns") ? side["clat_ns"].value("mean", 0.0) / 1000 : 0;
    say(fmt::format("         {:<28} {:>10.0f} {:>10.0f} {:>10.1f}", title, side.value("iops", 0.0),
                    side.value("bw_bytes", 0.0) / (1 << 20), latency));
    return true;
  }

  Outcome<void> finish() {
    if (auto gone = unmap(); !gone) return gone;
    if (!client_.terminate(20s))
      return failed("rnbd-client did not end cleanly",
                    "its log: " + (keep_ ? path("client.log") : "run with --keep"));
    if (!server_.terminate(20s))
      return failed("rnbd-server did not end cleanly",
                    "its log: " + (keep_ ? path("server.log") : "run with --keep"));
    say("clean    unmapped, both daemons ended");
    return {};
  }

  // Whatever happened, nothing stays behind.
  void clean_up() {
    if (directory_.empty()) return;
    if (mounted_) run_program({"umount", "-l", mountpoint_}, path("output"), 10s);
    if (mapped_ && client_.running())
      daemon::ask_daemon(path("client.sock"),
                         {.command = AdminCommand::unmap, .target = device_.name, .force = true},
                         10s);
    client_.terminate(20s);
    server_.terminate(20s);
    if (keep_) return say("kept     " + directory_);
    std::error_code error;
    fs::remove_all(directory_, error);
  }

  bool keep_;
  std::string directory_;
  std::uint16_t port_ = 0;
  daemon::DeviceView device_;
  std::string mountpoint_, used_as_;
  std::uint64_t data_bytes_ = 0;
  bool mapped_ = false, mounted_ = false;
  Process server_, client_;
};

}  // namespace

ExitStatus run_demo(const Command& command) {
  auto begin = Clock::now();
  Outcome<std::string> result;
  {
    Demo demo(command);
    result = demo.run();
  }
  double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  if (!result) {
    say(fmt::format("demo: FAILED after {:.1f} s: {}", seconds, result.error().text()));
    return static_cast<int>(result.error().code);
  }
  say(fmt::format("demo: success in {:.1f} s: {}", seconds, *result));
  return 0;
}

}  // namespace rnbd::cli
