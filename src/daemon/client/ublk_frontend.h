#pragma once
// Volumes as block devices of the ublk driver. Lives on the home reactor.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "block/device.h"
#include "daemon/admin/problem.h"
#include "daemon/client/appearance.h"
#include "daemon/config/config.h"
#include "daemon/reactors.h"
#include "frontend/ublk/ublk_device.h"

namespace rnbd::daemon {

class UblkFrontend final {
 public:
  UblkFrontend(Reactors& reactors, const ClientConfig& config)
      : reactors_(reactors), config_(config) {}
  ~UblkFrontend();  // with every device detached or left

  // True where it is worth a try.
  static bool possible();

  // Makes a device, or takes one over (Appearance::ublk_id). `volume` outlives it. On a problem
  // nothing is left behind, and what the volume got has come back.
  void attach(const Appearance& appearance, block::Device& volume,
              std::function<void(Outcome<UblkPresence>)> done);
  // Takes it away, unless it is in use and not `force`: then the users, and it stays. Otherwise
  // calls back when the volume holds no request of it any more.
  void detach(const UblkPresence& presence, bool force,
              std::function<void(std::vector<std::string> users)> done);
  void resized(const UblkPresence& presence, std::uint64_t size);
  // Leaves every device to a successor; calls back when the volumes hold nothing of them any more.
  // Then end the process.
  void leave(std::function<void()> done);

 private:
  Reactors& reactors_;
  const ClientConfig& config_;
  SystemRandom random_;
  std::map<std::uint32_t, std::unique_ptr<ublk::Device>> devices_;  // by id
};

}  // namespace rnbd::daemon
