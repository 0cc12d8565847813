#pragma once
// The words of the command line and what they mean: bare words as administrators of RNBD know them,
//   rnbd [client|server] [device|session|path] <command> [argument…] [option words]
// and GNU options beside them, anywhere. One parser for both. Pure.

#include <string>
#include <string_view>
#include <vector>

#include "base/loop.h"
#include "daemon/admin/map_request.h"

namespace rnbd::cli {

enum class Verb {
  map,
  unmap,
  list,
  show,
  ping,
  add,
  remove,
  disconnect,
  reconnect,
  set,
  demo,
  help,
  version
};
enum class Side { any, client, server };
enum class Target { any, device, session, path };
enum class Output { table, json, csv, xml };

struct Command {
  Verb verb = Verb::help;
  Side side = Side::any;
  Target target = Target::any;
  std::vector<std::string> words;  // arguments of the verb
  Output output = Output::table;
  bool headers = true;
  bool verbose = false;
  bool quiet = false;
  bool dry_run = false;
  bool force = false;
  bool exclusive = false;
  std::string frontend{};  // map: how it is to appear; empty: as the daemon is set
  bool keep = false;       // demo: leave its directory
  Duration timeout = std::chrono::seconds(60);
  std::string socket{};
};

// `default_output` is what RNBD_OUTPUT says, or "".
daemon::Outcome<Command> parse_command(const std::vector<std::string>& words,
                                       std::string_view default_output);

// The arguments of map: the kernel's words, a URI, or "<volume> from <address> [ro|rw|migration]".
// A session not named is called <host>@<server>.
daemon::Outcome<daemon::MapRequest> parse_map_words(const std::vector<std::string>& words,
                                                    const std::string& host, int cpus);

// The arguments of unmap and show: whatever mapped it, or a name of the device.
struct TargetWords {
  std::string target;
  std::string session;  // empty: any
  bool force = false;
};
daemon::Outcome<TargetWords> parse_target_words(const std::vector<std::string>& words,
                                                const std::string& host, int cpus);

}  // namespace rnbd::cli
