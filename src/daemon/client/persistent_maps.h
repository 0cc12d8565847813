#pragma once
// What is to be mapped again after a reboot: every volume that was mapped without --once, as it was
// asked for and as it was set since. A volume is forgotten when it is unmapped by command, and only
// then: the daemon's end, however it comes, forgets nothing. On the home loop; written by a thread
// of its own, as the disk may be slow.

#include <memory>
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
  explicit PersistentMaps(std::string path);
  ~PersistentMaps();  // when everything is on disk
  PersistentMaps(PersistentMaps&&) noexcept;
  const std::string& path() const { return path_; }
  // A file that cannot be used (damaged, of a later version) is set aside as <path>.bad and
  // reported; none is an empty list.
  Outcome<void> load();
  const std::vector<PersistentMap>& maps() const { return maps_; }

  // Each has the file written when something changed, whole, soon; and logs when it cannot be.
  void remember(PersistentMap map);  // instead of the one of its session and volume
  void forget(std::string_view session, std::string_view volume);

 private:
  class Writer;
  void save();

  std::string path_;
  std::vector<PersistentMap> maps_;
  std::unique_ptr<Writer> writer_;
};

// The text in the file, with a checksum over what counts.
std::string encode_maps(const std::vector<PersistentMap>& maps);
Outcome<std::vector<PersistentMap>> parse_maps(std::string_view text);

}  // namespace rnbd::daemon
