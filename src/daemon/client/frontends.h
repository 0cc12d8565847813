#pragma once
// How mapped volumes appear on this machine: always in an NBD server on a Unix socket; as block
// devices of the ublk driver, as files in a FUSE mount, and as block devices on loop over these,
// where asked for and possible. Lives on the home reactor.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "block/device.h"
#include "daemon/admin/problem.h"
#include "daemon/client/appearance.h"
#include "daemon/client/ublk_frontend.h"
#include "daemon/client/udev_notes.h"
#include "daemon/config/config.h"
#include "daemon/reactors.h"
#include "frontend/fuse/fuse_mount.h"
#include "frontend/fuse/loop_device.h"
#include "frontend/nbd/nbd_server.h"

namespace rnbd::daemon {

class Frontends final {
 public:
  // `directory` is where sockets and mount point go by default. On the home loop.
  static Outcome<std::unique_ptr<Frontends>> start(Reactors& reactors, const ClientConfig& config,
                                                   const std::string& directory);
  ~Frontends();  // after stop()

  // The device outlives its presence. On a problem nothing is left behind. Of what "auto" may be,
  // the best that works.
  void attach(const Appearance& appearance, block::Device& device,
              std::function<void(Outcome<Presence>)> done);
  // Who uses the volume, in words: "2 NBD clients", "mounted on /mnt".
  std::vector<std::string> users(const Presence& presence) const;
  std::uint32_t user_count(const Presence& presence) const;
  // Takes it away, unless it is in use and not `force`: then the users, and it stays.
  void detach(const Presence& presence, bool force,
              std::function<void(std::vector<std::string> users)> done);
  void resized(const Presence& presence, std::uint64_t size);
  // Instead of detaching what is a ublk device: leaves it to a successor. Then end the process.
  void leave_ublk(std::function<void()> done) { ublk_.leave(std::move(done)); }
  void stop(std::function<void()> done);

  std::string nbd_uri(const Presence& presence) const;
  std::string file_path(const Presence& presence) const;
  bool has_loop() const { return loops_ != nullptr; }

 private:
  enum class Way { ublk, loop, fuse, nbd };
  struct Attempt;
  Frontends(Reactors& reactors, const ClientConfig& config, std::string directory)
      : reactors_(reactors), config_(config), directory_(std::move(directory)) {}
  static std::vector<Way> ways(const std::string& frontend);
  Outcome<void> open();
  Outcome<void> open_nbd();
  Outcome<void> open_for(Way way);
  void open_loops();
  Outcome<void> open_mount();
  Outcome<void> add_export(Attempt& attempt);
  void try_next(const std::shared_ptr<Attempt>& attempt);
  void try_ublk(const std::shared_ptr<Attempt>& attempt);
  void try_file(const std::shared_ptr<Attempt>& attempt, bool loop);
  void try_loop(const std::shared_ptr<Attempt>& attempt);
  void tell_udev(const Attempt& attempt) const;
  void failed(const std::shared_ptr<Attempt>& attempt, const Problem& why);
  void remove_file(const Presence& presence, std::function<void()> done);
  void remove_export(const Presence& presence, std::function<void()> done);

  Reactors& reactors_;
  const ClientConfig config_;
  const std::string directory_;  // of sockets and mount point, unless configured
  const UdevNotes udev_ = UdevNotes::of_system(config_.devices_dir);
  std::unique_ptr<nbd::Server> nbd_;
  std::unique_ptr<fuse::Mount> mount_;
  std::unique_ptr<fuse::LoopDevices> loops_;  // destroyed before the mount
  UblkFrontend ublk_{reactors_, config_};
};

std::string percent_encode(std::string_view text);

}  // namespace rnbd::daemon
