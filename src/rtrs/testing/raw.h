#pragma once
// One end of a connection that says whatever a test wants: for playing a peer that breaks the
// rules.

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "fabric/sim/fabric.h"
#include "rtrs/testing/pair.h"
#include "wire/rtrs.h"

namespace rnbd::rtrs::testing {

class RawEnd final : public fabric::ConnectionHandler {
 public:
  static constexpr std::size_t kBuffer = 16384;
  static constexpr std::uint32_t kReceives = 64;

  ~RawEnd() override { RNBD_ASSERT(connection == nullptr); }

  static fabric::ConnectionOptions options() {
    return {.send_depth = 4096, .receive_depth = kReceives, .windows = 16};
  }
  void connect(SimFabric& fabric, fabric::Domain& domain, const fabric::Address& to,
               std::span<const std::byte> request) {
    connection =
        fabric.connect({.address = {{}, to}, .private_data = request}, domain, options(), *this)
            .value();
    post_receives();
  }
  void accept(SimFabric& fabric, fabric::Domain& domain,
              std::unique_ptr<fabric::IncomingConnection> incoming,
              std::span<const std::byte> answer) {
    connection = fabric.accept(std::move(incoming), domain, answer, options(), *this).value();
    post_receives();
  }
  void post(fabric::Work work, std::span<const std::byte> bytes = {}) {
    if (!connection) return;
    sent.emplace_back(bytes.begin(), bytes.end());  // kept for ever: nobody tells when it has left
    const iovec local{sent.back().data(), sent.back().size()};
    work.local = {&local, bytes.empty() ? 0U : 1U};
    connection->post({&work, 1});
  }
  void send(std::span<const std::byte> bytes) { post({.op = fabric::Work::Op::send}, bytes); }
  void immediate(std::uint32_t value) {
    post({.op = fabric::Work::Op::write_imm, .immediate = value});
  }
  void close() {
    if (connection) connection->close(Errc::session_closed);
  }

  std::unique_ptr<fabric::Connection> connection;
  bool connected = false;
  std::vector<std::byte> private_data;  // of the answer
  std::optional<std::error_code> refused;
  std::optional<std::error_code> closed;
  std::vector<std::uint32_t> immediates;
  std::vector<std::vector<std::byte>> sends;
  std::vector<std::uint32_t> invalidated;
  std::function<void()> on_event;

 private:
  void post_receives() {
    for (std::uint32_t i = 0; i < kReceives; ++i) {
      buffers.emplace_back(kBuffer);
      connection->post_receive(buffers.back(), i);
    }
  }
  void on_connected(std::span<const std::byte> bytes) override {
    connected = true;
    private_data.assign(bytes.begin(), bytes.end());
    if (on_event) on_event();
  }
  void on_rejected(std::span<const std::byte> bytes) override {
    refused = wire::parse_connect_reject(bytes);
  }
  void on_done(std::uint64_t, std::error_code) override {}
  void on_receive(const fabric::ReceiveEvent& event) override {
    using Kind = fabric::ReceiveEvent::Kind;
    if (event.kind == Kind::flushed) return;
    if (event.kind != Kind::immediate) sends.emplace_back(event.bytes.begin(), event.bytes.end());
    if (event.kind != Kind::send) immediates.push_back(event.immediate);
    if (event.invalidated_key != 0) invalidated.push_back(event.invalidated_key);
    connection->post_receive(buffers[event.cookie], event.cookie);
    if (on_event) on_event();
  }
  void on_closed(std::error_code why) override {
    closed = why;
    connection.reset();
    if (on_event) on_event();
  }
  std::deque<std::vector<std::byte>> sent;
  std::deque<std::vector<std::byte>> buffers;
};

// A client made of raw connections.
class RawClient {
 public:
  explicit RawClient(Pair& pair, std::uint16_t cid_num = 2, std::uint64_t seed = 4711)
      : RawClient(pair.client_fabric(), pair.server_address(), cid_num, seed) {}
  RawClient(SimFabric& fabric, const fabric::Address& server, std::uint16_t cid_num,
            std::uint64_t seed)
      : world_(fabric.world()),
        fabric_(fabric),
        server_(server),
        domain_(fabric_.create_domain(fabric::PathAddress{}).value()) {
    SeededRandom random(seed);
    request.cid_num = cid_num;
    request.recon_cnt = 1;
    request.sess_uuid = random.uuid();
    request.paths_uuid = random.uuid();
    request.first_conn = true;
  }
  ~RawClient() {
    for (auto& end : ends) end->close();
    EXPECT_TRUE(world_.run_until([&] { return all_closed(); }, 60s));
  }

  RawEnd& connect(const wire::ConnectRequest& with) {
    return connect_bytes(wire::bytes_of(wire::encode_connect_request(with)));
  }
  RawEnd& connect_bytes(std::span<const std::byte> private_data) {
    ends.push_back(std::make_unique<RawEnd>());
    RawEnd& end = *ends.back();
    end.connect(fabric_, *domain_, server_, private_data);
    EXPECT_TRUE(world_.run_until([&] { return end.connected || end.closed; }, 10s));
    return end;
  }
  // All connections of the path, in order.
  void connect_path() {
    for (std::uint16_t cid = 0; cid < request.cid_num; ++cid) {
      auto with = request;
      with.cid = cid;
      ASSERT_TRUE(connect(with).connected);
    }
    limits = wire::parse_connect_accept(ends[0]->private_data, true).value();
  }
  void send_info(const std::string& name) {
    ends[0]->send(wire::bytes_of(wire::encode_info_request(name)));
  }
  // The whole establishment.
  void establish(const std::string& name = "raw") {
    connect_path();
    send_info(name);
    ASSERT_TRUE(world_.run_until([&] { return !ends[0]->sends.empty() || all_closed(); }, 10s));
    ASSERT_FALSE(ends[0]->sends.empty());
    chunks = wire::parse_info_response(ends[0]->sends[0], limits).value();
  }
  // Writes `bytes` at `at` of the chunk, with an immediate that names `chunk` and `offset`.
  void request_at(RawEnd& end, std::uint32_t chunk, std::uint32_t at,
                  std::span<const std::byte> bytes, std::uint32_t offset) {
    const auto& where = chunks[chunk];
    end.post({.op = fabric::Work::Op::write_imm,
              .remote = {where.address + at, where.key, 0},
              .immediate = wire::RequestImmediate(limits.queue_depth).encode(chunk, offset)},
             bytes);
  }
  // A user message of the store followed by any RTRS message, behind `data_length` bytes of room.
  void read_request(RawEnd& end, std::uint32_t chunk, std::uint32_t data_length,
                    std::span<const std::byte> rtrs_message, const StoreMessage& message = {}) {
    std::vector<std::byte> bytes(sizeof(message) + rtrs_message.size());
    std::memcpy(bytes.data(), &message, sizeof(message));
    std::ranges::copy(rtrs_message, bytes.begin() + sizeof(message));
    request_at(end, chunk, data_length, bytes,
               data_length + static_cast<std::uint32_t>(sizeof(message)));
  }
  void write_request(RawEnd& end, std::uint32_t chunk, std::uint32_t data_length,
                     std::uint16_t usr_len, const StoreMessage& message = {}) {
    std::vector<std::byte> bytes(data_length + sizeof(message) +
                                 sizeof(wire::layout::WriteMessage));
    std::memcpy(bytes.data() + data_length, &message, sizeof(message));
    wire::store(std::span(bytes).subspan(data_length + sizeof(message)),
                wire::encode_write(usr_len));
    request_at(end, chunk, 0, bytes, data_length + static_cast<std::uint32_t>(sizeof(message)));
  }
  bool all_closed() const {
    return std::ranges::all_of(ends, [](const auto& end) { return end->connection == nullptr; });
  }
  // True once the server has closed every connection.
  [[nodiscard]] bool dropped() {
    return world_.run_until([&] { return all_closed(); }, 2s);
  }
  // True once `count` immediates came on `end`.
  [[nodiscard]] bool answered(const RawEnd& end, std::size_t count = 1) {
    return world_.run_until([&] { return end.immediates.size() >= count || end.closed; }, 2s) &&
           !end.closed;
  }

  wire::ConnectRequest request;
  wire::ConnectAccept limits;
  std::vector<wire::RemoteChunk> chunks;
  std::vector<std::unique_ptr<RawEnd>> ends;

 private:
  World& world_;
  SimFabric& fabric_;
  const fabric::Address server_;
  std::unique_ptr<fabric::Domain> domain_;
};

}  // namespace rnbd::rtrs::testing
