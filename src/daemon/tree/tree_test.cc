#include "daemon/tree/tree.h"

#include <gtest/gtest.h>

#include <map>

namespace rnbd::daemon {
namespace {

// What the kernel's modules showed on one machine that was client and server: two paths would only
// repeat this.
AdminResponse client_state() {
  AdminResponse state;
  state.daemon.program = "rnbd-client";
  PathView path{.number = 1,
                .name = "ip:10.0.2.15@ip:10.0.2.16",
                .destination = "ip:10.0.2.16",
                .port = 1234,
                .state = "connected",
                .fabric = "verbs",
                .device = "rxe0/1",
                .reads = 5,
                .read_bytes = 12776,
                .source_address = "ip:10.0.2.15",
                .destination_address = "ip:10.0.2.16",
                .latency_ns = 10414611};
  path.migrated_from = {4, 0};
  path.migrated_to = {0, 4};
  SessionView session{.name = "blktest",
                      .state = "connected",
                      .queue_depth = 512,
                      .policy = "min-inflight",
                      .failover = "fenced",
                      .paths = {path}};
  state.sessions.push_back(session);
  state.devices.push_back({.name = "rnbd0",
                           .volume = "/dev/nullb0",
                           .session = "blktest",
                           .access_mode = "rw",
                           .state = "open",
                           .size = 1U << 30});
  return state;
}

AdminResponse server_state() {
  AdminResponse state;
  state.daemon.program = "rnbd-server";
  state.daemon.search_path = "/";
  state.daemon.port_nr = 1234;
  state.daemon.max_chunk_size = 131072;
  state.daemon.sess_queue_depth = 512;
  state.daemon.always_invalidate = true;
  PathView path{.name = "ip:10.0.2.15@ip:10.0.2.16",
                .state = "connected",
                .device = "rxe0/1",
                .reads = 5,
                .read_bytes = 12776,
                .source_address = "ip:10.0.2.15",
                .destination_address = "ip:10.0.2.16"};
  state.sessions.push_back({.name = "blktest", .state = "connected", .paths = {path}});
  state.opens.push_back({.volume = "/dev/nullb0",
                         .session = "blktest",
                         .access_mode = "rw",
                         .device = "/dev/nullb0"});
  return state;
}

struct Recorded {
  const char* path;
  std::uint32_t mode;
  const char* text;  // of an attribute; the target of a link; null: a directory
};

constexpr const char* kMapUsage =
    "Usage: echo \"[dest_port=server port number] sessname=<name of the rtrs session> "
    "path=<[srcaddr@]dstaddr> [path=<[srcaddr@]dstaddr>] device_path=<full path on remote side> "
    "[access_mode=<ro|rw|migration>] [nr_poll_queues=<number of queues>]\" > map_device\n\n"
    "addr ::= [ ip:<ipv4> | ip:<ipv6> | gid:<gid> ]\n";

#define CLIENT "devices/virtual/rnbd-client/ctl/"
#define DEVICE "devices/virtual/block/rnbd0/rnbd/"
#define SESSION "devices/virtual/rtrs-client/blktest/"
#define PATH "devices/virtual/rtrs-client/blktest/paths/ip:10.0.2.15@ip:10.0.2.16/"
const std::vector<Recorded> kClient{
    {"class/rnbd-client/ctl", 0777, "../../devices/virtual/rnbd-client/ctl"},
    {"class/rtrs-client/blktest", 0777, "../../devices/virtual/rtrs-client/blktest"},
    {"block/rnbd0", 0777, "../devices/virtual/block/rnbd0"},
    {CLIENT "devices", 0755, nullptr},
    {CLIENT "devices/!dev!nullb0@blktest", 0777, "../../../block/rnbd0"},
    {CLIENT "map_device", 0644, kMapUsage},
    {CLIENT "power", 0755, nullptr},
    {CLIENT "subsystem", 0777, "../../../../class/rnbd-client"},
    {CLIENT "uevent", 0644, ""},
    {DEVICE "access_mode", 0444, "rw\n"},
    {DEVICE "mapping_path", 0444, "/dev/nullb0\n"},
    {DEVICE "nr_poll_queues", 0444, "0\n"},
    {DEVICE "remap_device", 0644, "Usage: echo <1> > remap_device\n"},
    {DEVICE "resize", 0644, "Usage: echo <new size in sectors> > resize\n"},
    {DEVICE "session", 0444, "blktest\n"},
    {DEVICE "state", 0444, "open\n"},
    {DEVICE "unmap_device", 0644, "Usage: echo <normal|force> > unmap_device\n"},
    {SESSION "uevent", 0644, ""},
    {SESSION "subsystem", 0777, "../../../../class/rtrs-client"},
    {SESSION "add_path", 0644,
     "Usage: echo [<source addr>@]<destination addr> > add_path\n\n"
     "*addr ::= [ ip:<ipv4|ipv6> | gid:<gid> ]\n"},
    {SESSION "mpath_policy", 0644, "min-inflight (MI: 1)\n"},
    {SESSION "max_reconnect_attempts", 0644, "-1\n"},
    {SESSION "paths", 0755, nullptr},
    {PATH "hca_name", 0444, "rxe0\n"},
    {PATH "hca_port", 0444, "1\n"},
    {PATH "cur_latency", 0444, "10414611 ns\n"},
    {PATH "src_addr", 0444, "ip:10.0.2.15\n"},
    {PATH "dst_addr", 0444, "ip:10.0.2.16\n"},
    {PATH "state", 0444, "connected\n"},
    {PATH "disconnect", 0644, "Usage: echo 1 > disconnect\n"},
    {PATH "reconnect", 0644, "Usage: echo 1 > reconnect\n"},
    {PATH "remove_path", 0644, "Usage: echo 1 > remove_path\n"},
    {PATH "stats/cpu_migration_from", 0644, "4 0 \n"},
    {PATH "stats/cpu_migration_to", 0644, "0 4 \n"},
    {PATH "stats/rdma", 0644, "5 12776 0 0 0 0\n"},
    {PATH "stats/reconnects", 0644, "0 0\n"},
    {PATH "stats/reset_all", 0644, "echo 1 to reset all statistics\n"},
};

#define CTL "devices/virtual/rnbd-server/ctl/"
#define OPEN "devices/virtual/rnbd-server/ctl/devices/nullb0/sessions/blktest/"
#define SERVER_PATH "devices/virtual/rtrs-server/blktest/paths/ip:10.0.2.15@ip:10.0.2.16/"
const std::vector<Recorded> kServer{
    {"class/rnbd-server/ctl", 0777, "../../devices/virtual/rnbd-server/ctl"},
    {"class/rtrs-server/blktest", 0777, "../../devices/virtual/rtrs-server/blktest"},
    {CTL "subsystem", 0777, "../../../../class/rnbd-server"},
    {CTL "uevent", 0644, ""},
    {CTL "devices/nullb0/block_dev", 0777, "../../../../block/nullb0"},
    {OPEN "read_only", 0444, "0\n"},
    {OPEN "force_close", 0644, "Usage: echo 1 > force_close\n"},
    {OPEN "access_mode", 0444, "rw\n"},
    {OPEN "mapping_path", 0444, "/dev/nullb0\n"},
    {"devices/virtual/rtrs-server/blktest/uevent", 0644, ""},
    {"devices/virtual/rtrs-server/blktest/subsystem", 0777, "../../../../class/rtrs-server"},
    {SERVER_PATH "hca_name", 0444, "rxe0\n"},
    {SERVER_PATH "hca_port", 0444, "1\n"},
    {SERVER_PATH "src_addr", 0444, "ip:10.0.2.15\n"},
    {SERVER_PATH "dst_addr", 0444, "ip:10.0.2.16\n"},
    {SERVER_PATH "disconnect", 0644, "Usage: echo 1 > disconnect\n"},
    {SERVER_PATH "stats/rdma", 0644, "5 12776 0 0\n"},
    {"module/rnbd_server/parameters/port_nr", 0444, "1234\n"},
    {"module/rnbd_server/parameters/dev_search_path", 0444, "/\n"},
    {"module/rtrs_server/parameters/always_invalidate", 0444, "Y\n"},
    {"module/rtrs_server/parameters/max_chunk_size", 0444, "131072\n"},
    {"module/rtrs_server/parameters/sess_queue_depth", 0444, "512\n"},
};

const LastErrors kNone;

std::map<std::string, Node> tree_of(const AdminResponse& state, const LastErrors& errors = kNone,
                                    unsigned cpus = 2) {
  std::map<std::string, Node> tree;
  for (const Node& node : project({state, errors, cpus}, {})) {
    EXPECT_TRUE(tree.emplace(node.path, node).second) << node.path << " is there twice";
  }
  return tree;
}

std::string text_at(const AdminResponse& state, const std::string& path,
                    const LastErrors& errors = kNone) {
  const Nodes nodes = project({state, errors, 2}, {path, Depth::node});
  return nodes.size() == 1 ? nodes[0].text : "(not there)";
}

void expect_all(const std::vector<Recorded>& recorded, const AdminResponse& state) {
  const auto tree = tree_of(state);
  for (const Recorded& expected : recorded) {
    const auto at = tree.find(expected.path);
    ASSERT_NE(at, tree.end()) << expected.path;
    const Node& node = at->second;
    EXPECT_EQ(node.mode, expected.mode) << expected.path;
    EXPECT_EQ(node.kind == NodeKind::directory, expected.text == nullptr) << expected.path;
    EXPECT_EQ(node.kind == NodeKind::link, expected.mode == 0777) << expected.path;
    if (expected.text != nullptr) {
      EXPECT_EQ(node.text, expected.text) << expected.path;
    }
  }
}

TEST(Tree, ShowsEveryAttributeOfTheKernelsClientWithItsModeAndFormat) {
  expect_all(kClient, client_state());
}
TEST(Tree, ShowsEveryAttributeOfTheKernelsServerWithItsModeAndFormat) {
  expect_all(kServer, server_state());
}

TEST(Tree, EveryNodeHasItsDirectoriesBeforeIt) {
  for (const AdminResponse& state : {client_state(), server_state()}) {
    std::map<std::string, NodeKind> seen;
    for (const Node& node : project({state, kNone, 2}, {})) {
      if (const auto slash = node.path.rfind('/'); slash != std::string::npos) {
        const auto parent = seen.find(node.path.substr(0, slash));
        ASSERT_NE(parent, seen.end()) << node.path;
        EXPECT_EQ(parent->second, NodeKind::directory) << node.path;
      }
      seen.emplace(node.path, node.kind);
    }
  }
}

TEST(Tree, LinksLeadToNodesOfTheTree) {
  const auto tree = tree_of(client_state());
  for (const auto& [path, node] : tree) {
    if (node.kind != NodeKind::link) continue;
    std::vector<std::string> parts;
    const auto walk = [&](std::string_view text) {
      while (!text.empty()) {
        const std::string_view part = text.substr(0, text.find('/'));
        text.remove_prefix(std::min(text.size(), part.size() + 1));
        if (part == "..")
          parts.pop_back();
        else
          parts.emplace_back(part);
      }
    };
    walk(path.substr(0, path.rfind('/')));
    walk(node.text);
    std::string target;
    for (const std::string& part : parts) target += (target.empty() ? "" : "/") + part;
    EXPECT_TRUE(tree.contains(target)) << path << " -> " << node.text;
  }
}

TEST(Tree, APartOfItIsTheSameAsThatPartOfTheWhole) {
  for (const AdminResponse& state : {client_state(), server_state()}) {
    const auto whole = tree_of(state);
    for (const auto& [path, node] : whole) {
      const Nodes alone = project({state, kNone, 2}, {path, Depth::node});
      ASSERT_EQ(alone.size(), 1U) << path;
      EXPECT_EQ(alone[0].text, node.text) << path;
      std::size_t children = 0;
      for (const auto& [other, ignored] : whole)
        if (other != path && other.substr(0, other.rfind('/')) == path &&
            other.find('/') != std::string::npos)
          ++children;
      if (path.empty()) continue;
      EXPECT_EQ(project({state, kNone, 2}, {path, Depth::children}).size(), children + 1) << path;
    }
    EXPECT_TRUE(project({state, kNone, 2}, {"class/nosuch", Depth::node}).empty());
  }
}

TEST(Tree, WhatIsWritableTellsWhyAWriteFailedBesideIt) {
  for (const AdminResponse& state : {client_state(), server_state()}) {
    const auto tree = tree_of(state);
    for (const auto& [path, node] : tree) {
      const bool writable = (node.mode & 0222) != 0 && node.kind == NodeKind::attribute;
      EXPECT_EQ(writable, node.action != Action::none) << path;
      if (!writable || node.action == Action::uevent) continue;
      ASSERT_TRUE(tree.contains(node.last_error)) << path;
      EXPECT_EQ(tree.at(node.last_error).text, "") << path;
      EXPECT_EQ(tree.at(node.last_error).mode, 0444U) << path;
    }
  }
  const std::string at = "devices/virtual/rnbd-client/ctl/last_error";
  EXPECT_EQ(text_at(client_state(), at, {{at, "no such volume"}}), "no such volume\n");
}

TEST(Tree, DirectoriesComeAndGoWithWhatTheyShow) {
  AdminResponse state = client_state();
  state.devices[0].state = "init";  // being mapped
  EXPECT_EQ(text_at(state, "block/rnbd0"), "(not there)");
  state.devices.clear();
  state.sessions.clear();
  const auto tree = tree_of(state);
  EXPECT_FALSE(tree.contains("devices/virtual/rtrs-client"));
  EXPECT_TRUE(tree.contains("class/rtrs-client"));
  EXPECT_TRUE(tree.contains("class/rnbd-client/ctl"));
}

TEST(Tree, StatesAreTheKernelsWords) {
  AdminResponse state = client_state();
  for (const char* phase : {"connecting", "reconnecting", "closed"}) {
    state.sessions[0].paths[0].state = phase;
    EXPECT_EQ(text_at(state, PATH "state"), "disconnected\n");
    EXPECT_EQ(text_at(state, PATH "phase"), phase + std::string("\n"));
  }
  state.devices[0].state = "failed";
  EXPECT_EQ(text_at(state, DEVICE "state"), "closed\n");
  EXPECT_EQ(text_at(state, DEVICE "failed"), "1\n");
  state.sessions[0].policy = "round-robin";
  EXPECT_EQ(text_at(state, SESSION "mpath_policy"), "round-robin (RR: 0)\n");
  state.sessions[0].policy = "min-latency";
  EXPECT_EQ(text_at(state, SESSION "mpath_policy"), "min-latency (ML: 2)\n");
}

TEST(Tree, ASessionCountsWhatItsPathsDoTogether) {
  AdminResponse state = client_state();
  SessionView& session = state.sessions[0];
  PathView other{.name = "ip:10.0.3.15@ip:10.0.3.16", .state = "connected"};
  other.reads = 1, other.read_bytes = 24, other.writes = 2, other.write_bytes = 8192;
  other.errors = 3, other.inflight = 4, other.reconnects = 5;
  session.paths.push_back(other);
  add_up(session);
  EXPECT_EQ(text_at(state, SESSION "io"), "6 12800 2 8192 3 4 5\n");
  state = server_state();
  state.sessions[0].paths.push_back(other);
  add_up(state.sessions[0]);
  EXPECT_EQ(text_at(state, "devices/virtual/rtrs-server/blktest/io"), "6 12800 2 8192 3 4\n");
}

TEST(Tree, PathsTellWhatGuardsTheirBytes) {
  AdminResponse state = client_state();
  state.sessions[0].paths[0].digest = "icrc";
  EXPECT_EQ(text_at(state, PATH "digest"), "icrc\n");
  state = server_state();
  state.sessions[0].paths[0].digest = "crc32c";
  EXPECT_EQ(text_at(state, SERVER_PATH "digest"), "crc32c\n");
}

TEST(Tree, OnSocketsTheDeviceIsTheTransport) {
  AdminResponse state = client_state();
  PathView& path = state.sessions[0].paths[0];
  path.device.clear();
  path.source_address.clear();
  EXPECT_EQ(text_at(state, PATH "hca_name"), "tcp\n");
  EXPECT_EQ(text_at(state, PATH "hca_port"), "0\n");
  EXPECT_EQ(text_at(state, PATH "src_addr"), "ip:10.0.2.15\n");
}

TEST(Tree, CountsOfCpusThatDidNothingAreZero) {
  AdminResponse state = client_state();
  state.sessions[0].paths[0].migrated_from.clear();
  EXPECT_EQ(text_at(state, PATH "stats/cpu_migration_from"), "0 0 \n");
}

TEST(Tree, NamesFromOutsideStayInTheirDirectory) {
  AdminResponse state = server_state();
  state.sessions[0].name = "../..";
  state.opens[0].session = "..";
  state.opens[0].device = "/srv/a/../b";
  const auto tree = tree_of(state);
  EXPECT_TRUE(tree.contains("devices/virtual/rtrs-server/..!.."));
  for (const auto& [path, node] : tree)
    EXPECT_EQ(("/" + path + "/").find("/../"), std::string::npos) << path;
}

TEST(Tree, PathsOfOneNameAreToldApart) {
  AdminResponse state = client_state();
  PathView twin = state.sessions[0].paths[0];
  twin.number = 2;
  twin.port = 1235;
  state.sessions[0].paths.push_back(twin);
  const auto tree = tree_of(state);
  const std::string first = "devices/virtual/rtrs-client/blktest/paths/ip:10.0.2.15@ip:10.0.2.16";
  EXPECT_EQ(tree.at(first + "/disconnect").path_word, "1");
  EXPECT_EQ(tree.at(first + "#2/disconnect").path_word, "2");
  EXPECT_EQ(tree.at(first + "#2/port").text, "1235\n");
}

TEST(Tree, VolumesThatAreFilesAreNamedBelowTheSearchPath) {
  AdminResponse state = server_state();
  state.daemon.search_path = "/srv/volumes/%SESSNAME%";
  state.opens[0].device = "/srv/volumes/blktest/disk0";
  EXPECT_EQ(text_at(state, CTL "devices/blktest!disk0/block_dev"), "/srv/volumes/blktest/disk0");
  state.opens[0].device.clear();
  EXPECT_EQ(text_at(state, CTL "devices/dev!nullb0/sessions/blktest/access_mode"), "rw\n");
}

TEST(Tree, ItsSidesAreToldByThePath) {
  for (const auto& [path, node] : tree_of(client_state()))
    if (!is_lasting(path) && !path.ends_with("/block")) {
      EXPECT_EQ(side_of(path), Side::client) << path;
    }
  for (const auto& [path, node] : tree_of(server_state()))
    if (!is_lasting(path) && !path.ends_with("/block")) {
      EXPECT_EQ(side_of(path), Side::server) << path;
    }
  for (const char* path : {"", "class", "devices/virtual", "devices/virtual/block", "block"})
    EXPECT_EQ(side_of(path), Side::both) << path;
}

TEST(Tree, SurvivesTheAdminProtocol) {
  for (const auto& [path, node] : tree_of(client_state())) {
    const Node again = node_of(view_of(node));
    EXPECT_EQ(again.path, node.path);
    EXPECT_EQ(again.kind, node.kind);
    EXPECT_EQ(again.mode, node.mode);
    EXPECT_EQ(again.text, node.text);
  }
}

}  // namespace
}  // namespace rnbd::daemon
