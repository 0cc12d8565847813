#pragma once
// Servers with disks and clients with devices on simulated hosts, for tests of both sides of RNBD.

#include <map>

#include "fabric/sim/fabric.h"
#include "rnbd/client/remote_device.h"
#include "rnbd/testing/disk.h"
#include "rtrs/client/session.h"
#include "rtrs/server/server.h"

namespace rnbd::testing {

using fabric::sim::Host;
using fabric::sim::SimFabric;

inline constexpr std::uint16_t kPort = 1234;

inline rtrs::server::ServerOptions small_server() {
  return {.queue_depth = 32,
          .max_chunk_size = 16384,
          .header_size = 4096,
          .heartbeat = {},
          .handshake_timeout = 5s,
          .max_sessions = 16,
          .max_paths_per_session = 4,
          .max_connections_per_path = 16,
          .max_chunk_memory = 1 << 30};
}

inline std::vector<Loop*> loops_of(const std::vector<SimFabric*>& fabrics) {
  std::vector<Loop*> loops;
  for (SimFabric* fabric : fabrics) loops.push_back(&fabric->loop());
  return loops;
}
inline std::vector<fabric::Fabric*> upcast(const std::vector<SimFabric*>& fabrics) {
  return {fabrics.begin(), fabrics.end()};
}

// One life of a server: an RTRS server and what handles its requests.
class ServerLife {
 public:
  // `make_handler` makes the handler for these loops.
  using MakeHandler =
      std::function<std::unique_ptr<rtrs::server::RequestHandler>(const std::vector<Loop*>&)>;
  ServerLife(World& world, Host& host, std::size_t loops,
             const rtrs::server::ServerOptions& options, const MakeHandler& make_handler)
      : random_(world.random().next()) {
    for (std::size_t i = 0; i < loops; ++i) fabrics_.push_back(&host.add_fabric());
    handler = make_handler(loops_of(fabrics_));
    server_ = rtrs::server::Server::create(upcast(fabrics_), random_, *handler, options).value();
    EXPECT_FALSE(server_->listen(host.address_with_port(kPort)));
  }
  void stop() {
    if (stopping_) return;
    stopping_ = true;
    server_->stop([this] {
      server_.reset();
      stopped = true;
    });
  }
  std::unique_ptr<rtrs::server::RequestHandler> handler;
  bool stopped = false;

 private:
  SeededRandom random_;
  std::vector<SimFabric*> fabrics_;
  std::unique_ptr<rtrs::server::Server> server_;
  bool stopping_ = false;
};

// A host that serves, through lives: a crash leaves the old life behind as a ghost.
class ServerBox {
 public:
  ServerBox(World& world, std::size_t loops, rtrs::server::ServerOptions options,
            ServerLife::MakeHandler make_handler)
      : world_(world),
        host_(world.add_host("server")),
        loops_(loops),
        options_(options),
        make_handler_(std::move(make_handler)) {
    start();
  }
  ~ServerBox() {
    stop();
    EXPECT_TRUE(world_.run_until([&] { return all_stopped(); }, 120s)) << "a server did not stop";
  }
  Host& host() { return host_; }
  fabric::Address address() const { return host_.address_with_port(kPort); }
  ServerLife& life() { return *lives_.back(); }
  void start() {
    lives_.push_back(std::make_unique<ServerLife>(world_, host_, loops_, options_, make_handler_));
  }
  void stop() { lives_.back()->stop(); }
  // As who the lives that start from now on announce themselves.
  void set_identity(const wire::Extension& identity) { options_.identity = identity; }
  bool stopped() const { return lives_.back()->stopped; }
  bool all_stopped() const {
    return std::all_of(lives_.begin(), lives_.end(),
                       [](const auto& life) { return life->stopped; });
  }
  void crash(Host::Death death = Host::Death::noticed) {
    host_.crash(death);
    lives_.back()->stop();
  }
  void restart() {
    host_.restart();
    start();
  }

 private:
  World& world_;
  Host& host_;
  const std::size_t loops_;
  rtrs::server::ServerOptions options_;
  const ServerLife::MakeHandler make_handler_;
  std::vector<std::unique_ptr<ServerLife>> lives_;
};

struct ClientBoxOptions {
  std::string name = "client";
  std::size_t loops = 1;
  Duration reconnect_delay = 50ms;
  std::optional<rtrs::client::SessionIdentity> resume{};
};

// A host with an RNBD client.
class ClientBox {
 public:
  ClientBox(World& world, ServerBox& server, const ClientBoxOptions& options = {})
      : ClientBox(world, world.add_host(options.name), server, options) {}
  // On a host that was there before.
  ClientBox(World& world, Host& host, ServerBox& server, const ClientBoxOptions& options)
      : ClientBox(world, host, {server.address()}, options) {}
  // The nth path leads to the nth address.
  ClientBox(World& world, Host& host, const std::vector<fabric::Address>& servers,
            const ClientBoxOptions& options)
      : world_(world), host_(host), random_(world.random().next()) {
    for (std::size_t i = 0; i < options.loops; ++i) fabrics_.push_back(&host_.add_fabric());
    client::ClientOptions client_options;
    client_options.session.name = options.name;
    for (std::size_t i = 0; i < servers.size(); ++i)
      client_options.session.paths.push_back({host_.address(i), servers[i]});
    client_options.session.reconnect_delay = options.reconnect_delay;
    client_options.session.reconnect_delay_max = options.reconnect_delay * 4;
    client_options.session.resume = options.resume;
    client_options.on_identity = [this](const auto& identity) { identities.push_back(identity); };
    client_ = client::Client::create(upcast(fabrics_), 0, random_, client_options).value();
  }
  ~ClientBox() {
    for (client::RemoteDevice* device : client_->devices()) close(*device);
    bool closed = false;
    on_home([&] { client_->close([&] { closed = true; }); });
    EXPECT_TRUE(world_.run_until([&] { return closed; }, 120s)) << "a client did not close";
  }

  Host& host() { return host_; }
  client::Client& client() { return *client_; }
  SimLoop& loop(std::size_t index = 0) { return fabrics_[index]->sim_loop(); }
  std::size_t loops() const { return fabrics_.size(); }

  tl::expected<client::RemoteDevice*, client::Failure> open(const client::DeviceOptions& options) {
    std::optional<tl::expected<client::RemoteDevice*, client::Failure>> result;
    on_home([&] { client_->open_device(options, [&](auto opened) { result = opened; }); });
    EXPECT_TRUE(world_.run_until([&] { return result.has_value(); }, 120s));
    return *result;
  }
  client::RemoteDevice& must_open(const std::string& path,
                                  client::AccessMode mode = client::AccessMode::rw,
                                  Duration hold_timeout = {}) {
    auto device = open({.path = path, .mode = mode, .hold_timeout = hold_timeout});
    EXPECT_TRUE(device) << device.error().error.message();
    return **device;
  }
  // The client is used on its home loop: what that tells other loops arrives in this order only
  // from there.
  void on_home(std::function<void()> call) { world_.after(0ns, std::move(call), &loop()); }
  std::vector<rtrs::client::SessionIdentity> identities;  // as reported, in order
  void close(client::RemoteDevice& device) {
    bool closed = false;
    on_home([&] { client_->close_device(device, [&](std::error_code) { closed = true; }); });
    EXPECT_TRUE(world_.run_until([&] { return closed; }, 120s)) << "a device did not close";
  }

 private:
  World& world_;
  Host& host_;
  SeededRandom random_;
  std::vector<SimFabric*> fabrics_;
  std::unique_ptr<client::Client> client_;
};

// One block request with memory of its own.
struct Io : block::Request {
  Io(block::Op op_, std::uint64_t offset_, std::uint64_t length_, std::uint8_t flags_ = 0) {
    op = op_;
    offset = offset_;
    length = length_;
    flags = flags_;
    if (block::carries_data(op)) memory.resize(length_);
    segment = {memory.data(), memory.size()};
    if (!memory.empty()) segments = {&segment, 1};
    done = [](block::Request& request) {
      auto& self = static_cast<Io&>(request);
      ++self.completions;
      if (self.then) self.then(self);
    };
  }
  Io& fill(std::uint64_t seed) {
    SeededRandom random(seed);
    for (std::byte& b : memory) b = static_cast<std::byte>(random.next());
    return *this;
  }
  // The memory in pieces of `size` bytes.
  Io& scatter(std::size_t size) {
    pieces.clear();
    for (std::size_t at = 0; at < memory.size(); at += size) {
      pieces.push_back({memory.data() + at, std::min(size, memory.size() - at)});
    }
    segments = pieces;
    return *this;
  }
  std::vector<std::byte> memory;
  iovec segment{};
  std::vector<iovec> pieces;
  int completions = 0;
  std::function<void(Io&)> then;
};

// A queue on one loop, opened and destroyed there.
class Door {
 public:
  Door(World& world, block::Device& device, SimLoop& loop) : world_(world), loop_(loop) {
    on_loop([&] { queue_ = device.open_queue(loop).value(); });
  }
  ~Door() {
    on_loop([&] { queue_.reset(); });
  }
  void submit(Io& io) {
    world_.after(
        0ns, [this, &io] { queue_->submit(io); }, &loop_);
  }
  std::error_code run(Io& io) {
    const int before = io.completions;
    submit(io);
    EXPECT_TRUE(world_.run_until([&] { return io.completions > before; }, 300s))
        << "a request did not complete";
    return io.result;
  }
  std::error_code run(Io&& io) { return run(io); }
  block::Queue& queue() { return *queue_; }
  SimLoop& loop() { return loop_; }

 private:
  void on_loop(const std::function<void()>& call) {
    bool done = false;
    world_.after(
        0ns,
        [&] {
          call();
          done = true;
        },
        &loop_);
    EXPECT_TRUE(world_.run_until([&] { return done; }, 10s));
  }
  World& world_;
  SimLoop& loop_;
  std::unique_ptr<block::Queue> queue_;
};

// A world with one serving host over disks.
class Site {
 public:
  struct Options {
    fabric::sim::Options world{};
    std::size_t server_loops = 2;
    rtrs::server::ServerOptions server = small_server();
    server::ExportsOptions exports{};
  };
  Site() : Site(Options{}) {}
  explicit Site(const Options& options)
      : world(options.world),
        opener(world),
        options_(options),
        server(world, options.server_loops, options.server,
               [this](const std::vector<Loop*>& loops) {
                 return server::Exports::create(
                     loops, opener, options_.server.max_chunk_size - options_.server.header_size,
                     options_.exports);
               }) {}

  Disk& add_disk(const std::string& name, const DiskOptions& disk_options = small_disk()) {
    disks_.push_back(std::make_unique<Disk>(world, disk_options));
    opener.add(name, *disks_.back());
    return *disks_.back();
  }
  server::Exports& exports() { return static_cast<server::Exports&>(*server.life().handler); }
  std::vector<server::OpenInfo> list() {
    std::optional<std::vector<server::OpenInfo>> all;
    exports().list([&](auto infos) { all = std::move(infos); });
    EXPECT_TRUE(world.run_until([&] { return all.has_value(); }, 10s));
    return *all;
  }
  // A server of ours, in its nth life, on the nth boot of its host. Counts from the next start on.
  void announce(std::uint8_t life, std::uint8_t boot) {
    options_.exports.identity = {
        .features = wire::kFeatureFence, .instance = {life}, .boot = {boot}};
    server.set_identity(options_.exports.identity);
  }
  fabric::sim::Link& link(ClientBox& client) { return world.link(client.host(), server.host()); }

  World world;

 private:
  std::vector<std::unique_ptr<Disk>> disks_;

 public:
  DiskOpener opener;

 private:
  Options options_;

 public:
  ServerBox server;
};

}  // namespace rnbd::testing
