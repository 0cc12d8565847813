#pragma once
// Every word of the command line, once: the parser, the help and the completion of all shells read
// these tables, so that they cannot disagree. Constant data.

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rnbd::cli {

enum class Verb {
  map,
  unmap,
  list,
  show,
  tree,
  dump,
  resize,
  remap,
  close,
  recover,
  add,
  remove,
  disconnect,
  reconnect,
  set,
  reset,
  attr,
  top,
  events,
  doctor,
  apply,
  diff,
  ping,
  completion,
  demo,
  help,
  version
};
enum class Side { any, client, server };
enum class Target { any, device, session, path };
enum class Output { table, json, jsonl, csv, xml, yaml };

// Which daemons and which things a verb is for.
inline constexpr unsigned kNoDaemon = 0, kClient = 1, kServer = 2, kBoth = kClient | kServer;
inline constexpr unsigned kNothing = 0, kDevices = 1, kSessions = 2, kPaths = 4, kAll = 7;

struct VerbInfo {
  Verb verb;
  std::string_view name;
  std::string_view aliases;  // separated by blanks
  unsigned sides;
  unsigned targets;
  std::string_view usage;      // what follows the name
  std::string_view summary;    // for the list of commands, half a line
  std::string_view arguments;  // completion: words, or <device> <session> <path> <volume> <file>
};
std::span<const VerbInfo> verbs();
const VerbInfo& info(Verb verb);
const VerbInfo* find_verb(std::string_view word);  // by name or alias

enum class Option {
  help,
  version,
  output,
  fields,
  no_headers,
  no_totals,
  no_tree,
  verbose,
  quiet,
  dry_run,
  wait,
  timeout,
  force,
  yes,
  config,
  socket,
  errno_exit,
  exclusive,
  once,
  frontend,
  prune,
  unmap,
  count,
  interval,
  batch,
  keep,
  json
};

struct OptionInfo {
  Option option;
  std::string_view name;    // "--output"
  char letter;              // 0: none
  std::string_view value;   // what it takes, "FORMAT"; empty: nothing
  std::string_view values;  // the choices, separated by blanks; or <file>
  std::string_view word;    // said as a bare word; empty: not
  std::string_view meaning;
};
std::span<const OptionInfo> options();
const OptionInfo* find_option(std::string_view name);  // "--output"
const OptionInfo* find_option(char letter);
const OptionInfo* find_option_word(std::string_view word);

template <class T>
struct Word {
  std::string_view text;
  T meaning;
};
std::span<const Word<Side>> side_words();
std::span<const Word<Target>> target_words();
std::span<const Word<Output>> output_words();

inline constexpr std::string_view kUnits = "BKMGTPE";

std::vector<std::string_view> split_words(std::string_view text);

}  // namespace rnbd::cli
