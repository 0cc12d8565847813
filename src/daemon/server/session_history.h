#pragma once
// Remembers which sessions there were since this host's boot, over the lives of rnbd-server, in a
// file that outlives a reboot. So a client that reconnects after a reboot with a session nobody
// knows is told from one whose server was only restarted: writes the one had no flush for may be
// lost (safety rule R9), those of the other are in the page cache still.

#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/admin/problem.h"
#include "daemon/worker.h"
#include "rtrs/server/server.h"

namespace rnbd::daemon {

struct SessionRecords {
  static constexpr std::size_t kMax = 4096;

  Uuid boot{};                  // during which they were
  bool rebooted = false;        // there was a boot before it with a server
  std::deque<Uuid> sessions{};  // newest last, at most kMax
};

std::string encode_records(const SessionRecords& records);
Outcome<SessionRecords> parse_records(std::string_view text);
// The records of the boot `now`, given what was found: nothing, those of this boot, or of another.
SessionRecords records_of_boot(const Uuid& now, SessionRecords found);

// Made and destroyed anywhere, used on one loop. Writes on a thread of its own.
class SessionHistoryFile final : public rtrs::server::SessionHistory {
 public:
  // Reads the file and writes it anew. Where that cannot be done a warning says so, and no session
  // is taken for one from before a reboot.
  SessionHistoryFile(std::string path, const Uuid& boot);

  bool known(const Uuid& session) const override;
  void add(const Uuid& session) override;

 private:
  void save();

  void write();

  const std::string path_;
  SessionRecords records_;
  // What is to be written next, if anything: many sessions at once are one write.
  std::mutex mutex_;
  std::optional<SessionRecords> unwritten_;
  Worker worker_;  // last: ends before the rest goes
};

// The id of the running kernel, /proc/sys/kernel/random/boot_id; zeros where there is none.
Uuid boot_id();

}  // namespace rnbd::daemon
