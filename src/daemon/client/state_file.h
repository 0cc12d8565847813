#pragma once
// What rnbd-client leaves for its successor, should it die: which volumes are mapped, how they
// appear, and who its sessions are to their servers. Written before the first request is sent, so
// that a successor can prove that nothing of its predecessor runs any more. Kept where it does not
// outlive a reboot.

#include <optional>
#include <string>
#include <vector>

#include "base/loop.h"
#include "daemon/admin/map_request.h"
#include "rtrs/client/session.h"

namespace rnbd::daemon {

struct SavedMapping {
  MapRequest request{};
  unsigned number = 0;             // N of rnbdN
  std::uint64_t ublk_tag = 0;      // of its ublk device, if it has one
  std::optional<Duration> hold{};  // where it was set at run time
  bool once = false;               // not remembered for the next boot
};

// A path that was given by a host's name, and where that host was.
struct NamedPath {
  PathSpec asked{};
  fabric::PathAddress now{};
  unsigned lost = 0;  // how often it was found lost of late; not saved
};

struct SavedSession {
  std::string name{};
  int poll_queues = 0;
  // Where they were set at run time.
  std::optional<rtrs::PathPolicy> policy{};
  std::optional<int> max_reconnect_attempts{};
  rtrs::client::SessionIdentity identity{};
  std::vector<NamedPath> names{};
};

struct SavedState {
  std::vector<SavedSession> sessions{};
  std::vector<SavedMapping> mappings{};
};

class StateFile final {
 public:
  explicit StateFile(std::string path) : path_(std::move(path)) {}
  const std::string& path() const { return path_; }
  // Nothing where there is no file. A file that cannot be used is set aside as <path>.bad and
  // reported: its volumes are lost to us, not their data.
  Outcome<SavedState> load() const;
  // Whole or not at all, and on disk when it returns.
  std::error_code save(const SavedState& state) const;

 private:
  std::string path_;
};

// The text in the file. `cpus` bounds nr_poll_queues, see parse_map_line.
std::string encode_state(const SavedState& state);
Outcome<SavedState> parse_state(std::string_view text, int cpus);

}  // namespace rnbd::daemon
