#include "daemon/client/state_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <limits>

#include "base/log.h"
#include "daemon/admin/json_fields.h"
#include "daemon/client/live_settings.h"
#include "daemon/uuid_text.h"
#include "daemon/whole_file.h"

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
  bool once = false;
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
  io.field("once", v.once);
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

tl::unexpected<Problem> damaged(const std::string& what) {
  return problem({ProblemCode::failed, what, "", EBADMSG});
}

Outcome<SavedSession> session_of(const SessionRecord& record) {
  SavedSession session{.name = record.name, .poll_queues = record.poll_queues};
  if (!parse_uuid_hex(record.uuid, session.identity.uuid))
    return damaged("a session's uuid is none");
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
    if (!parse_uuid_hex(path.uuid, identity.uuid)) return damaged("a path's uuid is none");
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
         .uuid = uuid_to_hex(session.identity.uuid)};
    for (const auto& path : session.identity.paths)
      s.paths.push_back({.path = path.address.to_spec(),
                         .port = path.address.destination.port(),
                         .uuid = uuid_to_hex(path.uuid),
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
                               .ublk_tag = mapping.ublk_tag,
                               .once = mapping.once});
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
    state.mappings.push_back({.request = std::move(*request),
                              .number = m.number,
                              .ublk_tag = m.ublk_tag,
                              .hold = hold,
                              .once = m.once});
  }
  return state;
}

Outcome<SavedState> StateFile::load() const {
  const auto text = read_file(path_, kBytesMax);
  if (!text && text.error() == from_errno(ENOENT)) return SavedState{};
  std::string why;
  if (text) {
    auto state = parse_state(*text, std::numeric_limits<int>::max());
    if (state) return state;
    why = state.error().what;
  } else {
    why = text.error() == from_errno(EFBIG) ? "it is too long" : text.error().message();
  }
  const std::string aside = path_ + ".bad";
  ::rename(path_.c_str(), aside.c_str());
  return problem({ProblemCode::failed,
                  fmt::format("cannot use what the last rnbd-client left in {}: {}", path_, why),
                  fmt::format("it is kept as {}; map its volumes again", aside), EBADMSG});
}

std::error_code StateFile::save(const SavedState& state) const {
  return replace_file(path_, encode_state(state));
}

}  // namespace rnbd::daemon
