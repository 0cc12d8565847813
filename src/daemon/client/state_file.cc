#include "daemon/client/state_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <limits>

#include "base/log.h"
#include "base/unique_fd.h"
#include "daemon/admin/json_fields.h"
#include "daemon/client/live_settings.h"

namespace rnbd::daemon {

// The objects of the file: text only, checked on the way in.
struct PathRecord {
  std::string path{};
  std::uint16_t port = 0;
  std::string uuid{};
  std::uint16_t reconnects = 0;
};
struct NameRecord {
  std::string asked{};
  std::string path{};
  std::uint16_t port = 0;
};
struct SessionRecord {
  std::string name{};
  int poll_queues = 0;
  std::string policy{};
  std::string max_reconnect_attempts{};
  std::string uuid{};
  std::vector<PathRecord> paths{};
  std::vector<NameRecord> names{};
};
struct MappingRecord {
  std::string line{};
  std::string frontend{};
  std::string hold{};
  unsigned number = 0;
  std::uint64_t ublk_tag = 0;
};
struct StateRecord {
  unsigned version = 0;
  std::vector<SessionRecord> sessions{};
  std::vector<MappingRecord> mappings{};
};

template <class Io>
static void fields(Io& io, PathRecord& v) {
  io.field("path", v.path);
  io.field("port", v.port);
  io.field("uuid", v.uuid);
  io.field("reconnects", v.reconnects);
}
template <class Io>
static void fields(Io& io, NameRecord& v) {
  io.field("asked", v.asked);
  io.field("path", v.path);
  io.field("port", v.port);
}
template <class Io>
static void fields(Io& io, SessionRecord& v) {
  io.field("name", v.name);
  io.field("poll_queues", v.poll_queues);
  io.field("policy", v.policy);
  io.field("max_reconnect_attempts", v.max_reconnect_attempts);
  io.field("uuid", v.uuid);
  io.field("paths", v.paths);
  io.field("names", v.names);
}
template <class Io>
static void fields(Io& io, MappingRecord& v) {
  io.field("map", v.line);
  io.field("frontend", v.frontend);
  io.field("hold", v.hold);
  io.field("number", v.number);
  io.field("ublk_tag", v.ublk_tag);
}
template <class Io>
static void fields(Io& io, StateRecord& v) {
  io.field("version", v.version);
  io.field("sessions", v.sessions);
  io.field("mappings", v.mappings);
}

namespace {

constexpr unsigned kVersion = 1;
constexpr std::size_t kBytesMax = std::size_t{16} << 20;

std::string hex(const Uuid& uuid) {
  std::string text;
  for (std::uint8_t byte : uuid) text += fmt::format("{:02x}", byte);
  return text;
}

bool parse_hex(std::string_view text, Uuid& uuid) {
  if (text.size() != 2 * uuid.size()) return false;
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    const char* first = text.data() + 2 * i;
    const auto [end, error] = std::from_chars(first, first + 2, uuid[i], 16);
    if (error != std::errc() || end != first + 2) return false;
  }
  return true;
}

tl::unexpected<Problem> damaged(const std::string& what) {
  return problem({ProblemCode::failed, what, "", EBADMSG});
}

Outcome<SavedSession> session_of(const SessionRecord& record) {
  SavedSession session{.name = record.name, .poll_queues = record.poll_queues};
  if (!parse_hex(record.uuid, session.identity.uuid)) return damaged("a session's uuid is none");
  if (!record.policy.empty()) {
    auto policy = parse_path_policy(record.policy);
    if (!policy) return damaged(policy.error().what);
    session.policy = *policy;
  }
  if (!record.max_reconnect_attempts.empty()) {
    auto attempts = parse_reconnect_attempts(record.max_reconnect_attempts);
    if (!attempts) return damaged(attempts.error().what);
    session.max_reconnect_attempts = *attempts;
  }
  for (const PathRecord& path : record.paths) {
    rtrs::client::PathIdentity identity;
    auto address = fabric::PathAddress::parse(path.path, path.port);
    if (!address) return damaged(fmt::format("'{}' is no path", printable(path.path)));
    if (!parse_hex(path.uuid, identity.uuid)) return damaged("a path's uuid is none");
    identity.address = *address;
    identity.reconnects = path.reconnects;
    session.identity.paths.push_back(identity);
  }
  for (const NameRecord& name : record.names) {
    auto asked = parse_path_spec(name.asked, name.port);
    auto now = fabric::PathAddress::parse(name.path, name.port);
    if (!asked || !now) return damaged(fmt::format("'{}' is no path", printable(name.asked)));
    session.names.push_back({.asked = *asked, .now = *now});
  }
  return session;
}

std::error_code write_whole(const std::string& path, std::string_view text) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return from_errno(errno);
  while (!text.empty()) {
    const ssize_t n = ::write(fd.get(), text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return from_errno(errno);
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return ::fsync(fd.get()) != 0 ? from_errno(errno) : std::error_code{};
}

}  // namespace

std::string encode_state(const SavedState& state) {
  StateRecord record{.version = kVersion};
  for (const SavedSession& session : state.sessions) {
    SessionRecord& s = record.sessions.emplace_back();
    s = {.name = session.name,
         .poll_queues = session.poll_queues,
         .policy = session.policy ? path_policy_name(*session.policy) : "",
         .max_reconnect_attempts =
             session.max_reconnect_attempts ? std::to_string(*session.max_reconnect_attempts) : "",
         .uuid = hex(session.identity.uuid)};
    for (const auto& path : session.identity.paths)
      s.paths.push_back({.path = path.address.to_spec(),
                         .port = path.address.destination.port(),
                         .uuid = hex(path.uuid),
                         .reconnects = path.reconnects});
    for (const NamedPath& name : session.names)
      s.names.push_back({.asked = to_text(name.asked),
                         .path = name.now.to_spec(),
                         .port = name.now.destination.port()});
  }
  for (const SavedMapping& mapping : state.mappings)
    record.mappings.push_back({.line = to_line(mapping.request),
                               .frontend = mapping.request.frontend,
                               .hold = mapping.hold ? hold_text(*mapping.hold) : "",
                               .number = mapping.number,
                               .ublk_tag = mapping.ublk_tag});
  return JsonWriter::write(record).dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Outcome<SavedState> parse_state(std::string_view text, int cpus) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return damaged("it is not JSON");
  StateRecord record;
  JsonReader reader(json);
  fields(reader, record);
  if (!reader.ok()) return damaged(fmt::format("its '{}' is not what it should be", reader.bad()));
  if (record.version != kVersion)
    return damaged(fmt::format("its version is {}, not {}", record.version, kVersion));
  SavedState state;
  for (const SessionRecord& s : record.sessions) {
    auto session = session_of(s);
    if (!session) return tl::unexpected(session.error());
    state.sessions.push_back(std::move(*session));
  }
  for (const MappingRecord& m : record.mappings) {
    auto request = parse_map_line(m.line, cpus);
    if (!request) return damaged(fmt::format("a mapping is none: {}", request.error().what));
    if (!m.frontend.empty() && !is_frontend_name(m.frontend))
      return damaged(fmt::format("'{}' is no frontend", printable(m.frontend)));
    request->frontend = m.frontend;
    std::optional<Duration> hold;
    if (!m.hold.empty()) {
      auto parsed = parse_hold(m.hold);
      if (!parsed || parsed->fail_now) return damaged("a mapping's hold is none");
      hold = parsed->timeout;
    }
    state.mappings.push_back(
        {.request = std::move(*request), .number = m.number, .ublk_tag = m.ublk_tag, .hold = hold});
  }
  return state;
}

Outcome<SavedState> StateFile::load() const {
  UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd && errno == ENOENT) return SavedState{};
  std::string text;
  std::string why = fd ? "" : from_errno(errno).message();
  while (fd && why.empty()) {
    char part[65536];
    const ssize_t n = ::read(fd.get(), part, sizeof part);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) why = from_errno(errno).message();
    if (n <= 0) break;
    text.append(part, static_cast<std::size_t>(n));
    if (text.size() > kBytesMax) why = "it is too long";
  }
  if (why.empty()) {
    auto state = parse_state(text, std::numeric_limits<int>::max());
    if (state) return state;
    why = state.error().what;
  }
  const std::string aside = path_ + ".bad";
  ::rename(path_.c_str(), aside.c_str());
  return problem({ProblemCode::failed,
                  fmt::format("cannot use what the last rnbd-client left in {}: {}", path_, why),
                  fmt::format("it is kept as {}; map its volumes again", aside), EBADMSG});
}

std::error_code StateFile::save(const SavedState& state) const {
  const std::string draft = path_ + ".new";
  if (auto error = write_whole(draft, encode_state(state))) return error;
  if (::rename(draft.c_str(), path_.c_str()) != 0) return from_errno(errno);
  const std::string directory = std::filesystem::path(path_).parent_path();
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) return from_errno(errno);
  return {};
}

}  // namespace rnbd::daemon
