#include "app/cli/grammar.h"

#include <array>

namespace rnbd::cli {
namespace {

constexpr std::array kVerbs{
    VerbInfo{
        Verb::map, "map", "", kClient, kDevices, "WORDS... [--exclusive] [--once] [--wait]",
        "a volume of a server becomes a disk here",
        "sessname= path=ip: device_path= dest_port= access_mode= from rnbd:// ro rw migration"},
    VerbInfo{Verb::unmap, "unmap", "", kClient, kDevices, "WHAT [--force]",
             "gives it up: rnbd0, the volume, or the words that mapped it", "<device>"},
    VerbInfo{Verb::list, "list", "ls l", kBoth, kAll, "[devices|sessions|paths] [FIELDS] [UNIT]",
             "what is mapped here; 'server list': who has what open",
             "devices sessions paths all json csv xml noheaders nototals notree"},
    VerbInfo{Verb::show, "show", "", kBoth, kAll, "[WHAT] [FIELDS]",
             "everything known about a device, session or path", "<device> <session> <path>"},
    VerbInfo{Verb::tree, "tree", "", kBoth, kAll, "[WHAT]", "sessions with their paths and devices",
             "<session> <device>"},
    VerbInfo{Verb::dump, "dump", "", kBoth, kAll, "", "everything of both daemons", ""},
    VerbInfo{Verb::resize, "resize", "", kBoth, kDevices, "DEVICE [SIZE [UNIT]]",
             "takes over the size the volume has on its server", "<device>"},
    VerbInfo{Verb::remap, "remap", "", kClient, kDevices, "DEVICE",
             "opens a device anew that its server has closed", "<device>"},
    VerbInfo{Verb::close, "close", "", kServer, kDevices, "VOLUME [SESSION] [--force]",
             "server: takes a volume away from a client", "<volume> <session>"},
    VerbInfo{Verb::recover, "recover", "", kBoth, kAll, "DEVICE|SESSION|PATH",
             "gives what has failed another chance", "<device> <session> <path>"},
    VerbInfo{Verb::add, "add", "", kClient, kPaths, "path SESSION [SRC@]DST [dest_port=N]",
             "one more way to the server, while volumes are in use", "path <session>"},
    VerbInfo{Verb::remove, "remove", "delete del", kClient, kPaths, "path SESSION PATH", "one less",
             "path <session> <path>"},
    VerbInfo{Verb::disconnect, "disconnect", "dis", kBoth, kSessions | kPaths, "SESSION|PATH",
             "takes it down; requests take the other paths, or wait", "<session> <path>"},
    VerbInfo{Verb::reconnect, "reconnect", "", kClient, kSessions | kPaths, "SESSION|PATH",
             "connects it anew, now", "<session> <path>"},
    VerbInfo{Verb::set, "set", "", kClient, kDevices | kSessions, "DEVICE|SESSION NAME=VALUE...",
             "hold, policy, max_reconnect_attempts: while in use",
             "<device> <session> hold= policy=round-robin policy=min-inflight policy=min-latency "
             "max_reconnect_attempts="},
    VerbInfo{Verb::reset, "reset", "", kBoth, kAll, "DEVICE|SESSION [PATH] [COUNTERS]",
             "sets counters back to zero",
             "<device> <session> <path> all rdma reconnects cpu_migration_from cpu_migration_to"},
    VerbInfo{Verb::attr, "attr", "", kBoth, kNothing,
             "list [NODE] | get ATTRIBUTE | set ATTRIBUTE VALUE",
             "the attribute tree, as the kernel's sysfs has it", "list get set"},
    VerbInfo{Verb::top, "top", "", kBoth, kAll, "[-n COUNT] [--interval=TIME] [--batch]",
             "rates, latencies and states, every second", "devices sessions paths"},
    VerbInfo{Verb::events, "events", "", kBoth, kNothing, "", "what happens, as it happens", ""},
    VerbInfo{Verb::doctor, "doctor", "", kBoth, kNothing, "[ADDRESS...]",
             "looks for what is missing, and says what to do", ""},
    VerbInfo{Verb::apply, "apply", "", kClient, kNothing, "[FILE] [NAME...] [--prune|--unmap]",
             "makes what is mapped what rnbdtab says", "<file>"},
    VerbInfo{Verb::diff, "diff", "", kClient, kNothing, "[FILE] [NAME...] [--prune|--unmap]",
             "what apply would do", "<file>"},
    VerbInfo{Verb::ping, "ping", "", kBoth, kNothing, "", "does the daemon answer?", ""},
    VerbInfo{Verb::completion, "completion", "", kNoDaemon, kNothing, "bash|zsh|fish",
             "the completion script of a shell", "bash zsh fish"},
    VerbInfo{Verb::demo, "demo", "", kNoDaemon, kNothing, "[--keep]",
             "the main job end to end on this machine", ""},
    VerbInfo{Verb::help, "help", "", kNoDaemon, kAll, "[TOPIC]",
             "a command, or: all, fields, exit-codes, uri, json", "all fields exit-codes uri json"},
    VerbInfo{Verb::version, "version", "", kNoDaemon, kNothing, "", "the version", ""},
};

constexpr std::array kOptions{
    OptionInfo{Option::output, "--output", 'o', "FORMAT", "table json jsonl csv xml yaml", "",
               "how it is printed (RNBD_OUTPUT)"},
    OptionInfo{Option::fields, "--fields", 0, "LIST", "", "",
               "columns: 'name,size', '+error', '-users', 'all'"},
    OptionInfo{Option::no_headers, "--no-headers", 0, "", "", "noheaders",
               "rows only: no titles, totals or tree"},
    OptionInfo{Option::no_totals, "--no-totals", 0, "", "", "nototals", "no line of totals"},
    OptionInfo{Option::no_tree, "--no-tree", 0, "", "", "notree", "sessions without their paths"},
    OptionInfo{Option::verbose, "--verbose", 'v', "", "", "verbose", "more of it"},
    OptionInfo{Option::quiet, "--quiet", 'q', "", "", "quiet", "errors only"},
    OptionInfo{Option::dry_run, "--dry-run", 'n', "", "", "dryrun",
               "says what would be done, and does nothing"},
    OptionInfo{Option::force, "--force", 'f', "", "", "force",
               "also when it is in use; see each command"},
    OptionInfo{Option::yes, "--yes", 'y', "", "", "", "nothing asks: accepted for scripts"},
    OptionInfo{Option::wait, "--wait", 0, "", "", "",
               "map, apply: tries again while the server or the daemon is away"},
    OptionInfo{Option::timeout, "--timeout", 0, "TIME", "1s 10s 1m", "",
               "longest wait for the daemon (60s)"},
    OptionInfo{Option::exclusive, "--exclusive", 0, "", "", "exclusive",
               "map: an error if it is mapped already"},
    OptionInfo{Option::once, "--once", 0, "", "", "once", "map: not again after a reboot"},
    OptionInfo{Option::frontend, "--frontend", 0, "HOW", "auto ublk loop fuse nbd", "",
               "map: how it appears, whatever the daemon is set to"},
    OptionInfo{Option::prune, "--prune", 0, "", "", "prune",
               "apply, diff: what is not listed is unmapped"},
    OptionInfo{Option::unmap, "--unmap", 0, "", "", "",
               "apply, diff: what is listed is unmapped, unless it is in use"},
    OptionInfo{Option::count, "--count", 0, "N", "", "",
               "top, events: ends after so many; top: also -n N"},
    OptionInfo{Option::interval, "--interval", 'i', "TIME", "1s 5s", "",
               "top: between two samples (1s)"},
    OptionInfo{Option::batch, "--batch", 'b', "", "", "batch", "top: a line of JSON per sample"},
    OptionInfo{Option::keep, "--keep", 0, "", "", "", "demo: leaves its directory"},
    OptionInfo{Option::json, "--json", 0, "", "", "", "the same as --output=json"},
    OptionInfo{Option::errno_exit, "--errno-exit", 0, "", "", "",
               "exit status 256 - errno, as the old tool (also called as rnbd-compat)"},
    OptionInfo{Option::config, "--config", 0, "FILE", "<file>", "",
               "configuration of the daemons (RNBD_CONFIG): names their sockets"},
    OptionInfo{Option::socket, "--socket", 0, "PATH", "<file>", "",
               "admin socket of the daemon to ask (RNBD_SOCKET: of rnbd-client)"},
    OptionInfo{Option::help, "--help", 'h', "", "", "", "help on the command"},
    OptionInfo{Option::version, "--version", 'V', "", "", "", "the version"},
};

constexpr std::array kSides{
    Word<Side>{"client", Side::client}, Word<Side>{"clt", Side::client},
    Word<Side>{"cli", Side::client},    Word<Side>{"server", Side::server},
    Word<Side>{"serv", Side::server},   Word<Side>{"srv", Side::server},
};
constexpr std::array kTargets{
    Word<Target>{"device", Target::device},    Word<Target>{"devices", Target::device},
    Word<Target>{"dev", Target::device},       Word<Target>{"session", Target::session},
    Word<Target>{"sessions", Target::session}, Word<Target>{"sess", Target::session},
    Word<Target>{"path", Target::path},        Word<Target>{"paths", Target::path},
};
constexpr std::array kOutputs{
    Word<Output>{"table", Output::table}, Word<Output>{"json", Output::json},
    Word<Output>{"jsonl", Output::jsonl}, Word<Output>{"csv", Output::csv},
    Word<Output>{"xml", Output::xml},     Word<Output>{"yaml", Output::yaml},
};

}  // namespace

std::span<const VerbInfo> verbs() { return kVerbs; }
std::span<const OptionInfo> options() { return kOptions; }
std::span<const Word<Side>> side_words() { return kSides; }
std::span<const Word<Target>> target_words() { return kTargets; }
std::span<const Word<Output>> output_words() { return kOutputs; }

const VerbInfo& info(Verb verb) {
  for (const VerbInfo& known : kVerbs)
    if (known.verb == verb) return known;
  return kVerbs.back();
}

const VerbInfo* find_verb(std::string_view word) {
  for (const VerbInfo& known : kVerbs) {
    if (known.name == word) return &known;
    for (std::string_view alias : split_words(known.aliases))
      if (alias == word) return &known;
  }
  return nullptr;
}

const OptionInfo* find_option(std::string_view name) {
  for (const OptionInfo& known : kOptions)
    if (known.name == name) return &known;
  return nullptr;
}
const OptionInfo* find_option(char letter) {
  for (const OptionInfo& known : kOptions)
    if (known.letter == letter && letter != 0) return &known;
  return nullptr;
}
const OptionInfo* find_option_word(std::string_view word) {
  for (const OptionInfo& known : kOptions)
    if (known.word == word && !word.empty()) return &known;
  return nullptr;
}

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    if (end != 0) words.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

}  // namespace rnbd::cli
