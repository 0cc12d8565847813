// Connecting: accept, reject, refuse, time out, and what private data survives.

#include <algorithm>

#include "fabric/conformance/end.h"

namespace rnbd::fabric::conformance {
namespace {

using namespace std::chrono_literals;

// A listener and one attempt to connect to it.
class Attempt {
 public:
  explicit Attempt(Harness& harness)
      : harness_(harness), domain_(*harness.client(0).create_domain(harness.client_path())) {
    auto listener = harness.server().listen(harness.listen_address(), door);
    if (!listener) ADD_FAILURE() << "listen: " << listener.error().message();
    listener_ = std::move(*listener);
  }
  ~Attempt() {
    door.requests.clear();
    for (End* end : {&client, &server}) {
      if (!started(*end)) continue;
      if (end->closed == 0) end->close();
      end->wait_closed(harness_);
    }
  }
  void connect(std::span<const std::byte> data = {}, Duration timeout = 10s) {
    connect_to(harness_.path_to(listener_->local_address()), data, timeout);
  }
  void connect_to(const PathAddress& address, std::span<const std::byte> data, Duration timeout) {
    ConnectRequest request;
    request.address = address;
    request.private_data = data;
    request.timeout = timeout;
    const InsideCall inside;
    client.own(harness_.client(0).connect(request, *domain_, kDefaultOptions, client));
    client_started_ = true;
  }
  std::unique_ptr<IncomingConnection> wait_request() {
    EXPECT_TRUE(harness_.run_until([&] { return !door.requests.empty(); }, 10s))
        << "no request came";
    if (door.requests.empty()) return nullptr;
    auto request = std::move(door.requests.front());
    door.requests.clear();
    return request;
  }
  void accept(std::unique_ptr<IncomingConnection> request, std::span<const std::byte> data = {}) {
    if (server_domain_ == nullptr)
      server_domain_ = std::move(*harness_.server().create_domain(*request));
    const InsideCall inside;
    server.own(harness_.server().accept(std::move(request), *server_domain_, data, kDefaultOptions,
                                        server));
    server_started_ = true;
  }
  void drop_listener() { listener_.reset(); }
  Domain& server_domain(const IncomingConnection& request) {
    server_domain_ = std::move(*harness_.server().create_domain(request));
    return *server_domain_;
  }
  Listener& listener() { return *listener_; }

  Door door;

 private:
  bool started(const End& end) const { return &end == &client ? client_started_ : server_started_; }
  Harness& harness_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Domain> domain_;
  std::unique_ptr<Domain> server_domain_;
  bool client_started_ = false;
  bool server_started_ = false;

 public:
  End client;
  End server;
};

void expect_private_data(Harness& harness, std::span<const std::byte> got,
                         std::span<const std::byte> sent) {
  ASSERT_GE(got.size(), sent.size());
  EXPECT_TRUE(std::ranges::equal(got.first(sent.size()), sent));
  const auto rest = got.subspan(sent.size());
  EXPECT_TRUE(rest.empty() || harness.pads_private_data()) << rest.size() << " bytes too many";
  EXPECT_TRUE(std::ranges::all_of(rest, [](std::byte b) { return b == std::byte{0}; }));
}

std::vector<std::size_t> private_data_sizes(const Capabilities& capabilities) {
  std::vector<std::size_t> sizes;
  for (std::size_t size = 0; size <= 56; ++size) sizes.push_back(size);
  sizes.push_back(capabilities.max_private_data - 1);
  sizes.push_back(capabilities.max_private_data);
  return sizes;
}

}  // namespace

TEST_P(Conformance, AcceptConnectsBothEndsWithTheirAddresses) {
  Pair pair(harness());
  const Address& listening = pair.address();
  EXPECT_TRUE((*pair.server()).local_address().same_host((*pair.client()).peer_address()));
  EXPECT_EQ((*pair.client()).peer_address().port(), listening.port());
  EXPECT_FALSE((*pair.client()).local_address().empty());
  EXPECT_TRUE(pair.server().private_data.empty());
}

TEST_P(Conformance, PrivateDataOfEverySizeTravelsBothWays) {
  for (const std::size_t size : private_data_sizes(harness().server().capabilities())) {
    SCOPED_TRACE(size);
    Attempt attempt(harness());
    const Bytes asked = pattern(size, 1);
    const Bytes answered = pattern(size, 2);
    attempt.connect(asked);
    auto request = attempt.wait_request();
    ASSERT_NE(request, nullptr);
    expect_private_data(harness(), request->private_data(), asked);
    attempt.accept(std::move(request), answered);
    ASSERT_TRUE(
        run_until([&] { return attempt.client.connected + attempt.server.connected == 2; }));
    expect_private_data(harness(), attempt.client.private_data, answered);
  }
}

TEST_P(Conformance, PrivateDataBeyondTheMaximumIsRefused) {
  Attempt attempt(harness());
  const Bytes data(harness().client(0).capabilities().max_private_data + 1);
  const auto domain = harness().client(0).create_domain(harness().client_path());
  ConnectRequest request;
  request.address = harness().path_to(attempt.listener().local_address());
  request.private_data = data;
  End end;
  EXPECT_FALSE(harness().client(0).connect(request, **domain, kDefaultOptions, end).has_value());
}

TEST_P(Conformance, RejectDeliversItsPrivateDataAndCloses) {
  for (const std::size_t size : private_data_sizes(harness().server().capabilities())) {
    SCOPED_TRACE(size);
    Attempt attempt(harness());
    attempt.connect();
    auto request = attempt.wait_request();
    ASSERT_NE(request, nullptr);
    const Bytes reason = pattern(size, 3);
    {
      const InsideCall inside;
      harness().server().reject(std::move(request), reason);
    }
    attempt.client.wait_closed(harness());
    // Where lengths are not kept, a rejection that says nothing looks like a dropped request.
    if (size != 0 || !harness().pads_private_data()) {
      EXPECT_EQ(attempt.client.rejected, 1);
    }
    EXPECT_EQ(attempt.client.connected, 0);
    expect_private_data(harness(), attempt.client.private_data, reason);
    EXPECT_EQ(attempt.client.why, Errc::connect_rejected);
  }
}

TEST_P(Conformance, ARefusedConnectClosesSoon) {
  const auto address = harness().refusing_address();
  if (!address) GTEST_SKIP() << "no address that refuses";
  Attempt attempt(harness());
  attempt.connect_to({.source = {}, .destination = *address}, {}, 5s);
  EXPECT_TRUE(run_until([&] { return attempt.client.closed == 1; }, 2s));
  EXPECT_TRUE(attempt.client.why);
  EXPECT_EQ(attempt.client.connected + attempt.client.rejected, 0);
}

TEST_P(Conformance, AConnectNobodyAnswersTimesOut) {
  const auto address = harness().silent_address();
  if (!address) GTEST_SKIP() << "no address that is silent";
  Attempt attempt(harness());
  attempt.connect_to({.source = {}, .destination = *address}, {}, 200ms);
  EXPECT_TRUE(run_until([&] { return attempt.client.closed == 1; }, 2s));
  EXPECT_EQ(to_errno(attempt.client.why), ETIMEDOUT) << attempt.client.why.message();
}

TEST_P(Conformance, ARequestLeftUnansweredTimesOutAtTheInitiatorAndIsDeadAtTheAcceptor) {
  Attempt attempt(harness());
  attempt.connect({}, 200ms);
  auto request = attempt.wait_request();
  ASSERT_NE(request, nullptr);
  EXPECT_TRUE(run_until([&] { return attempt.client.closed == 1; }, 2s));
  EXPECT_EQ(to_errno(attempt.client.why), ETIMEDOUT) << attempt.client.why.message();
  settle();
  Domain& domain = attempt.server_domain(*request);
  auto late =
      harness().server().accept(std::move(request), domain, {}, kDefaultOptions, attempt.server);
  if (!late) return;
  attempt.server.own(std::move(late));
  attempt.server.wait_closed(harness());
}

TEST_P(Conformance, ARequestDroppedWithoutAnAnswerClosesTheInitiator) {
  Attempt attempt(harness());
  attempt.connect();
  ASSERT_NE(attempt.wait_request(), nullptr);  // and dropped
  EXPECT_TRUE(run_until([&] { return attempt.client.closed == 1; }, 2s));
  EXPECT_EQ(attempt.client.connected + attempt.client.rejected, 0);
  EXPECT_TRUE(attempt.client.why);
}

TEST_P(Conformance, RequestsOutliveTheirListenerAndItCallsNobodyAfterwards) {
  Attempt attempt(harness());
  attempt.connect();
  auto request = attempt.wait_request();
  ASSERT_NE(request, nullptr);
  attempt.drop_listener();
  attempt.accept(std::move(request));
  EXPECT_TRUE(run_until([&] { return attempt.client.connected + attempt.server.connected == 2; }));

  Attempt unheard(harness());
  unheard.connect({}, 300ms);
  unheard.drop_listener();
  unheard.client.wait_closed(harness());
  EXPECT_TRUE(unheard.door.requests.empty());
  EXPECT_EQ(unheard.client.connected, 0);
}

TEST_P(Conformance, AConnectClosedBeforeItsAnswerClosesOnce) {
  Attempt attempt(harness());
  attempt.connect();
  attempt.client.close(from_errno(EINTR));
  attempt.client.close(from_errno(EIO));
  attempt.client.wait_closed(harness());
  EXPECT_EQ(attempt.client.why, from_errno(EINTR));
  EXPECT_EQ(attempt.client.connected, 0);
  settle();
  EXPECT_EQ(attempt.client.closed, 1);
}

TEST_P(Conformance, TheAcceptorMayPostReceivesBeforeItIsConnected) {
  Attempt attempt(harness());
  attempt.connect();
  const Bytes hello = pattern(100);
  const iovec part = vec(hello);
  attempt.client.connected_hook = [&] {
    EXPECT_EQ(attempt.client.post(send_work(std::span(&part, 1))), std::error_code());
  };
  auto request = attempt.wait_request();
  ASSERT_NE(request, nullptr);
  attempt.server.keep_order = true;
  attempt.accept(std::move(request));
  attempt.server.post_receives(1, 128);
  ASSERT_TRUE(run_until([&] { return attempt.server.messages() == 1; }));
  EXPECT_EQ(attempt.server.received[0].bytes, hello);
  EXPECT_EQ(attempt.server.order, (std::vector<std::string>{"connected", "receive"}));
}

TEST_P(Conformance, ARequestMayBeAcceptedInsideItsHandler) {
  Attempt attempt(harness());
  attempt.door.answer = [&](std::unique_ptr<IncomingConnection> request) {
    attempt.accept(std::move(request));
  };
  attempt.connect();
  EXPECT_TRUE(run_until([&] { return attempt.client.connected + attempt.server.connected == 2; }));
}

TEST_P(Conformance, ManyConnectionsLiveSideBySide) {
  Pair pair(harness(), 50, {.send_depth = 4, .receive_depth = 4, .windows = 1});
  for (std::size_t i = 0; i < 50; ++i) {
    pair.server(i).post_receives(1);
    ASSERT_EQ(pair.client(i).post(immediate_work(static_cast<std::uint32_t>(i))),
              std::error_code());
  }
  const auto all = [&] {
    for (std::size_t i = 0; i < 50; ++i) {
      if (pair.server(i).messages() != 1) return false;
    }
    return true;
  };
  ASSERT_TRUE(run_until(all));
  for (std::size_t i = 0; i < 50; ++i) EXPECT_EQ(pair.server(i).received[0].immediate, i);
}

}  // namespace rnbd::fabric::conformance
