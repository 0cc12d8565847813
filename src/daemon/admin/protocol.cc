#include "daemon/admin/protocol.h"

#include <fmt/format.h>

#include <array>

#include "base/log.h"
#include "daemon/admin/json_fields.h"
#include "daemon/admin/suggest.h"

namespace rnbd::daemon {

// The fields of every object, once, for reading and writing.
template <class Io>
static void fields(Io& io, PathSpec& v) {
  io.field("source", v.source);
  io.field("destination", v.destination);
  io.field("port", v.port);
}
template <class Io>
static void fields(Io& io, MapRequest& v) {
  io.field("session", v.session);
  io.field("paths", v.paths);
  io.field("device_path", v.device_path);
  io.field("access_mode", v.access_mode);
  io.field("nr_poll_queues", v.nr_poll_queues);
  io.field("frontend", v.frontend);
}
template <class Io>
static void fields(Io& io, Setting& v) {
  io.field("name", v.name);
  io.field("value", v.value);
}
template <class Io>
static void fields(Io& io, StageView& v) {
  io.field("stage", v.stage);
  io.field("count", v.count);
  io.field("sum_us", v.sum_us);
  io.field("p50_us", v.p50_us);
  io.field("p90_us", v.p90_us);
  io.field("p99_us", v.p99_us);
  io.field("p999_us", v.p999_us);
  io.field("max_us", v.max_us);
  io.field("buckets", v.buckets);
}
template <class Io>
static void fields(Io& io, PathView& v) {
  io.field("number", v.number);
  io.field("name", v.name);
  io.field("destination", v.destination);
  io.field("port", v.port);
  io.field("state", v.state);
  io.field("fabric", v.fabric);
  io.field("device", v.device);
  io.field("digest", v.digest);
  io.field("error", v.error);
  io.field("connections", v.connections);
  io.field("latency_us", v.latency_us);
  io.field("reads", v.reads);
  io.field("read_bytes", v.read_bytes);
  io.field("writes", v.writes);
  io.field("write_bytes", v.write_bytes);
  io.field("inflight", v.inflight);
  io.field("reconnects", v.reconnects);
  io.field("reconnect_failures", v.reconnect_failures);
  io.field("fenced", v.fenced);
  io.field("slow", v.slow);
  io.field("source_address", v.source_address);
  io.field("destination_address", v.destination_address);
  io.field("latency_ns", v.latency_ns);
  io.field("failed_over", v.failed_over);
  io.field("errors", v.errors);
  io.field("migrated_from", v.migrated_from);
  io.field("migrated_to", v.migrated_to);
  io.field("stages", v.stages);
}
template <class Io>
static void fields(Io& io, SessionView& v) {
  io.field("name", v.name);
  io.field("state", v.state);
  io.field("queue_depth", v.queue_depth);
  io.field("max_io_size", v.max_io_size);
  io.field("policy", v.policy);
  io.field("failover", v.failover);
  io.field("max_reconnect_attempts", v.max_reconnect_attempts);
  io.field("client_host", v.client_host);
  io.field("server_host", v.server_host);
  io.field("reads", v.reads);
  io.field("read_bytes", v.read_bytes);
  io.field("writes", v.writes);
  io.field("write_bytes", v.write_bytes);
  io.field("errors", v.errors);
  io.field("inflight", v.inflight);
  io.field("reconnects", v.reconnects);
  io.field("stages", v.stages);
  io.field("paths", v.paths);
}
template <class Io>
static void fields(Io& io, DeviceView& v) {
  io.field("name", v.name);
  io.field("node", v.node);
  io.field("frontend", v.frontend);
  io.field("ublk", v.ublk);
  io.field("loop", v.loop);
  io.field("file", v.file);
  io.field("nbd", v.nbd);
  io.field("volume", v.volume);
  io.field("session", v.session);
  io.field("access_mode", v.access_mode);
  io.field("state", v.state);
  io.field("error", v.error);
  io.field("size", v.size);
  io.field("logical_block_size", v.logical_block_size);
  io.field("users", v.users);
  io.field("reads", v.reads);
  io.field("read_bytes", v.read_bytes);
  io.field("writes", v.writes);
  io.field("write_bytes", v.write_bytes);
  io.field("others", v.others);
  io.field("errors", v.errors);
  io.field("inflight", v.inflight);
  io.field("held", v.held);
  io.field("hold_us", v.hold_us);
  io.field("waiting_us", v.waiting_us);
  io.field("physical_block_size", v.physical_block_size);
  io.field("nr_poll_queues", v.nr_poll_queues);
  io.field("once", v.once);
  io.field("stages", v.stages);
}
template <class Io>
static void fields(Io& io, OpenView& v) {
  io.field("volume", v.volume);
  io.field("session", v.session);
  io.field("device_id", v.device_id);
  io.field("access_mode", v.access_mode);
  io.field("size", v.size);
  io.field("reads", v.reads);
  io.field("read_bytes", v.read_bytes);
  io.field("writes", v.writes);
  io.field("write_bytes", v.write_bytes);
  io.field("errors", v.errors);
  io.field("device", v.device);
  io.field("read_only", v.read_only);
  io.field("flush_failed", v.flush_failed);
  io.field("inflight", v.inflight);
  io.field("stages", v.stages);
}
template <class Io>
static void fields(Io& io, NodeView& v) {
  io.field("path", v.path);
  io.field("kind", v.kind);
  io.field("mode", v.mode);
  io.field("target", v.target);
  io.field("text", v.text);
}
template <class Io>
static void fields(Io& io, DaemonView& v) {
  io.field("program", v.program);
  io.field("version", v.version);
  io.field("pid", v.pid);
  io.field("listen", v.listen);
  io.field("search_path", v.search_path);
  io.field("exports", v.exports);
  io.field("port_nr", v.port_nr);
  io.field("max_chunk_size", v.max_chunk_size);
  io.field("sess_queue_depth", v.sess_queue_depth);
  io.field("always_invalidate", v.always_invalidate);
}

template <class Io>
static void fields(Io& io, EventView& v) {
  io.field("time", v.time);
  io.field("level", v.level);
  io.field("event", v.event);
  io.field("device", v.device);
  io.field("session", v.session);
  io.field("volume", v.volume);
  io.field("path", v.path);
  io.field("text", v.text);
}

namespace {

constexpr std::array<std::string_view, 18> kCommands{"map",
                                                     "unmap",
                                                     "list",
                                                     "ping",
                                                     "add_path",
                                                     "remove_path",
                                                     "disconnect",
                                                     "reconnect",
                                                     "set",
                                                     "remap",
                                                     "resize",
                                                     "recover",
                                                     "close",
                                                     "reset",
                                                     "list_attributes",
                                                     "read_attribute",
                                                     "write_attribute",
                                                     "events"};

// Deep nesting would recurse in the parser and the destructor: our objects nest four levels.
bool too_deep(std::string_view line) {
  int depth = 0;
  bool text = false, escaped = false;  // brackets of names are not counted
  for (char c : line) {
    if (c == '"' && !escaped) text = !text;
    escaped = text && c == '\\' && !escaped;
    if (text) continue;
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
    if (depth > 32) return true;
  }
  return false;
}

Outcome<Json> parse_object(std::string_view line) {
  if (too_deep(line)) return usage_problem("the admin message is nested too deeply");
  Json json = Json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return usage_problem("the admin message is not a JSON object");
  int version = 0;
  JsonReader(json).field("version", version);
  if (version != kAdminVersion)
    return problem({ProblemCode::incompatible,
                    fmt::format("the other side speaks admin protocol version {}, we speak {}",
                                version, kAdminVersion),
                    "use the rnbd command of the same release as the daemon", 0});
  return json;
}

// Strings may come from peers and need not be UTF-8: what is not is replaced, never thrown over.
std::string dump(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

Json response_json(const AdminResponse& response) {
  Json json;
  json["version"] = kAdminVersion;
  json["ok"] = !response.error.has_value();
  if (response.error) {
    json["error"] = {{"code", problem_code_name(response.error->code)},
                     {"errno", response.error->error},
                     {"what", response.error->what},
                     {"hint", response.error->hint}};
    return json;
  }
  json["already"] = response.already;
  json["daemon"] = JsonWriter::write(response.daemon);
  JsonWriter lists;
  lists.field("devices", response.devices);
  lists.field("sessions", response.sessions);
  lists.field("opens", response.opens);
  if (!response.nodes.empty()) lists.field("nodes", response.nodes);
  json.update(lists.json);
  if (!response.text.empty()) json["text"] = response.text;
  return json;
}

}  // namespace

const char* admin_command_name(AdminCommand command) {
  return kCommands[static_cast<std::size_t>(command)].data();
}

// Members that say nothing are left out.
std::string encode(const AdminRequest& request) {
  Json json;
  json["version"] = kAdminVersion;
  json["command"] = admin_command_name(request.command);
  if (request.command == AdminCommand::map) {
    json["map"] = JsonWriter::write(request.map);
    json["exclusive"] = request.exclusive;
  }
  if (request.command == AdminCommand::add_path)
    json["new_path"] = JsonWriter::write(request.new_path);
  const auto text = [&json](const char* name, const std::string& value) {
    if (!value.empty()) json[name] = value;
  };
  text("target", request.target);
  text("session", request.session);
  text("path", request.path);
  text("counters", request.counters);
  text("text", request.text);
  text("depth", request.depth);
  if (request.recent) json["recent"] = true;
  if (request.force) json["force"] = true;
  if (request.once) json["once"] = true;
  if (request.size != 0) json["size"] = request.size;
  if (!request.settings.empty()) {
    JsonWriter settings;
    settings.field("settings", request.settings);
    json.update(settings.json);
  }
  return dump(json);
}

std::string encode(const AdminResponse& response) { return dump(response_json(response)); }
std::string to_json_text(const AdminResponse& response) {
  return dump(response_json(response), 2) + "\n";
}

std::string encode(const EventView& event) {
  Json json;
  json["version"] = kAdminVersion;
  json["event"] = JsonWriter::write(event);
  return dump(json);
}

Outcome<EventView> decode_event(std::string_view line) {
  auto json = parse_object(line);
  if (!json) return tl::unexpected(json.error());
  EventView event;
  JsonReader reader(*json);
  reader.object("event", event);
  if (!reader.ok() || event.event.empty())
    return usage_problem("the daemon sent an event that is none");
  return event;
}

Outcome<AdminRequest> decode_request(std::string_view line) {
  if (line.size() >= kAdminRequestMax) return usage_problem("the admin request is too long");
  auto json = parse_object(line);
  if (!json) return tl::unexpected(json.error());
  AdminRequest request;
  std::string command;
  JsonReader reader(*json);
  reader.field("command", command);
  reader.object("map", request.map);
  reader.field("exclusive", request.exclusive);
  reader.field("target", request.target);
  reader.field("session", request.session);
  reader.field("force", request.force);
  reader.field("path", request.path);
  reader.object("new_path", request.new_path);
  reader.field("settings", request.settings);
  reader.field("once", request.once);
  reader.field("size", request.size);
  reader.field("counters", request.counters);
  reader.field("text", request.text);
  reader.field("depth", request.depth);
  reader.field("recent", request.recent);
  if (!reader.ok())
    return usage_problem(fmt::format(
        "the member '{}' of the admin request has a wrong type or value", reader.bad()));
  for (std::size_t i = 0; i < kCommands.size(); ++i) {
    if (command != kCommands[i]) continue;
    request.command = static_cast<AdminCommand>(i);
    return request;
  }
  return usage_problem(fmt::format("unknown admin command '{}'", printable(command)),
                       suggestion(command, kCommands));
}

Outcome<AdminResponse> decode_response(std::string_view line) {
  auto json = parse_object(line);
  if (!json) return tl::unexpected(json.error());
  AdminResponse response;
  JsonReader reader(*json);
  bool ok = false;
  reader.field("ok", ok);
  if (!ok) {
    Problem error;
    std::string code;
    auto at = json->find("error");
    if (at != json->end()) {
      JsonReader inner(*at);
      inner.field("code", code);
      inner.field("errno", error.error);
      inner.field("what", error.what);
      inner.field("hint", error.hint);
    }
    error.code = parse_problem_code(code);
    if (error.what.empty()) error.what = "the daemon gave no reason";
    response.error = std::move(error);
    return response;
  }
  reader.field("already", response.already);
  reader.object("daemon", response.daemon);
  reader.field("devices", response.devices);
  reader.field("sessions", response.sessions);
  reader.field("opens", response.opens);
  reader.field("nodes", response.nodes);
  reader.field("text", response.text);
  if (!reader.ok())
    return usage_problem(
        fmt::format("the member '{}' of the daemon's answer has a wrong type", reader.bad()));
  return response;
}

}  // namespace rnbd::daemon
