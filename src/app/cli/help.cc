// rnbd help.

#include <fmt/format.h>

#include "app/cli/fields.h"
#include "app/cli/verbs.h"

namespace rnbd::cli {
namespace {

struct Topic {
  std::string_view name;
  std::string_view text;
};

// Below the line of usage, which the grammar says.
constexpr Topic kTopics[] = {
    {"map", R"(rnbd map rnbd://HOST[:PORT]/VOLUME[?sess=NAME&mode=ro|rw|migration&path=ip:ADDRESS]
rnbd map sessname=NAME path=[SRC@]DST [path=...] device_path=VOLUME
         [dest_port=PORT] [access_mode=ro|rw|migration] [nr_poll_queues=N]
rnbd map VOLUME from SERVER [SERVER...] [ro|rw|migration]

The second form is the line one writes to the kernel's map_device, as separate words or as one.
Addresses are ip:IPV4, ip:IPV6, host:NAME or unix:/PATH; dest_port= counts for the paths after it.
SERVER is an address or a host name, with :PORT unless that is 1234, or a session that there is.
When the session exists no path is needed. Mapping the same again shows the device and succeeds,
unless --exclusive is given. --frontend= says how the volume appears: ublk and loop are block
devices, fuse is a file, nbd the socket only, auto the first of these that the machine allows.
--once: it is not mapped again after a reboot. --wait: while the server cannot be reached, and while
rnbd-client is being started, it is tried again until --timeout= is over.

examples
  rnbd map rnbd://10.0.0.1/vol0
  rnbd map vol0 from 10.0.0.1 ro
  rnbd map sessname=a@b path=ip:10.0.0.1 path=ip:10.0.1.1 device_path=vol0
)"},
    {"unmap",
     R"(WHAT is rnbd0, /dev/rnbd0, the loop device, the file, the volume's name, VOLUME@SESSION, or the
words or URI that mapped it. A volume in use is refused with its users named; --force takes it
away all the same: whoever has it open gets errors. The words that mapped it succeed also when it is
not mapped any more.

examples
  rnbd unmap rnbd0
  rnbd unmap rnbd://10.0.0.1/vol0
  rnbd unmap vol0 force
)"},
    {"list", R"(rnbd list [devices|sessions|paths]         what this machine has mapped
rnbd server list [devices|sessions|paths]  what clients have open here

Columns are chosen by their names: 'name,size' only these, '+error' one more, '-users' one less, 'all';
see 'rnbd help fields'. A single letter B K M G T P E is the unit of sizes. Sessions have their paths
below them (PS: a letter per path, U is up); 'notree', 'nototals' and 'noheaders' leave out what they say.
The bare words json, csv and xml print the shapes of the old tool with its field names; -o json, jsonl,
yaml, csv and xml are our own, see 'rnbd help json'.

examples
  rnbd list
  rnbd list sessions +reconnects M
  rnbd list devname,mapping_path,state csv
  rnbd server list -o json
)"},
    {"show",
     R"(WHAT is a device, a session or a path, by any of its names. Without a mode both daemons are asked: what
is an incoming and an outgoing session is shown as both. Without WHAT: the daemons, and all they have.

examples
  rnbd show rnbd0
  rnbd show client@server
  rnbd server show -o yaml
)"},
    {"tree", R"(examples
  rnbd tree
  rnbd server tree
)"},
    {"dump",
     R"(Devices, sessions and paths of rnbd-client and of rnbd-server, as far as they run on this machine. In JSON
what the server says is in "server".

examples
  rnbd dump
  rnbd dump -o json
)"},
    {"resize",
     R"(A volume that was grown on its server is made as large here; mapped file systems see it at once. Between
our own ends this happens by itself. SIZE is checked against what the server has: it is not a way to make a
volume larger. 'rnbd server resize VOLUME' makes the server look again, and tell its clients.

examples
  rnbd resize rnbd0
  rnbd client device resize rnbd0 512 M
  rnbd server resize vol0
)"},
    {"remap",
     R"(After 'rnbd server close', or when its server lost it, a device is closed: requests wait or fail. This opens
the volume anew; after a close our own client does so by itself.

example
  rnbd remap rnbd0
)"},
    {"close",
     R"(The client's requests to the volume fail until it maps it anew. A volume that several have open is taken from
all with --force only; so is all of what a SESSION, named alone, has open.

examples
  rnbd server close vol0 client@server
  rnbd close vol0 --force
)"},
    {"recover",
     R"(A device that failed (its hold ran out) is tried again; a session or a path is connected again; on a server,
flushes of a volume are accepted again after one of them failed and an administrator has looked at it.

examples
  rnbd recover rnbd0
  rnbd recover client@server
  rnbd server recover vol0
)"},
    {"add",
     R"(Connects one more path to the session's server; volumes stay in use. DST is ip:, rdma:, tcp:, host: or unix:,
as for map; a bare address is an ip: one. The port is that of the session's first path unless given.
A path that does not connect is not added. One that is there already is success.

example
  rnbd add path client@server 10.0.1.1
)"},
    {"remove",
     R"(Disconnects a path and forgets it; requests take the others. PATH is its name as 'rnbd list paths' shows it
(SRC@DST or SRC,DST), its destination, or its number there. SESSION may be left out where the path says enough.
The last path of a session cannot be removed.

example
  rnbd remove path client@server 2
)"},
    {"disconnect",
     R"(Takes a path down, or every path of a session, until 'rnbd reconnect'. Without any path the volumes wait for as
long as their hold says. PATH is a name, a destination or a number, see 'rnbd help remove'. On a server the client
is disconnected, which may come back.

examples
  rnbd disconnect client@server 1
  rnbd server disconnect client@server
)"},
    {"reconnect",
     R"(Connects a path, or every path of a session, anew, now: after 'disconnect', after it was given up, or instead of
waiting for its next attempt. When it fails that is said, and it goes on trying.

example
  rnbd reconnect client@server
)"},
    {"set", R"(rnbd set DEVICE hold=forever|fail|TIME [--force]
rnbd set SESSION [policy=round-robin|min-inflight|min-latency] [max_reconnect_attempts=N]

hold      what happens to requests while the server is away: they wait for ever, or for TIME since it was lost;
          then the whole device fails. May be changed while they wait. fail: the device fails now; --force:
          also when its server is there.
policy    which path a request takes: one after the other, the one with fewest requests under way, or the one
          whose heartbeats are fastest
max_reconnect_attempts   then a path is given up; -1: never
A daemon that takes over after a crash keeps all of them.

examples
  rnbd set rnbd0 hold=10m
  rnbd set client@server policy=min-latency
)"},
    {"reset",
     R"(COUNTERS: all (when nothing is said), rdma, reconnects, cpu_migration_from, cpu_migration_to. Of a device, and on a server, all are reset.

example
  rnbd reset client@server
)"},
    {"attr",
     R"(The tree that the kernel's modules have in sysfs, with what we add to it: NODE is a path below its root,
'class/rtrs-client/a@b/mpath_policy'. 'get' prints what the attribute reads, 'set' writes what follows as one
line; what is wrong with it is said in words. Verbose: modes too.

examples
  rnbd attr list
  rnbd attr list class/rnbd-client/ctl
  rnbd attr get class/rtrs-client/client@server/mpath_policy
  rnbd attr set class/rtrs-client/client@server/mpath_policy round-robin
)"},
    {"top",
     R"(rnbd top [devices|sessions|paths] [NAME...] [-n COUNT] [-d TIME | --interval=TIME] [--batch]

Requests and bytes per second, the mean latency since the last picture, percentiles since the start (of the
wire on a client, of the disk on a server), requests under way and held. 'q' ends it. Without a terminal the
pictures follow one another; --batch and -o jsonl print one line of JSON each.

examples
  rnbd top -n 1 -d 100ms
  rnbd top --batch -n 1 -d 100ms
)"},
    {"events",
     R"(A line per event until it is interrupted, or --count=N came: time, level, event, what it happened to, the
words of the log. -o json and jsonl: a line of JSON each. Of both daemons, name one: 'rnbd server events'.

example
  rnbd events -o jsonl
)"},
    {"doctor",
     R"(Looks at the drivers of block devices, limits, RDMA devices and their ports, the way to each server and its
MTU, the versions of daemons, the configuration and rnbdtab. ADDRESS[:PORT] is tried too. Each finding says
what to do. Exit status: 0 nothing is wrong, 7 there are warnings, 1 something will not work.

examples
  rnbd doctor
  rnbd doctor 10.0.0.1 -o json
)"},
    {"apply", R"(rnbd apply [FILE] [NAME...] [--prune|--unmap] [-n] [--wait] [--timeout=TIME]
rnbd diff  [FILE] [NAME...] [--prune|--unmap]

FILE is /etc/rnbd/rnbdtab (RNBD_TAB) unless it is named; with NAMEs only these entries, also those with noauto.
What is missing is mapped; paths, hold, policy and max_reconnect_attempts are changed while in use; another
access mode needs the volume mapped anew, which is only done with --force. --prune: what is not listed is
unmapped, and paths that no line has are removed; a volume in use stays, unless --force. --unmap: what is listed,
or named, is unmapped instead; what is in use stays, and its users are named. -n and 'diff' say what
would be done; diff ends with 1 when that is anything.

examples
  rnbd diff
  rnbd apply
  rnbd apply ./rnbdtab --prune -n
  rnbd apply db --unmap
)"},
    {"ping", R"(Exit status 0 when the daemon answers.

examples
  rnbd ping
  rnbd server ping --timeout=1s
)"},
    {"completion", R"(example
  rnbd completion bash > /usr/share/bash-completion/completions/rnbd
)"},
    {"demo",
     R"(Starts rnbd-server over a fresh volume and rnbd-client, both in a temporary directory, maps the volume,
puts a file system on it where this machine allows (else uses the NBD socket), copies real data through,
verifies checksums after mapping it again, measures throughput, and cleans up. --keep leaves the directory.
)"},
    {"exit-codes", R"(0  done, also when it was so already
1  failed; diff: there are differences
2  usage: the words were not understood
3  not found: no such volume, device, session
4  busy: in use, or just being changed
5  refused: by the server, or no permission
6  timed out or unreachable: server, or the daemon of this machine
7  partly done; doctor: warnings
8  incompatible peer
9  error in the configuration

With --errno-exit, and when called as rnbd-compat, a failure is 256 - errno as the old tool has it: 240 is EBUSY.
)"},
    {"uri",
     R"(rnbd://HOST[:PORT]/VOLUME[?KEY=VALUE&...]       RDMA where a device routes there, else TCP; port 1234
rnbd+rdma://HOST[:PORT]/VOLUME                  RDMA only
rnbd+tcp://HOST[:PORT]/VOLUME                   TCP only
rnbd+unix:///VOLUME?socket=/PATH                a Unix socket

HOST is a name, an IPv4 address, or an IPv6 address in brackets. VOLUME is what follows the first slash,
percent-decoded. Keys: sess (session name; default HOST@SERVER), mode (ro, rw, migration), path (a further
path, ip:ADDRESS; may be repeated), src (source address of the first path), socket.
)"},
    {"json",
     R"(-o json prints one object: {"version":1,"ok":true,"already":false,"daemon":{...},"devices":[...],
"sessions":[...],"opens":[...]}; where both daemons have something, the server's is in "server". -o yaml is
the same. -o jsonl prints a line per device, session and open volume, with its "type". Sizes are bytes, times
microseconds or RFC 3339. Within a version no field is ever removed; docs/cli.md lists them.
)"},
};

std::string_view text_of(std::string_view topic) {
  for (const Topic& known : kTopics)
    if (topic == known.name) return known.text;
  return "";
}

std::string usage_of(const VerbInfo& verb) {
  std::string text = fmt::format("rnbd {}{}{}",
                                 verb.sides == kServer ? "[server] "
                                 : verb.sides == kBoth ? "[client|server] "
                                                       : "",
                                 verb.name, verb.usage.empty() ? "" : " ");
  text += std::string(verb.usage) + "\n";
  if (!verb.aliases.empty()) text += fmt::format("also: {}\n", verb.aliases);
  return text + std::string(verb.summary) + "\n";
}

std::string options_text() {
  std::string text;
  for (const OptionInfo& option : options()) {
    std::string name = option.letter == 0 ? "    " : fmt::format("-{}, ", option.letter);
    name += option.name;
    if (!option.value.empty()) name += fmt::format("={}", option.value);
    text += fmt::format("  {:<22} {}", name, option.meaning);
    if (!option.values.empty() && option.values.front() != '<' && option.option == Option::output)
      text += fmt::format(": {}", option.values);
    text += "\n";
  }
  return text;
}

std::string overview() {
  std::string text =
      "rnbd - volumes of other machines as disks of this one\n\n"
      "  rnbd [client|server] [device|session|path] <command> [argument...] [options]\n\n"
      "commands\n";
  for (const VerbInfo& verb : verbs()) {
    const std::string usage = fmt::format("{} {}", verb.name, verb.usage);
    text += usage.size() > 44 ? fmt::format("  {}\n{:46} {}\n", usage, "", verb.summary)
                              : fmt::format("  {:<44} {}\n", usage, verb.summary);
  }
  text += "\n'rnbd help COMMAND' tells more; 'rnbd help all' everything.\n\noptions\n";
  return text + options_text();
}

std::string whole() {
  std::string text = overview();
  for (const VerbInfo& verb : verbs())
    if (!text_of(verb.name).empty()) text += "\n" + help_text(std::string(verb.name));
  for (const char* topic : {"exit-codes", "uri", "json", "fields"})
    text += fmt::format("\n{}:\n", topic) + help_text(topic);
  return text;
}

}  // namespace

std::string help_text(const std::string& topic) {
  if (topic.empty()) return overview();
  if (topic == "all") return whole();
  if (topic == "fields") return fields_text();
  const VerbInfo* verb = find_verb(topic);
  if (verb == nullptr) return std::string(text_of(topic));
  const std::string_view more = text_of(verb->name);
  return usage_of(*verb) + (more.empty() ? "" : "\n") + std::string(more);
}

std::vector<std::string_view> help_topics() {
  std::vector<std::string_view> topics;
  for (const VerbInfo& verb : verbs()) topics.push_back(verb.name);
  topics.insert(topics.end(), {"all", "fields", "exit-codes", "uri", "json"});
  return topics;
}

}  // namespace rnbd::cli
