// What is peculiar to verbs: devices and their absence, connections that change threads, queues
// filled to the brim, ends that are killed. What needs a device is skipped without one.
#include "fabric/verbs/verbs_fabric.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>

#include "fabric/conformance/end.h"
#include "fabric/verbs/connection.h"
#include "fabric/verbs/device.h"
#include "fabric/verbs/domain.h"
#include "fabric/verbs/memlock.h"
#include "fabric/verbs/testing/device.h"
#include "reactor/testing.h"

namespace rnbd::fabric::verbs {
namespace {

using namespace std::chrono_literals;
using conformance::Bytes;
using conformance::Door;
using conformance::End;
using conformance::immediate_work;
using conformance::pattern;
using conformance::vec;
using conformance::write_imm_work;
using conformance::write_work;
using testing::run_until;

std::span<const iovec> one(const iovec& part) { return {&part, 1}; }

// ---- Without a device ----

TEST(VerbsFabric, WithoutADeviceReachesNothingAndSaysSo) {
  if (!list_devices().empty()) GTEST_SKIP() << "there is a device";
  auto reactor = make_test_reactor();
  VerbsFabric fabric(*reactor);
  const Address address = *Address::parse("ip:127.0.0.1", 0);
  EXPECT_EQ(fabric.ways({.source = {}, .destination = address}), 0U);
  EXPECT_EQ(fabric.create_domain({.source = {}, .destination = address}).error(),
            from_errno(ENODEV));
  Door door;
  EXPECT_EQ(fabric.listen(address, door).error(), from_errno(ENODEV));
}

TEST(VerbsFabric, LeavesTcpAndUnixAddressesToOthers) {
  auto reactor = make_test_reactor();
  VerbsFabric fabric(*reactor);
  Door door;
  for (const char* text : {"tcp:10.0.0.1", "unix:/run/rnbd.sock"}) {
    const Address address = *Address::parse(text, 1234);
    EXPECT_EQ(fabric.ways({.source = {}, .destination = address}), 0U) << text;
    EXPECT_EQ(fabric.listen(address, door).error(), from_errno(EPROTONOSUPPORT)) << text;
  }
}

TEST(Memlock, ComplainsOnlyAboutWhatExceedsTheLimit) {
  EXPECT_EQ(memlock_complaint(0), "");
  const auto limit = memlock_limit();
  if (!limit) {
    EXPECT_EQ(memlock_complaint(std::size_t{1} << 50), "");
    return;
  }
  EXPECT_EQ(memlock_complaint(*limit), "");
  EXPECT_NE(memlock_complaint(*limit + 1).find("RLIMIT_MEMLOCK"), std::string::npos);
}

// ---- With one ----

class VerbsDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!test_address(AF_INET)) GTEST_SKIP() << kNoDevice;
    address_ = *test_address(AF_INET);
    reactor_ = make_test_reactor();
    fabric_ = std::make_unique<VerbsFabric>(*reactor_);
    listener_ = std::move(*fabric_->listen(address_, door_));
    domain_ = std::move(*fabric_->create_domain(path()));
  }
  PathAddress path() const { return {.source = {}, .destination = listener_->local_address()}; }
  bool wait(const std::function<bool()>& done) { return run_until(*reactor_, done, 20s); }
  Result<std::unique_ptr<Connection>> connect(End& end, const ConnectionOptions& options) {
    ConnectRequest request;
    request.address = path();
    return fabric_->connect(request, *domain_, options, end);
  }
  std::unique_ptr<IncomingConnection> wait_request() {
    EXPECT_TRUE(wait([&] { return !door_.requests.empty(); }));
    auto request = std::move(door_.requests.front());
    door_.requests.clear();
    return request;
  }
  // Connects both ends on this fabric.
  void join(End& client, End& server, const ConnectionOptions& options) {
    client.own(connect(client, options));
    auto request = wait_request();
    if (server_domain_ == nullptr) server_domain_ = std::move(*fabric_->create_domain(*request));
    server.own(fabric_->accept(std::move(request), *server_domain_, {}, options, server));
    ASSERT_TRUE(wait([&] { return client.connected == 1 && server.connected == 1; }));
  }
  void close(std::initializer_list<End*> ends) {
    for (End* end : ends) {
      if (end->closed == 0) end->close();
    }
    for (End* end : ends) EXPECT_TRUE(wait([&] { return end->closed == 1; }));
  }

  Address address_;
  std::unique_ptr<Reactor> reactor_;
  std::unique_ptr<VerbsFabric> fabric_;
  Door door_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Domain> domain_;
  std::unique_ptr<Domain> server_domain_;
};

TEST_F(VerbsDevice, IsListedAndNamedByItsDomains) {
  const DeviceName name = domain_->device();
  EXPECT_FALSE(name.name.empty());
  bool listed = false;
  for (const DevicePort& port : list_devices()) {
    if (port.device != name.name || port.port != name.port) continue;
    listed = true;
    EXPECT_EQ(port.state, "active");
    EXPECT_FALSE(port.gids.empty());
    EXPECT_GT(port.queue_depth_max, 0);
  }
  EXPECT_TRUE(listed);
}

TEST_F(VerbsDevice, NotChosenIsNotUsed) {
  Options options;
  options.device = "other0";
  VerbsFabric picky(*reactor_, options);
  EXPECT_EQ(picky.ways(path()), 0U);
  EXPECT_EQ(picky.create_domain(path()).error(), from_errno(ENODEV));
  options.device = domain_->device().name;
  options.port = domain_->device().port;
  VerbsFabric exact(*reactor_, options);
  EXPECT_EQ(exact.ways(path()), 1U);
}

TEST_F(VerbsDevice, ConnectsAndClosesHundredsOfTimes) {
  for (int i = 0; i < 200; ++i) {
    End client, server;
    join(client, server, {.send_depth = 4, .receive_depth = 4, .windows = 1});
    if (i % 3 == 0) client.close(Errc::session_closed, true);
    close({&client, &server});
    if (HasFailure()) FAIL() << "in cycle " << i;
  }
}

TEST_F(VerbsDevice, AQueueOfDepthOneCarriesAnyNumberOfItems) {
  End client, server;
  join(client, server, {.send_depth = 1, .receive_depth = 8, .windows = 0});
  auto memory = std::move(*server_domain_->register_memory(
      {.size = 65536, .access = Access::remote_write, .chunk_size = 0}));
  const Bytes bytes = pattern(65536);
  const iovec small = vec(std::span(bytes).first(16));
  const iovec large = vec(bytes);
  server.receive_hook = [&](const ReceiveEvent& event) {
    if (event.kind != ReceiveEvent::Kind::flushed) server.post_receives(1);
  };
  server.post_receives(8);
  for (std::uint32_t i = 0; i < 500; ++i) {
    const iovec& part = i % 7 == 0 ? large : small;
    const Work work =
        write_imm_work(one(part), memory->remote(0, 65536), i, i % 2 == 0 ? i + 1 : 0);
    ASSERT_TRUE(wait([&] { return !client.post(work); })) << i;
  }
  ASSERT_TRUE(wait([&] { return server.messages() == 500 && client.dones.size() == 250; }));
  close({&client, &server});
  memory.reset();
}

TEST_F(VerbsDevice, AFullQueueDrainsAtEveryDepth) {
  for (const std::uint32_t depth : {1U, 2U, 15U, 16U, 17U, 64U, 200U}) {
    SCOPED_TRACE(depth);
    End client, server;
    join(client, server, {.send_depth = depth, .receive_depth = depth, .windows = 0});
    for (std::size_t round = 0; round < 4; ++round) {
      server.post_receives(depth);
      const std::size_t before = client.dones.size();
      for (std::uint32_t i = 0; i < depth; ++i)
        ASSERT_EQ(client.post(immediate_work(i, i + 1)), std::error_code());
      EXPECT_EQ(client.post(immediate_work(0, 1)), from_errno(ENOBUFS));
      ASSERT_TRUE(wait([&] { return client.dones.size() == before + depth; }));
      ASSERT_TRUE(wait([&] { return server.messages() == (round + 1) * depth; }));
    }
    close({&client, &server});
  }
}

TEST_F(VerbsDevice, FewCompletionsAndDoorbellsForManyItems) {
  End client, server;
  join(client, server, {.send_depth = 128, .receive_depth = 128, .windows = 0});
  server.post_receives(128);
  const auto& counters = static_cast<VerbsConnection&>(*client).counters();
  const auto before = counters;
  for (std::uint32_t i = 0; i < 64; ++i) {
    ASSERT_EQ(client.post(immediate_work(i, i + 1)), std::error_code());
  }
  ASSERT_TRUE(wait([&] { return client.dones.size() == 64 && server.messages() == 64; }));
  EXPECT_EQ(counters.work_requests - before.work_requests, 64U);
  EXPECT_LE(counters.doorbells - before.doorbells, 2U);
  EXPECT_LE(counters.signalled - before.signalled, 6U);
  EXPECT_EQ(counters.strays, 0U);
  close({&client, &server});
}

// S7: the keys of one client's domain are worth nothing on another's connection.
TEST_F(VerbsDevice, S7_AKeyOfOneClientIsNoUseToAnother) {
  End honest, hostile, honest_server, hostile_server;
  const ConnectionOptions options{.send_depth = 8, .receive_depth = 8, .windows = 1};
  join(honest, honest_server, options);
  auto first_domain = std::move(server_domain_);
  join(hostile, hostile_server, options);
  auto memory = std::move(*first_domain->register_memory(
      {.size = 4096, .access = Access::remote_write, .chunk_size = 0}));
  Bytes target(4096);
  const RemoteSpan window = honest_server.expose(0, std::span(target));
  const Bytes bytes = pattern(64);
  const iovec part = vec(bytes);
  ASSERT_EQ(hostile.post(write_work(one(part), memory->remote(0, 64), 1)), std::error_code());
  ASSERT_TRUE(wait([&] { return hostile.closed == 1; }));
  EXPECT_EQ(hostile.why, Errc::peer_terminated);
  EXPECT_EQ(memory->bytes()[0], std::byte{0});
  close({&hostile_server});
  EXPECT_EQ(honest.closed + honest_server.closed, 0);
  honest_server.hide(0);
  EXPECT_EQ(target, Bytes(4096));
  (void)window;
  close({&honest, &honest_server});
  memory.reset();
}

// Each exposure has a key of its own, which its message carries in order behind the binding, and
// which is dead once hidden.
TEST_F(VerbsDevice, TypeTwoWindowsLendMemoryForOneWriteEach) {
  Options options;
  options.windows = true;
  options.windows_of_software = true;
  domain_ = nullptr;
  listener_ = nullptr;
  fabric_ = std::make_unique<VerbsFabric>(*reactor_, options);
  listener_ = std::move(*fabric_->listen(address_, door_));
  domain_ = std::move(*fabric_->create_domain(path()));
  if (!static_cast<VerbsDomain&>(*domain_).type2_windows()) GTEST_SKIP() << "no type-2 windows";
  End lender, writer;
  join(writer, lender, {.send_depth = 8, .receive_depth = 8, .windows = 2});
  Bytes target(5000);
  RemoteSpan last;
  for (std::uint32_t i = 0; i < 300; ++i) {
    SCOPED_TRACE(i);
    const Bytes bytes = pattern(5000, i + 1);
    writer.post_receives(1, sizeof(RemoteSpan));
    lender.post_receives(1);
    const RemoteSpan window = lender.expose(i % 2, std::span(target));
    EXPECT_NE(window.key, last.key);
    const iovec told = vec(std::as_bytes(std::span(&window, 1)));
    ASSERT_EQ(lender.post(conformance::send_work(one(told))), std::error_code());
    ASSERT_TRUE(wait([&] { return writer.messages() == i + 1; }));
    std::memcpy(&last, writer.received.back().bytes.data(), sizeof last);
    const iovec part = vec(bytes);
    ASSERT_EQ(writer.post(write_imm_work(one(part), last, i)), std::error_code());
    ASSERT_TRUE(wait([&] { return lender.messages() == i + 1; }));
    EXPECT_TRUE((*lender).filled(i % 2));
    lender.hide(i % 2);
    EXPECT_EQ(target, bytes);
  }
  lender.post_receives(2);  // for its failure to show
  ASSERT_EQ(lender.post(immediate_work(0, 1)), std::error_code());
  writer.post_receives(1);
  ASSERT_TRUE(wait([&] { return writer.messages() == 301; }));  // hidden by now
  const Bytes late(5000);
  const iovec part = vec(late);
  ASSERT_EQ(writer.post(write_work(one(part), last, 1)), std::error_code());
  ASSERT_TRUE(wait([&] { return lender.closed == 1 && writer.closed == 1; }));
  EXPECT_EQ(lender.why, Errc::remote_access);
  EXPECT_EQ(target, pattern(5000, 300));
}

// An end on another thread: echoes immediates, and may be asked from anywhere how it is.
class Echo final : public ConnectionHandler {
 public:
  explicit Echo(Reactor& waiting) : waiting_(waiting) {}
  void own(Result<std::unique_ptr<Connection>> made) {
    failed = !made.has_value();
    if (!made) return;
    connection = std::move(*made);
    for (std::uint64_t i = 1; i <= 8; ++i) connection->post_receive({}, i);
  }
  void on_connected(std::span<const std::byte>) override { connected = true; }
  void on_rejected(std::span<const std::byte>) override {}
  void on_done(std::uint64_t, std::error_code) override {}
  void on_receive(const ReceiveEvent& event) override {
    if (event.kind != ReceiveEvent::Kind::immediate) return;
    connection->post_receive({}, event.cookie);
    const Work answer = immediate_work(event.immediate + 1);
    connection->post(std::span(&answer, 1));
  }
  void on_closed(std::error_code) override {
    connection.reset();
    closed = true;
    waiting_.post([] {});  // whoever waits for it looks again
  }
  std::unique_ptr<Connection> connection;
  std::atomic<bool> connected{false}, closed{false}, failed{false};

 private:
  Reactor& waiting_;
};

TEST_F(VerbsDevice, ARequestMayBeAcceptedOnAnotherThread) {
  auto other = make_test_reactor();
  auto far = std::make_unique<VerbsFabric>(*other);
  other->start();
  for (int i = 0; i < 20; ++i) {
    SCOPED_TRACE(i);
    End client;
    Echo server(*reactor_);
    client.own(connect(client, conformance::kDefaultOptions));
    auto request = wait_request();
    auto domain = std::move(*fabric_->create_domain(*request));
    IncomingConnection* const moved = request.release();  // a posted call has to be copyable
    other->post([&, moved] {
      server.own(far->accept(std::unique_ptr<IncomingConnection>(moved), *domain, {},
                             conformance::kDefaultOptions, server));
    });
    ASSERT_TRUE(wait([&] { return client.connected == 1; }));
    client.post_receives(20);
    for (std::uint32_t n = 0; n < 20; ++n) {
      ASSERT_EQ(client.post(immediate_work(n)), std::error_code());
      ASSERT_TRUE(wait([&] { return client.messages() == n + 1; }));
      EXPECT_EQ(client.received[n].immediate, n + 1);
    }
    close({&client});
    ASSERT_TRUE(wait([&] { return server.closed.load(); }));
    EXPECT_FALSE(server.failed);
  }
  other->stop();
  other->join();
  far.reset();
}

TEST_F(VerbsDevice, ARequestMayBeDroppedOnAnotherThreadAfterItsFabric) {
  auto other = make_test_reactor();
  auto far = std::make_unique<VerbsFabric>(*other);
  Door door;
  auto listener = std::move(*far->listen(address_, door));
  End client;
  ConnectRequest request;
  request.address = {.source = {}, .destination = listener->local_address()};
  client.own(fabric_->connect(request, *domain_, conformance::kDefaultOptions, client));
  for (int i = 0; i < 1000 && door.requests.empty(); ++i) {
    run_until(
        *reactor_, [] { return false; }, 5ms);
    run_until(
        *other, [&] { return !door.requests.empty(); }, 5ms);
  }
  ASSERT_EQ(door.requests.size(), 1U);
  listener.reset();
  far.reset();
  other.reset();
  std::thread([&] { door.requests.clear(); }).join();
  ASSERT_TRUE(wait([&] { return client.closed == 1; }));
  EXPECT_EQ(client.connected, 0);
}

// Runs in a process of its own, which is killed.
TEST_F(VerbsDevice, DISABLED_Victim) {
  const char* port = std::getenv("RNBD_TEST_VICTIM_PORT");
  ASSERT_NE(port, nullptr);
  End client;
  ConnectRequest request;
  request.address.destination = address_;
  request.address.destination.set_port(static_cast<std::uint16_t>(std::atoi(port)));
  client.own(fabric_->connect(request, *domain_, conformance::kDefaultOptions, client));
  ASSERT_TRUE(wait([&] { return client.connected == 1; }));
  client.receive_hook = [&](const ReceiveEvent& event) {
    if (event.kind == ReceiveEvent::Kind::flushed) return;
    client.post_receives(1);
    client.post(immediate_work(event.immediate + 1));
  };
  client.post_receives(16);
  for (std::uint32_t n = 0; n < 8; ++n) client.post(immediate_work(n));
  wait([&] { return client.closed == 1; });  // it is killed before
}

TEST_F(VerbsDevice, AKilledPeerClosesItsConnectionsAndNothingElse) {
  End client, server;
  join(client, server, conformance::kDefaultOptions);
  const std::string port = std::to_string(listener_->local_address().port());
  ::setenv("RNBD_TEST_VICTIM_PORT", port.c_str(), 1);
  char program[] = "/proc/self/exe";
  char filter[] = "--gtest_filter=*DISABLED_Victim";
  char disabled[] = "--gtest_also_run_disabled_tests";
  char* const arguments[] = {program, filter, disabled, nullptr};
  pid_t victim = -1;
  ASSERT_EQ(::posix_spawn(&victim, program, nullptr, nullptr, arguments, environ), 0);
  End end;
  auto request = wait_request();
  auto domain = std::move(*fabric_->create_domain(*request));
  end.receive_hook = [&](const ReceiveEvent& event) {
    if (event.kind != ReceiveEvent::Kind::immediate) return;
    end.post_receives(1);
    end.post(immediate_work(event.immediate + 1));
  };
  end.own(fabric_->accept(std::move(request), *domain, {}, conformance::kDefaultOptions, end));
  end.post_receives(32);
  EXPECT_TRUE(wait([&] { return end.messages() >= 50; }));
  ::kill(victim, SIGKILL);
  int status = 0;
  ::waitpid(victim, &status, 0);
  EXPECT_TRUE(wait([&] { return end.closed == 1; }));
  EXPECT_TRUE(end.why);
  server.post_receives(1);
  ASSERT_EQ(client.post(immediate_work(5)), std::error_code());
  EXPECT_TRUE(wait([&] { return server.messages() == 1; }));
  close({&client, &server});
}

// The device is polled only while there is something to poll: an idle connection lets the loop
// sleep, and what comes then wakes it.
TEST_F(VerbsDevice, AnIdleConnectionSleepsAndLosesNoWakeUp) {
  End client, server;
  join(client, server, conformance::kDefaultOptions);
  server.receive_hook = [&](const ReceiveEvent& event) {
    if (event.kind != ReceiveEvent::Kind::flushed) server.post_receives(1);
  };
  server.post_receives(4);
  run_until(
      *reactor_, [] { return false; }, 50ms);
  const auto before = reactor_->stats();
  run_until(
      *reactor_, [] { return false; }, 200ms);
  EXPECT_LE(reactor_->stats().rounds - before.rounds, 20U);
  for (std::uint32_t i = 0; i < 300; ++i) {
    ASSERT_EQ(client.post(immediate_work(i)), std::error_code());
    ASSERT_TRUE(wait([&] { return server.messages() == i + 1; })) << i;
  }
  close({&client, &server});
}

}  // namespace
}  // namespace rnbd::fabric::verbs
