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

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool fuse_possible() { return access("/dev/fuse", R_OK | W_OK) == 0; }
bool loop_possible() { return fuse_possible() && fuse::LoopDevices::available(); }

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

// What one attach() is trying, and what it has reached.
struct Frontends::Attempt {
  Attempt(Appearance how, block::Device& what) : appearance(std::move(how)), device(what) {}
  Appearance appearance;
  block::Device& device;
  Presence presence;
  std::vector<Way> left;
  std::function<void(Outcome<Presence>)> done;
};

Outcome<std::unique_ptr<Frontends>> Frontends::start(Reactors& reactors, const ClientConfig& config,
                                                     const std::string& directory) {
  auto frontends = std::unique_ptr<Frontends>(new Frontends(reactors, config, directory));
  if (auto opened = frontends->open(); !opened) return tl::unexpected(opened.error());
  return frontends;
}

Frontends::~Frontends() = default;

// In the order in which they are tried.
std::vector<Frontends::Way> Frontends::ways(const std::string& frontend) {
  if (frontend == "ublk") return {Way::ublk};
  if (frontend == "loop") return {Way::loop};
  if (frontend == "fuse") return {Way::fuse};
  if (frontend == "nbd") return {Way::nbd};
  std::vector<Way> ways;
  if (UblkFrontend::possible()) ways.push_back(Way::ublk);
  if (geteuid() == 0 && loop_possible()) ways.push_back(Way::loop);
  if (fuse_possible()) ways.push_back(Way::fuse);
  ways.push_back(Way::nbd);
  return ways;
}

Outcome<void> Frontends::open() {
  if (config_.frontend == "ublk" && !UblkFrontend::possible())
    return problem({ProblemCode::failed,
                    "block devices of the ublk driver need root and the driver, and something of "
                    "it is missing",
                    "modprobe ublk_drv, or set frontend = \"auto\"", ENODEV});
  if (auto opened = open_nbd(); !opened) return opened;
  udev_.clean_up();
  const Way first = ways(config_.frontend).front();
  auto opened = open_for(first);
  if (opened || config_.frontend != "auto") return opened;
  log_warning("volumes appear on the NBD socket only: {}", opened.error().text());
  return {};
}

// What a volume needs to appear this way, where it is not open yet.
Outcome<void> Frontends::open_for(Way way) {
  if (way == Way::ublk || way == Way::nbd) return {};
  if (way == Way::loop && !loop_possible())
    return problem(
        {ProblemCode::failed,
         "block devices need root, /dev/fuse and the loop driver, and something of it is missing",
         "modprobe fuse loop, or use frontend nbd", ENODEV});
  if (!fuse_possible())
    return problem({ProblemCode::failed, "/dev/fuse is missing or not for us",
                    "modprobe fuse, or use frontend nbd", ENODEV});
  // What an earlier daemon left is found by its mount, so before ours takes that place.
  if (way == Way::loop && !loops_) open_loops();
  if (mount_) return {};
  auto mounted = open_mount();
  if (!mounted) loops_.reset();
  return mounted;
}

void Frontends::open_loops() {
  loops_ = std::make_unique<fuse::LoopDevices>(
      reactors_.home(), fuse::LoopOptions{.link_directory = config_.devices_dir});
  const std::filesystem::path mount =
      config_.fuse_mountpoint.empty() ? directory_ + "/volumes" : config_.fuse_mountpoint;
  // The kernel tells real paths. The mount itself may be dead, so only its folder is looked up.
  std::error_code error;
  auto folder = std::filesystem::canonical(std::filesystem::absolute(mount).parent_path(), error);
  if (error) return;  // no folder yet, so nobody left anything there
  loops_->clean_up((folder / mount.filename()).string(), [](unsigned cleared) {
    if (cleared != 0) log_info("cleared {} loop devices an earlier daemon left", cleared);
  });
}

Outcome<void> Frontends::open_nbd() {
  nbd::ServerOptions options;
  options.socket_path = config_.nbd_socket.empty() ? directory_ + "/nbd.sock" : config_.nbd_socket;
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

Outcome<void> Frontends::open_mount() {
  fuse::MountOptions options;
  options.mountpoint =
      config_.fuse_mountpoint.empty() ? directory_ + "/volumes" : config_.fuse_mountpoint;
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
  auto attempt = std::make_shared<Attempt>(appearance, device);
  attempt->done = std::move(done);
  const std::string& frontend = appearance.frontend;
  attempt->left = ways(frontend.empty() ? config_.frontend : frontend);
  if (appearance.ublk_id) attempt->left = {Way::ublk};
  if (auto exported = add_export(*attempt); !exported)
    return attempt->done(tl::unexpected(exported.error()));
  try_next(attempt);
}

Outcome<void> Frontends::add_export(Attempt& attempt) {
  const Appearance& appearance = attempt.appearance;
  auto exports = nbd_->exports();
  auto taken = [&](const std::string& name) {
    return std::any_of(exports.begin(), exports.end(),
                       [&](const nbd::ExportStatus& e) { return e.name == name; });
  };
  const std::string name = free_name(appearance, taken);
  auto exported = nbd_->add_export(
      {.name = name, .description = appearance.session, .read_only = appearance.read_only},
      attempt.device);
  if (!exported)
    return problem({ProblemCode::failed,
                    fmt::format("cannot serve '{}' over NBD: {}", printable(appearance.volume),
                                exported.error().message()),
                    "", to_errno(exported.error())});
  attempt.presence.export_name = name;
  return {};
}

void Frontends::try_next(const std::shared_ptr<Attempt>& attempt) {
  const Way way = attempt->left.front();
  attempt->left.erase(attempt->left.begin());
  if (auto opened = open_for(way); !opened) return failed(attempt, opened.error());
  switch (way) {
    case Way::ublk:
      return try_ublk(attempt);
    case Way::loop:
      return try_file(attempt, true);
    case Way::fuse:
      return try_file(attempt, false);
    case Way::nbd:
      return attempt->done(attempt->presence);
  }
}

// The next best way, or the end of it.
void Frontends::failed(const std::shared_ptr<Attempt>& attempt, const Problem& why) {
  if (!attempt->left.empty()) {
    log_warning("{}", why.text());
    return try_next(attempt);
  }
  detach(attempt->presence, true,
         [why, attempt](const std::vector<std::string>&) { attempt->done(problem(why)); });
}

void Frontends::try_ublk(const std::shared_ptr<Attempt>& attempt) {
  ublk_.attach(attempt->appearance, attempt->device,
               [this, attempt](Outcome<UblkPresence> presence) {
                 if (!presence) return failed(attempt, presence.error());
                 attempt->presence.ublk = std::move(*presence);
                 tell_udev(*attempt);
                 attempt->done(attempt->presence);
               });
}

void Frontends::try_file(const std::shared_ptr<Attempt>& attempt, bool loop) {
  const Appearance& appearance = attempt->appearance;
  Presence& presence = attempt->presence;
  if (!mount_->mounted()) return attempt->done(presence);  // somebody took it away, and was told
  if (presence.file_name.empty()) {
    auto files = mount_->volumes();
    auto taken = [&](const std::string& name) {
      return std::find(files.begin(), files.end(), fuse::file_name(name)) != files.end();
    };
    const std::string name = fuse::file_name(free_name(appearance, taken));
    auto added =
        mount_->add_volume({.name = name, .read_only = appearance.read_only}, attempt->device);
    if (!added) {
      // A name too long for a file keeps it off the mount, not off the machine.
      log_warning("<{}@{}> is no file of the mount: {}", printable(appearance.volume),
                  printable(appearance.session), added.error().message());
      return attempt->done(presence);
    }
    presence.file_name = name;
  }
  loop ? try_loop(attempt) : attempt->done(presence);
}

void Frontends::try_loop(const std::shared_ptr<Attempt>& attempt) {
  const Appearance& appearance = attempt->appearance;
  fuse::LoopSpec spec;
  spec.file = mount_->file_path(attempt->presence.file_name);
  spec.session = appearance.session;
  spec.volume = appearance.volume;
  spec.block_size = attempt->device.limits().logical_block_size;
  spec.number = appearance.number;
  spec.read_only = appearance.read_only;
  loops_->attach(spec, [this, attempt](Result<fuse::LoopDevice> loop) {
    if (!loop)
      return failed(attempt,
                    {ProblemCode::failed,
                     fmt::format("cannot make a block device of '{}': {}",
                                 printable(attempt->appearance.volume), loop.error().message()),
                     "the frontends nbd and fuse do without", to_errno(loop.error())});
    attempt->presence.loop = std::move(*loop);
    tell_udev(*attempt);
    attempt->done(attempt->presence);
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
  if (const std::string node = presence.block_device(); !node.empty())
    count += static_cast<std::uint32_t>(device_users(node.substr(node.rfind('/') + 1)).size());
  return count;
}

void Frontends::detach(const Presence& presence, bool force,
                       std::function<void(std::vector<std::string>)> done) {
  if (!force)
    if (auto in_use = users(presence); !in_use.empty()) return done(std::move(in_use));
  auto rest = [this, presence, done] {
    udev_.forget(base_name(presence.block_device()));
    remove_file(presence,
                [this, presence, done] { remove_export(presence, [done] { done({}); }); });
  };
  if (presence.ublk)
    return ublk_.detach(*presence.ublk, force, [rest, done](std::vector<std::string> in_use) {
      in_use.empty() ? rest() : done(std::move(in_use));
    });
  if (!presence.loop) return rest();
  loops_->detach(*presence.loop, force, [rest, force, done](const fuse::DetachResult& result) {
    if (result.error && !force)
      return done(result.users.empty() ? std::vector<std::string>{result.error.message()}
                                       : result.users);
    rest();
  });
}

void Frontends::tell_udev(const Attempt& attempt) const {
  udev_.tell({.node = base_name(attempt.presence.block_device()),
              .device = base_name(attempt.presence.number_link()),
              .session = attempt.appearance.session,
              .volume = attempt.appearance.volume});
}

void Frontends::remove_file(const Presence& presence, std::function<void()> done) {
  if (!mount_ || presence.file_name.empty()) return done();
  mount_->remove_volume(presence.file_name, [done = std::move(done)](std::error_code) { done(); });
}

void Frontends::remove_export(const Presence& presence, std::function<void()> done) {
  nbd_->remove_export(presence.export_name, [done = std::move(done)](std::error_code) { done(); });
}

void Frontends::resized(const Presence& presence, std::uint64_t size) {
  if (presence.ublk) ublk_.resized(*presence.ublk, size);
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
