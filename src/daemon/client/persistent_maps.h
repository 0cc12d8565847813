#pragma once
// What is to be mapped again after a reboot: every volume that was mapped without --once, as it was
// asked for and as it was set since. A volume is forgotten when it is unmapped by command, and only
// then: the daemon's end, however it comes, forgets nothing. On the home loop; writing blocks, and
// is rare.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/loop.h"
#include "daemon/admin/map_request.h"
#include "rtrs/client/session.h"

namespace rnbd::daemon {

struct PersistentMap {
  MapRequest request{};              // with host names as they were given, and all paths
  std::optional<unsigned> number{};  // N of rnbdN
  // Where they were set at run time.
  std::optional<Duration> hold{};
  std::optional<rtrs::PathPolicy> policy{};
  std::optional<int> max_reconnect_attempts{};
  bool operator==(const PersistentMap&) const = default;
};

class PersistentMaps final {
 public:
  explicit PersistentMaps(std::string path) : path_(std::move(path)) {}
  const std::string& path() const { return path_; }
  // A file that cannot be used (damaged, of a later version) is set aside as <path>.bad and
  // reported; none is an empty list.
  Outcome<void> load();
  const std::vector<PersistentMap>& maps() const { return maps_; }

  // Each writes the file when something changed, whole and on disk, and logs when it cannot.
  void remember(PersistentMap map);  // instead of the one of its session and volume
  void forget(std::string_view session, std::string_view volume);

 private:
  void save();

  const std::string path_;
  std::vector<PersistentMap> maps_;
  bool save_failed_ = false;  // and was told
};

// The text in the file, with a checksum over what counts.
std::string encode_maps(const std::vector<PersistentMap>& maps);
Outcome<std::vector<PersistentMap>> parse_maps(std::string_view text);

}  // namespace rnbd::daemon
