#pragma once
// The command line as it was meant: bare words as administrators of RNBD know them,
//   rnbd [client|server] [device|session|path] <command> [argument…] [option words]
// and GNU options beside them, anywhere. One parser for both; grammar.h has the words. Pure.

#include <string>
#include <string_view>
#include <vector>

#include "app/cli/grammar.h"
#include "base/loop.h"
#include "daemon/admin/problem.h"

namespace rnbd::cli {

struct Command {
  Verb verb = Verb::help;
  Side side = Side::any;
  Target target = Target::any;
  std::vector<std::string> words{};   // arguments of the verb
  std::vector<std::string> fields{};  // "name,size", "+error", "-users", "all"
  Output output = Output::table;
  bool old_shape = false;  // the format was asked for as a bare word: as the old tool prints it
  char unit = 0;           // of sizes in tables; 0: the one that fits
  bool headers = true;
  bool totals = true;
  bool tree = true;
  bool verbose = false;
  bool quiet = false;
  bool dry_run = false;
  bool force = false;
  bool exclusive = false;
  bool once = false;
  bool wait = false;
  bool prune = false;
  bool unmap = false;  // apply: the other way round
  bool batch = false;
  bool keep = false;        // demo: leave its directory
  std::uint64_t count = 0;  // top, events: so many and no more; 0: until interrupted
  Duration interval = std::chrono::seconds(1);
  std::string frontend{};  // map: how it is to appear; empty: as the daemon is set
  Duration timeout = std::chrono::seconds(60);
  std::string socket{};
  std::string config{};
};

// `default_output` is what RNBD_OUTPUT says, or "".
daemon::Outcome<Command> parse_command(const std::vector<std::string>& words,
                                       std::string_view default_output);

}  // namespace rnbd::cli
