#include "daemon/client/persistent_maps.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <mutex>
#include <utility>

#include "base/log.h"
#include "daemon/admin/json_fields.h"
#include "daemon/client/live_settings.h"
#include "daemon/whole_file.h"
#include "daemon/worker.h"
#include "rnbd/client/remote_device.h"
#include "wire/crc32c.h"

namespace rnbd::daemon {

// The objects of the file: text only, checked on the way in.
struct PersistentPathRecord {
  std::string path{};
  std::uint16_t port = 0;
};
struct PersistentMapRecord {
  std::string session{};
  std::vector<PersistentPathRecord> paths{};
  std::string volume{};
  std::string access_mode{};
  int nr_poll_queues = 0;
  std::string frontend{};
  std::int64_t number = -1;
  std::string hold{};
  std::string policy{};
  std::string max_reconnect_attempts{};
};
struct PersistentMapsRecord {
  unsigned version = 0;
  std::string checksum{};
  std::vector<PersistentMapRecord> maps{};
};

template <class Io>
static void fields(Io& io, PersistentPathRecord& v) {
  io.field("path", v.path);
  io.field("port", v.port);
}
template <class Io>
static void fields(Io& io, PersistentMapRecord& v) {
  io.field("session", v.session);
  io.field("paths", v.paths);
  io.field("volume", v.volume);
  io.field("access_mode", v.access_mode);
  io.field("nr_poll_queues", v.nr_poll_queues);
  io.field("frontend", v.frontend);
  io.field("number", v.number);
  io.field("hold", v.hold);
  io.field("policy", v.policy);
  io.field("max_reconnect_attempts", v.max_reconnect_attempts);
}
template <class Io>
static void fields(Io& io, PersistentMapsRecord& v) {
  io.field("version", v.version);
  io.field("checksum", v.checksum);
  io.field("maps", v.maps);
}

namespace {

constexpr unsigned kVersion = 1;
constexpr std::size_t kBytesMax = std::size_t{16} << 20;
constexpr std::size_t kMapsMax = 65536;
constexpr std::size_t kPathsOfSessionMax = 256;

tl::unexpected<Problem> damaged(const std::string& what) {
  return problem({ProblemCode::failed, what, "", EBADMSG});
}

// Of the maps as they are written without blanks.
std::string checksum_of(const Json& maps) {
  const std::string text = maps.dump(-1, ' ', false, Json::error_handler_t::replace);
  return fmt::format("{:08x}", wire::crc32c(std::as_bytes(std::span(text))));
}

PersistentMapRecord record_of(const PersistentMap& map) {
  PersistentMapRecord record{.session = map.request.session,
                             .volume = map.request.device_path,
                             .access_mode = map.request.access_mode,
                             .nr_poll_queues = map.request.nr_poll_queues,
                             .frontend = map.request.frontend};
  for (const PathSpec& path : map.request.paths)
    record.paths.push_back({.path = to_text(path), .port = path.port});
  if (map.number) record.number = *map.number;
  if (map.hold) record.hold = hold_text(*map.hold);
  if (map.policy) record.policy = path_policy_name(*map.policy);
  if (map.max_reconnect_attempts)
    record.max_reconnect_attempts = std::to_string(*map.max_reconnect_attempts);
  return record;
}

Outcome<MapRequest> request_of(const PersistentMapRecord& record) {
  const bool named = !record.session.empty() && record.session.size() <= kNameBytesMax &&
                     record.session.find_first_of("/.") == std::string::npos &&
                     !record.volume.empty() && record.volume.size() <= kNameBytesMax;
  if (!named) return damaged("a map names no session or no volume");
  if (!client::parse_access_mode(record.access_mode))
    return damaged(fmt::format("'{}' is no access_mode", printable(record.access_mode)));
  if (!record.frontend.empty() && !is_frontend_name(record.frontend))
    return damaged(fmt::format("'{}' is no frontend", printable(record.frontend)));
  if (record.nr_poll_queues < 0 || record.paths.size() > kPathsOfSessionMax)
    return damaged("a map has too many paths, or less than no poll queues");
  MapRequest request{.session = record.session,
                     .device_path = record.volume,
                     .access_mode = record.access_mode,
                     .nr_poll_queues = record.nr_poll_queues,
                     .frontend = record.frontend};
  for (const PersistentPathRecord& path : record.paths) {
    auto spec = parse_path_spec(path.path, path.port);
    if (!spec) return damaged(fmt::format("'{}' is no path", printable(path.path)));
    request.paths.push_back(std::move(*spec));
  }
  return request;
}

Outcome<PersistentMap> map_of(const PersistentMapRecord& record) {
  auto request = request_of(record);
  if (!request) return tl::unexpected(request.error());
  PersistentMap map{.request = std::move(*request)};
  constexpr std::int64_t kNumbers = 1 << 20;
  if (record.number >= 0 && record.number < kNumbers)
    map.number = static_cast<unsigned>(record.number);
  if (!record.hold.empty()) {
    const auto hold = parse_hold(record.hold);
    if (!hold || hold->fail_now) return damaged("a map's hold is none");
    map.hold = hold->timeout;
  }
  if (!record.policy.empty()) {
    const auto policy = parse_path_policy(record.policy);
    if (!policy) return damaged(policy.error().what);
    map.policy = *policy;
  }
  if (!record.max_reconnect_attempts.empty()) {
    const auto attempts = parse_reconnect_attempts(record.max_reconnect_attempts);
    if (!attempts) return damaged(attempts.error().what);
    map.max_reconnect_attempts = *attempts;
  }
  return map;
}

bool is_of(const PersistentMap& map, std::string_view session, std::string_view volume) {
  return map.request.session == session && map.request.device_path == volume;
}

}  // namespace

std::string encode_maps(const std::vector<PersistentMap>& maps) {
  PersistentMapsRecord record{.version = kVersion};
  for (const PersistentMap& map : maps) record.maps.push_back(record_of(map));
  Json json = JsonWriter::write(record);
  json["checksum"] = checksum_of(json["maps"]);
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Outcome<std::vector<PersistentMap>> parse_maps(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return damaged("it is not JSON");
  PersistentMapsRecord record;
  JsonReader reader(json);
  fields(reader, record);
  if (record.version != 0 && record.version != kVersion)
    return damaged(fmt::format("its version is {}, not {}", record.version, kVersion));
  if (!reader.ok()) return damaged(fmt::format("its '{}' is not what it should be", reader.bad()));
  const auto maps_json = json.find("maps");
  if (maps_json == json.end() || record.version != kVersion ||
      record.checksum != checksum_of(*maps_json))
    return damaged("its checksum is wrong");
  if (record.maps.size() > kMapsMax) return damaged("it has too many maps");
  std::vector<PersistentMap> maps;
  for (const PersistentMapRecord& entry : record.maps) {
    auto map = map_of(entry);
    if (!map) return tl::unexpected(map.error());
    const bool again = std::any_of(maps.begin(), maps.end(), [&](const PersistentMap& other) {
      return is_of(other, map->request.session, map->request.device_path);
    });
    if (again) return damaged("a volume is there twice");
    maps.push_back(std::move(*map));
  }
  return maps;
}

// Whatever comes while the disk is busy: only the latest is written then.
class PersistentMaps::Writer {
 public:
  explicit Writer(std::string path) : path_(std::move(path)) {}
  void write(std::string text) {
    const std::scoped_lock lock(mutex_);
    if (!std::exchange(latest_, std::move(text))) worker_.post([this] { write_latest(); });
  }

 private:
  void write_latest() {
    std::optional<std::string> text;
    {
      const std::scoped_lock lock(mutex_);
      text = std::exchange(latest_, std::nullopt);
    }
    const std::error_code error = replace_file(path_, *text);
    if (error && !std::exchange(failed_, true))
      log_error("cannot write {}: {}; what is mapped now is not mapped again after a reboot", path_,
                error.message());
    if (!error) failed_ = false;
  }

  const std::string path_;
  std::mutex mutex_;  // guards latest_
  std::optional<std::string> latest_;
  bool failed_ = false;  // and was told; the worker's
  Worker worker_;        // last: ends first, when all is written
};

PersistentMaps::PersistentMaps(std::string path)
    : path_(std::move(path)), writer_(std::make_unique<Writer>(path_)) {}
PersistentMaps::~PersistentMaps() = default;
PersistentMaps::PersistentMaps(PersistentMaps&&) noexcept = default;

Outcome<void> PersistentMaps::load() {
  const auto text = read_file(path_, kBytesMax);
  if (!text && text.error() == from_errno(ENOENT)) return {};
  std::string why;
  if (text) {
    auto maps = parse_maps(*text);
    if (maps) {
      maps_ = std::move(*maps);
      return {};
    }
    why = maps.error().what;
  } else {
    why = text.error() == from_errno(EFBIG) ? "it is too long" : text.error().message();
  }
  const std::string aside = path_ + ".bad";
  ::rename(path_.c_str(), aside.c_str());
  return problem({ProblemCode::failed,
                  fmt::format("cannot use {}, which says what is mapped: {}", path_, why),
                  fmt::format("it is kept as {}; map its volumes again", aside), EBADMSG});
}

void PersistentMaps::remember(PersistentMap map) {
  const auto at = std::find_if(maps_.begin(), maps_.end(), [&](const PersistentMap& other) {
    return is_of(other, map.request.session, map.request.device_path);
  });
  if (at == maps_.end())
    maps_.push_back(std::move(map));
  else if (*at == map)
    return;
  else
    *at = std::move(map);
  save();
}

void PersistentMaps::forget(std::string_view session, std::string_view volume) {
  const auto gone =
      std::erase_if(maps_, [&](const PersistentMap& map) { return is_of(map, session, volume); });
  if (gone != 0) save();
}

void PersistentMaps::save() { writer_->write(encode_maps(maps_)); }

}  // namespace rnbd::daemon
