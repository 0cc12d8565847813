#pragma once
// The system journal, spoken to in its native protocol (one datagram per entry, see "Native Journal
// Protocol" of systemd), so that what happened keeps its fields. Any thread.

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace rnbd {

struct JournalField {
  std::string_view name;
  std::string_view value;  // an empty one is left out
};

class Journal final {
 public:
  // The journal, if what this process writes to stderr goes there: as JOURNAL_STREAM says, and as
  // long as nobody redirected it.
  static std::optional<Journal> of_this_process();
  static Result<Journal> connect(const std::string& socket);

  // Never blocks. busy: the journal does not take it now, and would not take it from stderr either.
  enum class Sent { yes, busy, no };
  Sent send(std::span<const JournalField> fields) const;

 private:
  explicit Journal(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

// Does `stream`, "<device>:<inode>" as in JOURNAL_STREAM, name what the descriptor is open on?
bool names_stream(std::string_view stream, int fd);

}  // namespace rnbd
