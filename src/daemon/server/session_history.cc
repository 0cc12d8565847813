#include "daemon/server/session_history.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "base/log.h"
#include "daemon/admin/json_fields.h"
#include "daemon/uuid_text.h"
#include "daemon/whole_file.h"

namespace rnbd::daemon {

// The object of the file: text only, checked on the way in.
struct HistoryRecord {
  unsigned version = 0;
  std::string boot{};
  bool rebooted = false;
  std::vector<std::string> sessions{};
};
template <class Io>
static void fields(Io& io, HistoryRecord& v) {
  io.field("version", v.version);
  io.field("boot", v.boot);
  io.field("rebooted", v.rebooted);
  io.field("sessions", v.sessions);
}

namespace {

constexpr unsigned kVersion = 1;
constexpr std::size_t kBytesMax = std::size_t{1} << 20;

// With dashes or without.
bool parse_uuid(std::string text, Uuid& uuid) {
  std::erase(text, '-');
  return parse_uuid_hex(text, uuid);
}

tl::unexpected<Problem> damaged(const std::string& what) {
  return problem({ProblemCode::failed, what, "", EBADMSG});
}

SessionRecords load(const std::string& path) {
  auto text = read_file(path, kBytesMax);
  if (!text && text.error() == from_errno(ENOENT)) return {};
  std::string why = text ? "" : text.error().message();
  if (text) {
    auto records = parse_records(*text);
    if (records) return std::move(*records);
    why = records.error().what;
  }
  log_warning(
      "cannot use the record of sessions in {}: {}; clients from before a reboot are not "
      "recognized this time",
      path, why);
  return {};
}

}  // namespace

std::string encode_records(const SessionRecords& records) {
  HistoryRecord record{
      .version = kVersion, .boot = uuid_to_hex(records.boot), .rebooted = records.rebooted};
  for (const Uuid& session : records.sessions) record.sessions.push_back(uuid_to_hex(session));
  return JsonWriter::write(record).dump(1) + "\n";
}

Outcome<SessionRecords> parse_records(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return damaged("it is not JSON");
  HistoryRecord record;
  JsonReader reader(json);
  fields(reader, record);
  if (!reader.ok()) return damaged(fmt::format("its '{}' is not what it should be", reader.bad()));
  if (record.version != kVersion)
    return damaged(fmt::format("its version is {}, not {}", record.version, kVersion));
  SessionRecords records{.rebooted = record.rebooted};
  if (!parse_uuid(record.boot, records.boot)) return damaged("its boot id is none");
  if (record.sessions.size() > SessionRecords::kMax) return damaged("it has too many sessions");
  for (const std::string& session : record.sessions) {
    if (!parse_uuid(session, records.sessions.emplace_back()))
      return damaged("a session's uuid is none");
  }
  return records;
}

SessionRecords records_of_boot(const Uuid& now, SessionRecords found) {
  if (found.boot == now) return found;
  return {.boot = now, .rebooted = found.boot != Uuid{}, .sessions = {}};
}

SessionHistoryFile::SessionHistoryFile(std::string path, const Uuid& boot)
    : path_(std::move(path)), records_(records_of_boot(boot, load(path_))) {
  save();
}

bool SessionHistoryFile::known(const Uuid& session) const {
  return !records_.rebooted ||
         std::ranges::find(records_.sessions, session) != records_.sessions.end();
}

void SessionHistoryFile::add(const Uuid& session) {
  auto& sessions = records_.sessions;
  const auto at = std::ranges::find(sessions, session);
  if (at != sessions.end() && at + 1 == sessions.end()) return;
  if (at != sessions.end()) sessions.erase(at);
  sessions.push_back(session);
  if (sessions.size() > SessionRecords::kMax) sessions.pop_front();
  save();
}

void SessionHistoryFile::save() {
  {
    const std::scoped_lock lock(mutex_);
    if (std::exchange(unwritten_, records_)) return;  // the write that waits takes this along
  }
  worker_.post([this] { write(); });
}

void SessionHistoryFile::write() {
  std::optional<SessionRecords> records;
  {
    const std::scoped_lock lock(mutex_);
    records.swap(unwritten_);
  }
  if (const auto error = replace_file(path_, encode_records(*records)))
    log_warning("cannot write {}: {}; clients from before a reboot may not be recognized", path_,
                error.message());
}

Uuid boot_id() {
  Uuid id{};
  auto text = read_file("/proc/sys/kernel/random/boot_id", 64);
  if (!text) return id;
  while (!text->empty() && text->back() == '\n') text->pop_back();
  if (!parse_uuid(*text, id)) return {};
  return id;
}

}  // namespace rnbd::daemon
