#pragma once
// The admin protocol: one JSON object per line and direction over a Unix stream socket, at most 64
// KiB per request, one answer per request, in order. Pure functions; the bytes may come from
// anyone.
//
//   {"version":1,"command":"map","map":{"session":"a@b","paths":[{"destination":"ip:10.0.0.1","port":1234}],
//    "device_path":"vol0","access_mode":"rw","nr_poll_queues":0}}
//   {"version":1,"ok":true,"daemon":{…},"devices":[…],"sessions":[…],"opens":[…]}
//   {"version":1,"ok":false,"error":{"code":"not_found","errno":2,"what":"…","hint":"…"}}

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/admin/map_request.h"
#include "daemon/admin/problem.h"
#include "daemon/admin/views.h"

namespace rnbd::daemon {

inline constexpr int kAdminVersion = 1;
inline constexpr std::size_t kAdminRequestMax = 65536;  // bytes of one request, newline included
inline constexpr std::size_t kAdminResponseMax =
    64U << 20;  // what a command line will read of one answer

enum class AdminCommand {
  map,
  unmap,
  list,
  ping,
  add_path,
  remove_path,
  disconnect,
  reconnect,
  set,
  remap,    // client: opens a closed volume again
  resize,   // client: takes over a size the server has; server: looks whether it changed
  recover,  // client: gives a failed device another chance; server: believes in flushes again
  close,    // server: takes a volume from a client, or from all
  reset,    // counters
  list_attributes,  // of the tree: what is in a directory
  read_attribute,
  write_attribute,
  events  // a stream: after the answer a line per event, until the connection ends
};
const char* admin_command_name(AdminCommand command);

struct Setting {
  std::string name{};  // hold; policy, max_reconnect_attempts
  std::string value{};
  bool operator==(const Setting&) const = default;
};

struct AdminRequest {
  AdminCommand command = AdminCommand::ping;
  MapRequest map{};        // map
  bool exclusive = false;  // map: EEXIST when it is mapped already
  // unmap, set, remap, resize, recover: "rnbd0", a volume, …; see Manager. Paths: the session, or
  // the path itself. Attributes: the node's path below the tree's root.
  std::string target{};
  std::string session{};            // unmap: narrows a volume's name down
  bool force = false;               // unmap, set
  std::string path{};               // remove_path, disconnect, reconnect: which; see find_path()
  PathSpec new_path{};              // add_path; port 0: that of the session's first path
  std::vector<Setting> settings{};  // set
  bool once = false;                // map: not again after a reboot
  std::uint64_t size = 0;           // resize: bytes; 0: what the server has
  std::string counters{};  // reset: rdma, reconnects, cpu_migration_from, cpu_migration_to, all
  std::string text{};      // write_attribute
  std::string depth{};  // list_attributes: "node"; "names" of what is in it; else all that is below
  bool recent = false;  // names of 50 ms ago will do, if no command was answered since
};

struct AdminResponse {
  std::optional<Problem> error{};
  DaemonView daemon{};
  std::vector<DeviceView> devices{};
  std::vector<SessionView> sessions{};
  std::vector<OpenView> opens{};
  bool already = false;  // it was so before; nothing was done
  std::string text{};    // read_attribute
  std::vector<NodeView> nodes{};
};

std::string encode(const AdminRequest& request);  // without the newline
std::string encode(const AdminResponse& response);
Outcome<AdminRequest> decode_request(std::string_view line);
Outcome<AdminResponse> decode_response(std::string_view line);

// The lines of an event stream: {"version":1,"event":{…}}.
std::string encode(const EventView& event);
Outcome<EventView> decode_event(std::string_view line);

// The same fields for `-o json`, indented.
std::string to_json_text(const AdminResponse& response);

}  // namespace rnbd::daemon
