#pragma once
// How mapped volumes appear on this machine: always in an NBD server on a Unix socket; as files in
// a FUSE mount, and as block devices on loop, where configured and possible. Lives on the home
// reactor.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "block/device.h"
#include "daemon/admin/problem.h"
#include "daemon/config/config.h"
#include "daemon/reactors.h"
#include "frontend/fuse/fuse_mount.h"
#include "frontend/fuse/loop_device.h"
#include "frontend/nbd/nbd_server.h"

namespace rnbd::daemon {

// Where one volume appears. A plain value, to be handed back to detach().
struct Presence {
  std::string export_name;  // NBD; empty: not there
  std::string file_name;    // FUSE; empty: not there
  std::optional<fuse::LoopDevice> loop;
};

struct Appearance {
  std::string volume;
  std::string session;
  unsigned number = 0;  // N of rnbdN
  bool read_only = false;
};

class Frontends final {
 public:
  // `directory` is where sockets and mount point go by default. On the home loop.
  static Outcome<std::unique_ptr<Frontends>> start(Reactors& reactors, const ClientConfig& config,
                                                   const std::string& directory);
  ~Frontends();  // after stop()

  // The device outlives its presence. On a problem nothing is left behind.
  void attach(const Appearance& appearance, block::Device& device,
              std::function<void(Outcome<Presence>)> done);
  // Who uses the volume, in words: "2 NBD clients", "mounted on /mnt".
  std::vector<std::string> users(const Presence& presence) const;
  std::uint32_t user_count(const Presence& presence) const;
  // Takes it away, unless it is in use and not `force`: then the users, and it stays.
  void detach(const Presence& presence, bool force,
              std::function<void(std::vector<std::string> users)> done);
  void resized(const Presence& presence);
  void stop(std::function<void()> done);

  std::string nbd_uri(const Presence& presence) const;
  std::string file_path(const Presence& presence) const;
  bool has_loop() const { return loops_ != nullptr; }

 private:
  Frontends(Reactors& reactors, const ClientConfig& config)
      : reactors_(reactors), config_(config) {}
  Outcome<void> open(const std::string& directory);
  Outcome<void> open_nbd(const std::string& directory);
  void open_loops(const std::string& directory);
  Outcome<void> open_mount(const std::string& directory);
  void remove_file(const Presence& presence, std::function<void()> done);
  void remove_export(const Presence& presence, std::function<void()> done);

  Reactors& reactors_;
  const ClientConfig config_;
  std::unique_ptr<nbd::Server> nbd_;
  std::unique_ptr<fuse::Mount> mount_;
  std::unique_ptr<fuse::LoopDevices> loops_;  // destroyed before the mount
};

std::string percent_encode(std::string_view text);

}  // namespace rnbd::daemon
