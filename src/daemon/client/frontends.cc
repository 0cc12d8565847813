#include "daemon/client/frontends.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/device_users.h"
#include "base/log.h"

namespace rnbd::daemon {
namespace {

// A name that is free: the volume's own, else with its session, else with its number too.
template <class Taken>
std::string free_name(const Appearance& appearance, const Taken& taken) {
  std::string name = appearance.volume;
  if (taken(name)) name = fmt::format("{}@{}", appearance.volume, appearance.session);
  if (taken(name))
    name = fmt::format("{}@{}#{}", appearance.volume, appearance.session, appearance.number);
  return name;
}

bool fuse_possible() { return access("/dev/fuse", R_OK | W_OK) == 0; }

}  // namespace

std::string percent_encode(std::string_view text) {
  std::string out;
  for (char c : text) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                 c == '-' || c == '.' || c == '_' || c == '~' || c == '/' || c == '@' || c == ':';
    if (plain)
      out += c;
    else
      out += fmt::format("%{:02X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
  }
  return out;
}

Outcome<std::unique_ptr<Frontends>> Frontends::start(Reactors& reactors, const ClientConfig& config,
                                                     const std::string& directory) {
  auto frontends = std::unique_ptr<Frontends>(new Frontends(reactors, config));
  if (auto opened = frontends->open(directory); !opened) return tl::unexpected(opened.error());
  return frontends;
}

Frontends::~Frontends() = default;

Outcome<void> Frontends::open(const std::string& directory) {
  bool wants_loop = config_.frontend == "loop" || (config_.frontend == "auto" && geteuid() == 0);
  bool wants_fuse = config_.frontend == "fuse" || config_.frontend == "auto" || wants_loop;
  bool loop_possible = fuse_possible() && fuse::LoopDevices::available();
  if (config_.frontend == "loop" && !loop_possible)
    return problem(
        {ProblemCode::failed,
         "block devices need root, /dev/fuse and the loop driver, and something of it is missing",
         "modprobe fuse loop, or set frontend = \"nbd\"", ENODEV});
  if (config_.frontend == "fuse" && !fuse_possible())
    return problem({ProblemCode::failed, "/dev/fuse is missing or not for us",
                    "modprobe fuse, or set frontend = \"nbd\"", ENODEV});
  if (auto opened = open_nbd(directory); !opened) return opened;
  // What an earlier daemon left is found by its mount, so before ours takes that place.
  if (wants_loop && loop_possible) open_loops(directory);
  if (wants_fuse && fuse_possible()) {
    auto mounted = open_mount(directory);
    if (!mounted) loops_.reset();
    if (!mounted && config_.frontend != "auto") return mounted;
    if (!mounted) log_warning("volumes appear on the NBD socket only: {}", mounted.error().text());
  }
  return {};
}

void Frontends::open_loops(const std::string& directory) {
  loops_ = std::make_unique<fuse::LoopDevices>(
      reactors_.home(), fuse::LoopOptions{.link_directory = config_.devices_dir});
  const std::filesystem::path mount =
      config_.fuse_mountpoint.empty() ? directory + "/volumes" : config_.fuse_mountpoint;
  // The kernel tells real paths. The mount itself may be dead, so only its folder is looked up.
  std::error_code error;
  auto folder = std::filesystem::canonical(std::filesystem::absolute(mount).parent_path(), error);
  if (error) return;  // no folder yet, so nobody left anything there
  loops_->clean_up((folder / mount.filename()).string(), [](unsigned cleared) {
    if (cleared != 0) log_info("cleared {} loop devices an earlier daemon left", cleared);
  });
}

Outcome<void> Frontends::open_nbd(const std::string& directory) {
  nbd::ServerOptions options;
  options.socket_path = config_.nbd_socket.empty() ? directory + "/nbd.sock" : config_.nbd_socket;
  if (config_.nbd_tcp) options.tcp_port = static_cast<std::uint16_t>(config_.nbd_port);
  auto server = nbd::Server::create(reactors_.reactors(), options);
  if (!server) {
    int error = to_errno(server.error());
    return problem(
        {code_of_errno(error),
         fmt::format("cannot serve NBD on {}: {}", options.socket_path, server.error().message()),
         error == EADDRINUSE ? "another rnbd-client runs; give this one its own --socket" : "",
         error});
  }
  nbd_ = std::move(*server);
  return {};
}

Outcome<void> Frontends::open_mount(const std::string& directory) {
  fuse::MountOptions options;
  options.mountpoint =
      config_.fuse_mountpoint.empty() ? directory + "/volumes" : config_.fuse_mountpoint;
  options.allow_other = config_.fuse_allow_other;
  auto mount = fuse::Mount::create(reactors_.home(), options);
  if (!mount) {
    int error = to_errno(mount.error());
    return problem(
        {code_of_errno(error),
         fmt::format("cannot mount volumes on {}: {}", options.mountpoint, mount.error().message()),
         geteuid() == 0 ? "" : "fusermount3 (package fuse3) is needed without root", error});
  }
  mount_ = std::move(*mount);
  mount_->set_on_unmounted(
      [] { log_warning("somebody unmounted our FUSE mount: volumes are no longer files"); });
  return {};
}

void Frontends::attach(const Appearance& appearance, block::Device& device,
                       std::function<void(Outcome<Presence>)> done) {
  Presence presence;
  auto exports = nbd_->exports();
  auto export_taken = [&](const std::string& name) {
    return std::any_of(exports.begin(), exports.end(),
                       [&](const nbd::ExportStatus& e) { return e.name == name; });
  };
  presence.export_name = free_name(appearance, export_taken);
  auto exported = nbd_->add_export({.name = presence.export_name,
                                    .description = appearance.session,
                                    .read_only = appearance.read_only},
                                   device);
  if (!exported)
    return done(problem({ProblemCode::failed,
                         fmt::format("cannot serve '{}' over NBD: {}", printable(appearance.volume),
                                     exported.error().message()),
                         "", to_errno(exported.error())}));
  if (!mount_ || !mount_->mounted()) return done(presence);
  auto files = mount_->volumes();
  auto file_taken = [&](const std::string& name) {
    return std::find(files.begin(), files.end(), fuse::file_name(name)) != files.end();
  };
  presence.file_name = fuse::file_name(free_name(appearance, file_taken));
  auto added =
      mount_->add_volume({.name = presence.file_name, .read_only = appearance.read_only}, device);
  if (!added) {
    // A name too long for a file keeps it off the mount, not off the machine.
    log_warning("<{}@{}> is no file of the mount: {}", printable(appearance.volume),
                printable(appearance.session), added.error().message());
    presence.file_name.clear();
    return done(presence);
  }
  if (!loops_) return done(presence);
  fuse::LoopSpec spec;
  spec.file = mount_->file_path(presence.file_name);
  spec.session = appearance.session;
  spec.volume = appearance.volume;
  spec.block_size = device.limits().logical_block_size;
  spec.number = appearance.number;
  spec.read_only = appearance.read_only;
  loops_->attach(spec, [this, presence, appearance,
                        done = std::move(done)](Result<fuse::LoopDevice> loop) mutable {
    if (loop) {
      presence.loop = std::move(*loop);
      return done(presence);
    }
    Problem why{ProblemCode::failed,
                fmt::format("cannot make a block device of '{}': {}", printable(appearance.volume),
                            loop.error().message()),
                "frontend = \"nbd\" or \"fuse\" does without", to_errno(loop.error())};
    if (config_.frontend == "auto") {
      log_warning("{}", why.text());
      return done(presence);
    }
    detach(presence, true, [why, done](const std::vector<std::string>&) { done(problem(why)); });
  });
}

std::vector<std::string> Frontends::users(const Presence& presence) const {
  std::vector<std::string> users;
  if (std::uint32_t n = nbd_->connections(presence.export_name); n != 0)
    users.push_back(fmt::format("{} NBD client{}", n, n == 1 ? "" : "s"));
  std::uint32_t own = presence.loop ? 1 : 0;
  if (mount_ && !presence.file_name.empty())
    if (std::uint32_t n = mount_->open_count(presence.file_name); n > own)
      users.push_back(fmt::format("open as a file {} time{}", n - own, n - own == 1 ? "" : "s"));
  return users;
}

std::uint32_t Frontends::user_count(const Presence& presence) const {
  std::uint32_t count = nbd_->connections(presence.export_name);
  std::uint32_t own = presence.loop ? 1 : 0;
  if (mount_ && !presence.file_name.empty()) {
    std::uint32_t open = mount_->open_count(presence.file_name);
    count += open > own ? open - own : 0;
  }
  if (presence.loop)
    count += static_cast<std::uint32_t>(
        device_users("loop" + std::to_string(presence.loop->number)).size());
  return count;
}

void Frontends::detach(const Presence& presence, bool force,
                       std::function<void(std::vector<std::string>)> done) {
  if (!force)
    if (auto in_use = users(presence); !in_use.empty()) return done(std::move(in_use));
  auto rest = [this, presence, done] {
    remove_file(presence,
                [this, presence, done] { remove_export(presence, [done] { done({}); }); });
  };
  if (!presence.loop) return rest();
  loops_->detach(*presence.loop, force, [rest, force, done](const fuse::DetachResult& result) {
    if (result.error && !force)
      return done(result.users.empty() ? std::vector<std::string>{result.error.message()}
                                       : result.users);
    rest();
  });
}

void Frontends::remove_file(const Presence& presence, std::function<void()> done) {
  if (!mount_ || presence.file_name.empty()) return done();
  mount_->remove_volume(presence.file_name, [done = std::move(done)](std::error_code) { done(); });
}

void Frontends::remove_export(const Presence& presence, std::function<void()> done) {
  nbd_->remove_export(presence.export_name, [done = std::move(done)](std::error_code) { done(); });
}

void Frontends::resized(const Presence& presence) {
  if (presence.loop)
    loops_->resize(*presence.loop, [](std::error_code error) {
      if (error) log_warning("the block device did not follow the new size: {}", error.message());
    });
}

void Frontends::stop(std::function<void()> done) {
  auto close_nbd = [this, done = std::move(done)] { nbd_->close(done); };
  auto unmount = [this, close_nbd] { mount_ ? mount_->unmount(close_nbd) : close_nbd(); };
  if (!loops_) return unmount();
  loops_->close([this, unmount] {
    loops_.reset();
    unmount();
  });
}

std::string Frontends::nbd_uri(const Presence& presence) const {
  if (presence.export_name.empty()) return {};
  return fmt::format("nbd+unix:///{}?socket={}", percent_encode(presence.export_name),
                     percent_encode(nbd_->socket_path()));
}

std::string Frontends::file_path(const Presence& presence) const {
  return mount_ && !presence.file_name.empty() ? mount_->file_path(presence.file_name)
                                               : std::string();
}

}  // namespace rnbd::daemon
