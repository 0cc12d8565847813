// What concerns the fabric as a whole: several reactors, kinds of addresses, policies.

#include "fabric/iwarp/iwarp_fabric.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <future>

#include "fabric/iwarp/dial.h"
#include "fabric/iwarp/scripted_peer.h"
#include "fabric/iwarp/socket.h"

namespace rnbd::fabric::iwarp {
namespace {

using scripted::Recorder;

Address address(std::string_view text, std::uint16_t port = 0) {
  return Address::parse(text, port).value();
}

struct AnswerElsewhere final : ListenHandler {
  std::function<void(std::unique_ptr<IncomingConnection>)> answer;
  void on_connect_request(std::unique_ptr<IncomingConnection> request) override {
    answer(std::move(request));
  }
};

TEST(IwarpFabric, ARequestMayBeAcceptedOnAnotherReactor) {
  auto here = std::move(*Reactor::create({.name = "here"}));
  auto there = std::move(*Reactor::create({.name = "there"}));
  there->start();
  IwarpFabric fabric_here(*here), fabric_there(*there);
  const auto domain_here = std::move(*fabric_here.create_domain(PathAddress{}));
  const auto domain_there = std::move(*fabric_there.create_domain(PathAddress{}));
  auto memory = std::move(*domain_there->register_memory(
      {.size = 1 << 20, .access = Access::remote_write, .chunk_size = 0}));
  Recorder client, server;
  std::unique_ptr<Connection> client_end, server_end;
  server.on_message = [&](const ReceiveEvent& event) {  // answers each immediate with its successor
    const Work work{.local = {}, .remote = {}, .immediate = event.immediate + 1};
    EXPECT_FALSE(server_end->post({&work, 1}));
  };
  AnswerElsewhere door;
  door.answer = [&](std::unique_ptr<IncomingConnection> request) {
    // Shared: std::function wants to be copied, the request has one owner at a time.
    auto kept = std::make_shared<std::unique_ptr<IncomingConnection>>(std::move(request));
    there->post([&, kept] {
      server_end = std::move(
          *fabric_there.accept(std::move(*kept), *domain_there, {},
                               {.send_depth = 8, .receive_depth = 8, .windows = 0}, server));
      for (std::uint64_t i = 1; i <= 8; ++i) EXPECT_FALSE(server_end->post_receive({}, i));
    });
  };
  const auto listener = std::move(*fabric_here.listen(address("ip:127.0.0.1"), door));
  ConnectRequest request;
  request.address.destination = listener->local_address();
  client_end = std::move(*fabric_here.connect(
      request, *domain_here, {.send_depth = 8, .receive_depth = 8, .windows = 0}, client));
  for (std::uint64_t i = 1; i <= 8; ++i) EXPECT_FALSE(client_end->post_receive({}, i));
  ASSERT_TRUE(testing::run_until(*here, [&] { return client.connected; }));
  std::vector<std::byte> data(300000, std::byte{9});
  const iovec part{data.data(), data.size()};
  const Work work{.local = {&part, 1}, .remote = memory->remote(0, 1 << 20), .immediate = 41};
  ASSERT_FALSE(client_end->post({&work, 1}));
  ASSERT_TRUE(testing::run_until(*here, [&] { return client.messages.size() == 1; }));
  EXPECT_EQ(client.messages[0].immediate, 42U);
  client_end->close(Errc::session_closed, true);
  ASSERT_TRUE(testing::run_until(*here, [&] { return client.closed; }));
  std::promise<bool> closed;
  std::function<void()> look = [&] {
    if (server.closed) return closed.set_value(true);
    there->post(look);
  };
  there->post(look);
  EXPECT_TRUE(closed.get_future().get());
  there->stop();
  there->join();
  EXPECT_EQ(server.why, Errc::peer_closed);
  EXPECT_TRUE(std::ranges::equal(memory->bytes().first(data.size()), data));
}

TEST(IwarpFabric, AUnixSocketFileLeftBehindIsTakenOverAndALiveOneIsNot) {
  auto reactor = std::move(*Reactor::create({}));
  IwarpFabric fabric(*reactor);
  AnswerElsewhere door;
  const std::string path =
      ::testing::TempDir() + "rnbd-iwarp-" + std::to_string(::getpid()) + ".sock";
  const Address where = address("unix:" + path);
  {
    UniqueFd left = std::move(*make_socket(AF_UNIX));
    ASSERT_EQ(::bind(left.get(), where.data(), where.length()), 0);
  }
  auto listener = fabric.listen(where, door);
  ASSERT_TRUE(listener.has_value()) << listener.error().message();
  const auto second = fabric.listen(where, door);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error(), from_errno(EADDRINUSE));
  listener->reset();
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

TEST(IwarpFabric, AnAddressThatADeadServersRingStillHoldsIsWaitedFor) {
  auto reactor = std::move(*Reactor::create({}));
  IwarpFabric fabric(*reactor);
  AnswerElsewhere door;
  UniqueFd held = std::move(*make_socket(AF_INET));
  const Address any = address("ip:127.0.0.1");
  ASSERT_EQ(::bind(held.get(), any.data(), any.length()), 0);
  ASSERT_EQ(::listen(held.get(), 1), 0);
  const Address where = local_address_of(held.get());
  const auto ring = std::async(std::launch::async, [&held] {
    (void)::poll(nullptr, 0, 50);  // or any time: sooner is as good
    held.reset();
  });
  const auto listener = fabric.listen(where, door);
  EXPECT_TRUE(listener.has_value()) << listener.error().message();
}

TEST(IwarpFabric, CrcIsLeftOutOnlyWithinOneMachineOrByOrder) {
  const Address loop = address("ip:127.0.0.1"), local = address("ip:10.1.1.1"),
                remote = address("ip:10.1.1.2");
  EXPECT_FALSE(demands_crc(CrcPolicy::automatic, loop, loop));
  EXPECT_FALSE(demands_crc(CrcPolicy::automatic, local, local));
  EXPECT_FALSE(demands_crc(CrcPolicy::automatic, address("unix:/x"), address("unix:/x")));
  EXPECT_TRUE(demands_crc(CrcPolicy::automatic, local, remote));
  EXPECT_TRUE(demands_crc(CrcPolicy::on, loop, loop));
  EXPECT_TRUE(demands_crc(CrcPolicy::strict, loop, loop));
  EXPECT_FALSE(demands_crc(CrcPolicy::off, local, remote));
}

TEST(IwarpFabric, TheSourceAddressIsUsedOrRefused) {
  scripted::Stage stage;
  stage.listen();
  Recorder client;
  ConnectRequest request;
  request.address.destination = stage.address();
  request.address.source = address("ip:127.0.0.77");
  auto made = stage.fabric().connect(request, stage.domain(), {}, client);
  ASSERT_TRUE(made.has_value());
  ASSERT_TRUE(stage.run_until([&] { return client.connected && stage.us().connected; }));
  EXPECT_EQ(stage.connection().peer_address().to_string(), "ip:127.0.0.77");
  (*made)->close({});
  EXPECT_TRUE(stage.run_until([&] { return client.closed && stage.us().closed; }));
  request.address.source = address("ip:192.0.2.1");  // not ours
  EXPECT_EQ(stage.fabric().connect(request, stage.domain(), {}, client).error(),
            from_errno(EADDRNOTAVAIL));
  request.address.source = address("ip:::1");
  EXPECT_EQ(stage.fabric().connect(request, stage.domain(), {}, client).error(),
            from_errno(EAFNOSUPPORT));
}

TEST(IwarpFabric, TheLowHalfCarriesTheImmediateIfSaidSo) {
  Options options;
  options.immediate_half = ImmediateHalf::low;
  scripted::Stage stage(options);
  stage.start();
  stage.post_receives(1);
  stage.send(scripted::immediate_frame(1, 0, 99).bytes());
  ASSERT_TRUE(stage.run_until([&] { return stage.us().messages.size() == 1; }));
  EXPECT_EQ(stage.us().messages[0].immediate, 99U);
  const Work work{.local = {}, .remote = {}, .immediate = 0x01020304};
  ASSERT_FALSE(stage.connection().post({&work, 1}));
  EXPECT_EQ(scripted::to_hex(stage.read(28)).substr(40), "0000000001020304");
}

}  // namespace
}  // namespace rnbd::fabric::iwarp
