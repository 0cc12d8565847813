#pragma once
// A client session and a server on two simulated hosts, for tests.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "base/log.h"
#include "fabric/sim/fabric.h"
#include "fabric/sim/world.h"
#include "rtrs/client/session.h"
#include "rtrs/server/server.h"
#include "rtrs/testing/store.h"

namespace rnbd::rtrs::testing {

using namespace std::chrono_literals;  // NOLINT: tests
using fabric::sim::FabricOptions;
using fabric::sim::Host;
using fabric::sim::SimFabric;
using fabric::sim::SimLoop;
using fabric::sim::World;

inline constexpr std::uint16_t kPort = 1234;

struct PairOptions {
  fabric::sim::Options world;
  std::size_t client_loops = 1;
  std::size_t server_loops = 1;
  std::size_t paths = 1;
  FabricOptions client_fabric;
  FabricOptions server_fabric;
  server::ServerOptions server{
      .queue_depth = 16, .max_chunk_size = 16384, .max_chunk_memory = 1 << 30};
  client::SessionOptions session{.name = "test", .paths = {}};
  std::size_t store_size = 1 << 20;
};

// One request with its own memory, guarded on both sides: bytes around the data must never change.
struct Io : client::Request {
  static constexpr std::size_t kGuard = 64;

  Io(Direction way, std::uint64_t offset, std::size_t length, int error = 0,
     std::uint32_t delay_us = 0) {
    direction = way;
    header.offset = offset;
    header.error = static_cast<std::uint32_t>(error);
    header.delay_us = delay_us;
    message = wire::bytes_of(header);
    memory.assign(length + 2 * kGuard, std::byte{0xa5});
    segment = {memory.data() + kGuard, length};
    data = {&segment, length == 0 ? 0U : 1U};
    data_length = static_cast<std::uint32_t>(length);
    done = [](client::Request& request, std::error_code why) {
      auto& self = static_cast<Io&>(request);
      ++self.completions;
      self.result = why;
      self.at_completion = self.memory;
      if (self.then) self.then();
    };
  }
  std::span<std::byte> bytes() { return std::span(memory).subspan(kGuard, data_length); }
  bool guards_intact() const {
    const auto intact = [](std::byte b) { return b == std::byte{0xa5}; };
    return std::all_of(memory.begin(), memory.begin() + kGuard, intact) &&
           std::all_of(memory.end() - kGuard, memory.end(), intact);
  }
  bool changed_after_completion() const { return completions > 0 && memory != at_completion; }

  StoreMessage header{};
  std::vector<std::byte> memory;
  std::vector<std::byte> at_completion;
  iovec segment{};
  int completions = 0;
  std::error_code result;
  std::function<void()> then;
};

inline void fill(std::span<std::byte> bytes, std::uint64_t seed) {
  SeededRandom random(seed);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random.next());
}

class Pair : public client::SessionHandler {
 public:
  explicit Pair(PairOptions options = {})
      : options_(std::move(options)), world_(options_.world), random_(options_.world.seed) {
    server_host_ = &world_.add_host("server", options_.paths);
    client_host_ = &world_.add_host("client", options_.paths);
    start_server();
    for (std::size_t i = 0; i < options_.client_loops; ++i) {
      client_fabrics_.push_back(&client_host_->add_fabric(nullptr, options_.client_fabric));
    }
  }
  ~Pair() override {
    close();
    stop_server();
    EXPECT_TRUE(world_.run_until([&] { return !session_ && !server_; }, 60s));
  }

  World& world() { return world_; }
  Host& server_host() { return *server_host_; }
  Host& client_host() { return *client_host_; }
  fabric::sim::Link& link(std::size_t path = 0) {
    return world_.link(*client_host_, *server_host_, path, path);
  }
  Store& store() { return *store_; }
  server::Server& server() { return *server_; }
  client::Session& session() { return *session_; }
  client::Lane& lane(std::size_t index = 0) { return session_->lane(index); }
  SimFabric& client_fabric(std::size_t index = 0) { return *client_fabrics_[index]; }
  SimFabric& server_fabric(std::size_t index = 0) { return *server_fabrics_[index]; }
  PairOptions& options() { return options_; }
  fabric::Address server_address(std::size_t path = 0) const {
    return server_host_->address_with_port(kPort, path);
  }

  void start_server() {
    server_fabrics_.clear();
    std::vector<SimLoop*> loops;
    std::vector<fabric::Fabric*> fabrics;
    for (std::size_t i = 0; i < options_.server_loops; ++i) {
      server_fabrics_.push_back(&server_host_->add_fabric(nullptr, options_.server_fabric));
      loops.push_back(&server_fabrics_.back()->sim_loop());
      fabrics.push_back(server_fabrics_.back());
    }
    auto bytes = store_ ? store_->bytes() : std::vector<std::byte>();
    old_stores_.push_back(std::move(store_));
    store_ = std::make_unique<Store>(world_, loops, options_.store_size);
    if (!bytes.empty()) store_->bytes() = bytes;
    server_ = server::Server::create(fabrics, random_, *store_, options_.server).value();
    for (std::size_t path = 0; path < options_.paths; ++path) {
      EXPECT_FALSE(server_->listen(server_address(path)));
    }
  }
  // Stops it; the object goes when it has stopped.
  void stop_server() {
    if (!server_ || server_stopping_) return;
    server_stopping_ = true;
    on_loop(server_fabric().sim_loop(), [this] {
      server_->stop([this] {
        server_.reset();
        server_stopping_ = false;
      });
    });
  }
  // Calls as the user of an object would: from the loop it lives on.
  void on_loop(SimLoop& loop, std::function<void()> call) {
    world_.after(Duration::zero(), std::move(call), &loop);
  }
  // Loses the server's power now; it comes back, empty of sessions, when its ghost is gone and
  // `after` passed.
  void crash_server(Host::Death death, Duration after) {
    if (!server_ || server_stopping_) return;
    server_host_->crash(death);
    server_stopping_ = true;
    on_loop(server_fabric().sim_loop(), [this, after] {
      server_->stop([this, after] {
        server_.reset();
        world_.after(after, [this] {
          server_stopping_ = false;
          server_host_->restart();
          start_server();
        });
      });
    });
  }
  bool server_running() const { return server_ && !server_stopping_; }
  [[nodiscard]] bool stop_server_and_wait() {
    stop_server();
    return world_.run_until([&] { return !server_; }, 60s);
  }
  // As if the machine lost power and came back; the old objects are taken down as ghosts.
  [[nodiscard]] bool crash_server() {
    server_host_->crash();
    if (!stop_server_and_wait()) return false;
    server_host_->restart();
    start_server();
    return true;
  }

  Result<void> make_session() {
    auto session_options = options_.session;
    if (session_options.paths.empty()) {
      for (std::size_t path = 0; path < options_.paths; ++path) {
        session_options.paths.push_back({client_host_->address(path), server_address(path)});
      }
    }
    std::vector<fabric::Fabric*> fabrics(client_fabrics_.begin(), client_fabrics_.end());
    auto made = client::Session::create(fabrics, 0, random_, *this, session_options);
    if (!made) return fail(made.error());
    session_ = std::move(*made);
    return {};
  }
  void start() {
    ASSERT_TRUE(make_session());
    on_loop(client_fabric().sim_loop(), [this] { session_->open(); });
  }
  [[nodiscard]] bool open() {
    start();
    return world_.run_until([&] { return connects_ > 0 || closed_; }, 60s) && !closed_;
  }
  void close() {
    if (!session_ || closing_) return;
    closing_ = true;
    on_loop(client_fabric().sim_loop(), [this] {
      if (session_) session_->close();
    });
  }
  [[nodiscard]] bool close_and_wait() {
    close();
    return world_.run_until([&] { return !session_; }, 60s);
  }
  // Submits on the lane's loop, as its user would.
  void submit(client::Request& request, std::size_t lane_index = 0) {
    client::Lane& to =
        lane_index == kService ? session_->service_lane() : session_->lane(lane_index);
    on_loop(static_cast<SimLoop&>(to.loop()), [&to, &request] { to.submit(request); });
  }
  // Submits and waits for its end.
  std::error_code run(Io& io, std::size_t lane_index = 0) {
    const int before = io.completions;
    submit(io, lane_index);
    EXPECT_TRUE(world_.run_until([&] { return io.completions > before; }, 60s));
    return io.result;
  }
  bool session_alive() const { return session_ != nullptr; }
  bool connected() const { return connects_ > disconnects_ && !closed_; }

  static constexpr std::size_t kService = ~std::size_t{0};
  int connects_ = 0;
  int disconnects_ = 0;
  bool closed_ = false;
  bool closing_ = false;
  int unfenced_ = 0;
  int fenced_ = 0;
  int notices_ = 0;
  std::error_code why_disconnected_;
  std::error_code why_closed_;

 private:
  void on_session_connected() override { ++connects_; }
  void on_session_disconnected(std::error_code why) override {
    ++disconnects_;
    why_disconnected_ = why;
  }
  void on_session_unfenced() override { ++unfenced_; }
  void on_session_fenced() override { ++fenced_; }
  void on_session_notice() override { ++notices_; }
  void on_session_closed(std::error_code why) override {
    closed_ = true;
    why_closed_ = why;
    session_.reset();
  }

  PairOptions options_;
  World world_;
  SeededRandom random_;
  Host* server_host_ = nullptr;
  Host* client_host_ = nullptr;
  std::vector<SimFabric*> server_fabrics_;
  std::vector<SimFabric*> client_fabrics_;
  std::vector<std::unique_ptr<Store>> old_stores_;  // a ghost may still answer
  std::unique_ptr<Store> store_;
  std::unique_ptr<server::Server> server_;
  std::unique_ptr<client::Session> session_;
  bool server_stopping_ = false;
};

}  // namespace rnbd::rtrs::testing
