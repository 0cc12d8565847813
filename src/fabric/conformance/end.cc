#include "fabric/conformance/end.h"

#include <algorithm>
#include <cstring>

#include "base/random.h"

namespace rnbd::fabric::conformance {

using namespace std::chrono_literals;

Bytes pattern(std::size_t size, std::uint64_t seed) {
  SeededRandom random(seed);
  Bytes result(size);
  for (std::size_t at = 0; at < size; at += 8) {
    const std::uint64_t word = random.next();
    std::memcpy(result.data() + at, &word, std::min<std::size_t>(8, size - at));
  }
  return result;
}

std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

iovec vec(std::span<const std::byte> bytes) {
  return {const_cast<std::byte*>(bytes.data()),
          bytes.size()};  // iovec knows no const; sends only read it
}

Work send_work(std::span<const iovec> local, std::uint64_t cookie) {
  Work work;
  work.op = Work::Op::send;
  work.local = local;
  work.cookie = cookie;
  return work;
}

Work immediate_work(std::uint32_t immediate, std::uint64_t cookie) {
  return write_imm_work({}, {}, immediate, cookie);
}

Work write_work(std::span<const iovec> local, const RemoteSpan& remote, std::uint64_t cookie) {
  Work work = write_imm_work(local, remote, 0, cookie);
  work.op = Work::Op::write;
  return work;
}

Work write_imm_work(std::span<const iovec> local, const RemoteSpan& remote, std::uint32_t immediate,
                    std::uint64_t cookie) {
  Work work;
  work.op = Work::Op::write_imm;
  work.local = local;
  work.remote = remote;
  work.immediate = immediate;
  work.cookie = cookie;
  return work;
}

RemoteSpan at(RemoteSpan span, std::uint64_t offset) {
  span.address += offset;
  return span;
}

End::~End() {
  EXPECT_TRUE(connection_ == nullptr || closed == 1) << "a connection destroyed while it is open";
}

void End::own(Result<std::unique_ptr<Connection>> connection) {
  ASSERT_TRUE(connection.has_value()) << connection.error().message();
  connection_ = std::move(*connection);
}

std::error_code End::post(std::span<const Work> batch) {
  const InsideCall inside;
  return connection_->post(batch);
}

std::error_code End::post_receive(std::span<std::byte> buffer, std::uint64_t cookie) {
  const InsideCall inside;
  return connection_->post_receive(buffer, cookie);
}

void End::post_receives(std::size_t count, std::size_t size) {
  for (; count > 0; --count) {
    buffers_.emplace_back(size);
    ASSERT_EQ(post_receive(buffers_.back(), ++last_receive_), std::error_code());
  }
}

RemoteSpan End::expose(std::uint32_t window, std::span<const iovec> local) {
  const InsideCall inside;
  const auto span = connection_->expose(window, local);
  EXPECT_TRUE(span.has_value());
  return span.value_or(RemoteSpan{});
}

RemoteSpan End::expose(std::uint32_t window, std::span<std::byte> local) {
  const iovec one = vec(local);
  return expose(window, std::span(&one, 1));
}

void End::hide(std::uint32_t window) {
  const InsideCall inside;
  connection_->hide(window);
}

void End::forget(std::uint32_t window) {
  const InsideCall inside;
  connection_->forget(window);
}

void End::close(std::error_code reason, bool graceful) {
  const InsideCall inside;
  connection_->close(reason, graceful);
}

std::size_t End::receives_of(ReceiveEvent::Kind kind) const {
  const auto same = [kind](const Received& one) { return one.kind == kind; };
  return static_cast<std::size_t>(std::count_if(received.begin(), received.end(), same));
}

std::size_t End::failed_dones() const {
  const auto failed = [](const auto& done) { return static_cast<bool>(done.second); };
  return static_cast<std::size_t>(std::count_if(dones.begin(), dones.end(), failed));
}

void End::wait_closed(Harness& harness) {
  EXPECT_TRUE(harness.run_until([this] { return closed > 0; }, 10s)) << "on_closed never came";
}

void End::called(const char* what) {
  EXPECT_EQ(InsideCall::depth, 0) << what << " from inside a call";
  EXPECT_EQ(closed, 0) << what << " after on_closed";
  if (keep_order) order.emplace_back(what);
}

void End::on_connected(std::span<const std::byte> data) {
  called("connected");
  ++connected;
  private_data.assign(data.begin(), data.end());
  if (connected_hook) connected_hook();
}

void End::on_rejected(std::span<const std::byte> data) {
  called("rejected");
  ++rejected;
  private_data.assign(data.begin(), data.end());
}

void End::on_done(std::uint64_t cookie, std::error_code error) {
  called("done");
  EXPECT_NE(cookie, 0U) << "nobody wanted to be told";
  dones.emplace_back(cookie, error);
  if (done_hook) done_hook(cookie);
}

void End::on_receive(const ReceiveEvent& event) {
  called("receive");
  received.push_back({event.kind, event.cookie, Bytes(event.bytes.begin(), event.bytes.end()),
                      event.immediate, event.invalidated_key});
  if (receive_hook) receive_hook(event);
}

void End::on_closed(std::error_code reason) {
  called("closed");
  ++closed;
  why = reason;
  if (destroy_when_closed) connection_.reset();
}

void Door::on_connect_request(std::unique_ptr<IncomingConnection> request) {
  EXPECT_EQ(InsideCall::depth, 0) << "a connect request from inside a call";
  if (answer) return answer(std::move(request));
  requests.push_back(std::move(request));
}

Pair::Pair(Harness& harness, std::size_t connections, ConnectionOptions options)
    : harness_(harness) {
  auto listener = harness.server().listen(harness.listen_address(), door_);
  if (!listener) ADD_FAILURE() << "listen: " << listener.error().message();
  listener_ = std::move(*listener);
  client_domain_ = std::move(*harness.client(0).create_domain(harness.client_path()));
  for (; connections > 0; --connections) connect_one(options);
}

void Pair::connect_one(ConnectionOptions options, std::size_t fabric) {
  clients_.push_back(std::make_unique<End>());
  servers_.push_back(std::make_unique<End>());
  End& client = *clients_.back();
  End& server = *servers_.back();
  ConnectRequest request;
  request.address = harness_.path_to(listener_->local_address());
  client.own(harness_.client(fabric).connect(request, *client_domain_, options, client));
  ASSERT_TRUE(harness_.run_until([&] { return !door_.requests.empty(); }, 10s))
      << "no connect request came";
  auto incoming = std::move(door_.requests.front());
  door_.requests.clear();
  if (server_domain_ == nullptr)
    server_domain_ = std::move(*harness_.server().create_domain(*incoming));
  server.own(harness_.server().accept(std::move(incoming), *server_domain_, {}, options, server));
  const auto both = [&] { return client.connected == 1 && server.connected == 1; };
  ASSERT_TRUE(harness_.run_until(both, 10s)) << "not connected";
  // The initiator speaks first (contract, 6): a write of nothing, of which the test sees nothing.
  ASSERT_EQ(client.post(write_work({}, {}, 1)), std::error_code());
  ASSERT_TRUE(harness_.run_until([&] { return client.dones.size() == 1; }, 10s))
      << "a write of nothing is not done";
  client.dones.clear();
}

Memory& Pair::server_memory(const MemoryOptions& options) {
  memories_.push_back(std::move(*server_domain_->register_memory(options)));
  return *memories_.back();
}

Memory& Pair::client_memory(const MemoryOptions& options) {
  memories_.push_back(std::move(*client_domain_->register_memory(options)));
  return *memories_.back();
}

void Pair::close_all() {
  for (auto* ends : {&clients_, &servers_}) {
    for (auto& end : *ends) {
      end->receive_hook = nullptr;  // they may refer to what the test has already destroyed
      end->done_hook = nullptr;
      if (end->closed == 0) end->close();
    }
  }
  for (auto* ends : {&clients_, &servers_}) {
    for (auto& end : *ends) end->wait_closed(harness_);
  }
}

Pair::~Pair() {
  close_all();
  clients_.clear();
  servers_.clear();
  memories_.clear();
}

}  // namespace rnbd::fabric::conformance
