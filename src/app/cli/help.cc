// rnbd help.

#include "app/cli/verbs.h"

namespace rnbd::cli {
namespace {

struct Topic {
  const char* name;
  const char* text;
};

constexpr Topic kTopics[] = {
    {"", R"(rnbd - volumes of other machines as disks of this one

  rnbd [client|server] [device|session|path] <command> [argument...] [options]

commands
  map WORDS...      map a volume: rnbd://host/volume, the kernel's line, or VOLUME from HOST
  unmap WHAT        give it up again: rnbd0, /dev/rnbd0, the volume, or the words that mapped it
  list              mapped volumes; 'list sessions', 'list paths'; 'server list': who has what open
  show [WHAT]       everything known about a device, session or path; or about the daemon
  add path SESSION PATH            one more way to the server, while volumes are in use
  remove path SESSION PATH         one less; 'delete' is the same
  disconnect SESSION|PATH          takes it down; requests take the other paths, or wait
  reconnect SESSION|PATH           connects it anew, now
  set DEVICE hold=..., set SESSION policy=...    what is done meanwhile, and how paths are chosen
  ping              does the daemon answer?
  demo              the main job end to end on this machine, cleaned up afterwards
  help [TOPIC]      map, unmap, list, show, ping, add, remove, disconnect, reconnect, set, demo,
                    exit-codes, uri, json

options
  -o, --output=table|json|csv|xml   also as words: json, csv, xml (RNBD_OUTPUT)
      --no-headers    -q, --quiet    -v, --verbose    -n, --dry-run
  -f, --force         unmap: also when in use
      --exclusive     map: an error if it is mapped already
      --frontend=HOW  map: ublk, loop, fuse, nbd or auto, whatever the daemon is set to
      --timeout=TIME  longest wait for the daemon (60s)
      --socket=PATH   admin socket (RNBD_SOCKET; /run/rnbd/client.sock, /run/rnbd/server.sock)
  -h, --help    -V, --version
)"},
    {"map", R"(rnbd map rnbd://HOST[:PORT]/VOLUME[?sess=NAME&mode=ro|rw|migration&path=ip:ADDRESS]
rnbd map sessname=NAME path=[SRC@]DST [path=...] device_path=VOLUME
         [dest_port=PORT] [access_mode=ro|rw|migration] [nr_poll_queues=N]
rnbd map VOLUME from HOST [HOST...] [ro|rw|migration]

The second form is the line one writes to the kernel's map_device, as separate words or as one.
Addresses are ip:IPV4, ip:IPV6, host:NAME or unix:/PATH; dest_port= counts for the paths after it.
When the session exists no path is needed. Mapping the same again shows the device and succeeds,
unless --exclusive is given. --frontend= says how the volume appears: ublk and loop are block
devices, fuse is a file, nbd the socket only, auto the first of these that the machine allows.
)"},
    {"unmap", R"(rnbd unmap WHAT [--force]

WHAT is rnbd0, /dev/rnbd0, the loop device, the file, the volume's name, VOLUME@SESSION, or the
words or URI that mapped it. A volume in use is refused with its users named; --force takes it
away all the same: whoever has it open gets errors.
)"},
    {"list", R"(rnbd list [devices|sessions|paths]       what this machine has mapped
rnbd server list [devices|sessions|paths]  what clients have open here
)"},
    {"show",
     R"(rnbd show [WHAT]         a device, session or path; without WHAT the daemon and all of them
rnbd server show [WHAT]  the same on the server
)"},
    {"add", R"(rnbd add path SESSION [SRC@]DST [dest_port=N]

Connects one more path to the session's server; volumes stay in use. DST is ip:, rdma:, tcp:, host: or unix:,
as for map; a bare address is an ip: one. The port is that of the session's first path unless given.
A path that does not connect is not added. One that is there already is success.
)"},
    {"remove", R"(rnbd remove path SESSION PATH      ('delete' is the same)

Disconnects a path and forgets it; requests take the others. PATH is its name as 'rnbd list paths' shows it
(SRC@DST or SRC,DST), its destination, or its number there. SESSION may be left out where the path says enough.
The last path of a session cannot be removed.
)"},
    {"disconnect", R"(rnbd disconnect SESSION
rnbd disconnect [SESSION] PATH

Takes a path down, or every path of a session, until 'rnbd reconnect'. Without any path the volumes wait for as
long as their hold says. PATH is a name, a destination or a number, see 'rnbd help remove'.
)"},
    {"reconnect", R"(rnbd reconnect SESSION
rnbd reconnect [SESSION] PATH

Connects a path, or every path of a session, anew, now: after 'disconnect', after it was given up, or instead of
waiting for its next attempt. When it fails that is said, and it goes on trying.
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
)"},
    {"ping",
     "rnbd [server] ping [--socket=PATH] [--timeout=TIME]\n\nExit status 0 when the daemon "
     "answers.\n"},
    {"demo", R"(rnbd demo [--keep]

Starts rnbd-server over a fresh volume and rnbd-client, both in a temporary directory, maps the volume,
puts a file system on it where this machine allows (else uses the NBD socket), copies real data through,
verifies checksums after mapping it again, measures throughput, and cleans up. --keep leaves the directory.
)"},
    {"exit-codes", R"(0  done, also when it was so already
1  failed
2  usage: the words were not understood
3  not found: no such volume, device, session
4  busy: in use, or just being changed
5  refused: by the server, or no permission
6  timed out or unreachable: server, or the daemon of this machine
7  partly done
8  incompatible peer
9  error in the configuration
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
"sessions":[...],"opens":[...]}. Sizes are bytes, times microseconds. Within a version no field is ever
removed; docs/cli.md lists them.
)"},
};

}  // namespace

std::string help_text(const std::string& topic) {
  for (const Topic& known : kTopics)
    if (topic == known.name) return known.text;
  return {};
}

}  // namespace rnbd::cli
