#pragma once
// A client that says on the wire what the Linux kernel's says (drivers/block/rnbd/rnbd-clt.c over
// drivers/infiniband/ulp/rtrs): with remote invalidation wanted for every read, garbage wherever
// nothing is said, several connections. For playing the kernel to our server in the simulator.

#include <bit>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "rnbd/testing/site.h"
#include "rtrs/testing/raw.h"
#include "wire/rnbd.h"

namespace rnbd::testing {

class KernelClient {
 public:
  struct Options {
    std::uint16_t connections = 3;
    std::uint64_t seed = 1;
    std::size_t path = 0;  // from this address of the client's to that of the server's
  };
  struct Answer {
    int error = -1;  // none came
    std::vector<std::byte> data;
    bool invalidated = false;  // by the server, as the answer's type says
    explicit operator bool() const { return error == 0; }
  };
  // A request under way.
  struct Pending {
    std::uint16_t cid = 0;
    std::uint32_t chunk = 0;
    std::size_t immediates_before = 0;
    std::size_t invalidated_before = 0;
    std::uint32_t key = 0;
    std::vector<std::byte> target;
    iovec segment{};
  };

  KernelClient(World& world, SimFabric& fabric, const fabric::Address& server,
               const Options& options)
      : world_(world), raw_(fabric, server, options.connections, options.seed) {}
  KernelClient(World& world, SimFabric& fabric, const fabric::Address& server)
      : KernelClient(world, fabric, server, Options{}) {}

  rtrs::testing::RawClient& raw() { return raw_; }
  // Whether the server took the path.
  [[nodiscard]] bool establish(const std::string& name) {
    disconnect();
    for (std::uint16_t cid = 0; cid < raw_.request.cid_num; ++cid) {
      auto with = raw_.request;
      with.cid = cid;
      if (!raw_.connect(with).connected) return false;
    }
    raw_.limits = wire::parse_connect_accept(raw_.ends[0]->private_data, true).value();
    raw_.send_info(name);
    const bool heard =
        world_.run_until([&] { return !raw_.ends[0]->sends.empty() || raw_.all_closed(); }, 10s);
    if (!heard || raw_.ends[0]->sends.empty()) return false;
    raw_.chunks = wire::parse_info_response(raw_.ends[0]->sends[0], raw_.limits).value();
    return true;
  }
  // As often as it takes, a second apart.
  [[nodiscard]] bool reconnect(const std::string& name) {
    for (int attempt = 0; attempt < 120; ++attempt) {
      ++raw_.request.recon_cnt;
      raw_.request.first_conn = true;
      if (establish(name)) return true;
      world_.run_for(1s);
    }
    return false;
  }
  void disconnect() {
    for (auto& end : raw_.ends) end->close();
    EXPECT_TRUE(world_.run_until([&] { return raw_.all_closed(); }, 60s));
    raw_.ends.clear();
  }

  // ---- Messages ----

  Answer greet(std::uint8_t version = 2) {
    auto message = garbage<wire::layout::SessionInfo>();
    message.header.type = 0;
    message.version = version;
    return wait(read(0, 0, wire::bytes_of(message), 36));
  }
  Answer send_open(const std::string& name, wire::AccessMode mode = wire::AccessMode::rw) {
    auto message = garbage<wire::layout::Open>();
    message.header.type = 2;
    message.access_mode = static_cast<std::uint8_t>(mode);
    std::memcpy(message.device_name.data(), name.c_str(), name.size() + 1);
    return wait(read(0, 0, wire::bytes_of(message), 56));
  }
  // The id, or minus the errno.
  std::int64_t open(const std::string& name, wire::AccessMode mode = wire::AccessMode::rw) {
    const Answer answer = send_open(name, mode);
    if (!answer) return -answer.error;
    return wire::parse_open_response(answer.data)->device_id;
  }
  int close(std::int64_t id) {
    auto message = garbage<wire::layout::Close>();
    message.header.type = 5;
    message.device_id = static_cast<std::uint32_t>(id);
    return wait(write(0, 0, wire::bytes_of(message), {})).error;
  }
  static wire::layout::Io io(std::int64_t id, std::uint32_t rw, std::uint64_t sector,
                             std::uint32_t bytes) {
    auto message = garbage<wire::layout::Io>();
    message.header.type = 4;
    message.device_id = static_cast<std::uint32_t>(id);
    message.rw = rw;
    message.sector = sector;
    message.bi_size = bytes;
    message.priority = 0x4004;
    return message;
  }
  Answer read_blocks(std::int64_t id, std::uint64_t sector, std::uint32_t bytes,
                     std::uint16_t cid = 1, std::uint32_t chunk = 1) {
    return wait(read(cid, chunk, wire::bytes_of(io(id, 0x100, sector, bytes)), bytes));
  }
  int write_blocks(std::int64_t id, std::uint64_t sector, std::span<const std::byte> data,
                   std::uint32_t rw = 0x101, std::uint16_t cid = 1, std::uint32_t chunk = 1) {
    const auto message = io(id, rw, sector, static_cast<std::uint32_t>(data.size()));
    return wait(write(cid, chunk, wire::bytes_of(message), data)).error;
  }
  // Discard, write zeroes, ...: a write request without data.
  int change(std::int64_t id, std::uint32_t rw, std::uint64_t sector, std::uint32_t bytes) {
    return wait(write(1, 1, wire::bytes_of(io(id, rw, sector, bytes)), {})).error;
  }
  int flush(std::int64_t id) {
    return wait(read(1, 1, wire::bytes_of(io(id, 0x302, ~std::uint64_t{0}, 0)), 0)).error;
  }

  // ---- Requests ----

  // `data_length` bytes of room; the message may be cut to `size`.
  std::unique_ptr<Pending> read(std::uint16_t cid, std::uint32_t chunk,
                                std::span<const std::byte> message, std::uint32_t data_length) {
    auto pending = begin(cid, chunk);
    auto& end = *raw_.ends[cid];
    const auto usr_len = static_cast<std::uint16_t>(message.size());
    auto header = wire::encode_read(usr_len);
    if (data_length != 0) {
      pending->target.resize(data_length);
      pending->segment = {pending->target.data(), data_length};
      const auto span = end.connection->expose(chunk % 16, {&pending->segment, 1}).value();
      pending->key = span.key;
      header = wire::encode_read(usr_len, {span.address, span.key, data_length}, true);
    }
    std::vector<std::byte> bytes(message.begin(), message.end());
    bytes.insert(bytes.end(), header.view().begin(), header.view().end());
    raw_.request_at(end, chunk, data_length, bytes, data_length + usr_len);
    return pending;
  }
  std::unique_ptr<Pending> write(std::uint16_t cid, std::uint32_t chunk,
                                 std::span<const std::byte> message,
                                 std::span<const std::byte> data) {
    auto pending = begin(cid, chunk);
    const auto usr_len = static_cast<std::uint16_t>(message.size());
    std::vector<std::byte> bytes(data.begin(), data.end());
    bytes.insert(bytes.end(), message.begin(), message.end());
    const auto header = wire::encode_write(usr_len);
    const auto tail = wire::bytes_of(header);
    bytes.insert(bytes.end(), tail.begin(), tail.end());
    raw_.request_at(*raw_.ends[cid], chunk, 0, bytes,
                    static_cast<std::uint32_t>(data.size()) + usr_len);
    return pending;
  }
  bool answered(const Pending& pending) { return find(pending) != nullptr; }
  Answer wait(std::unique_ptr<Pending> pending) {
    auto& end = *raw_.ends[pending->cid];
    std::ignore = world_.run_until([&] { return answered(*pending) || end.closed; }, 20s);
    const std::uint32_t* immediate = find(*pending);
    Answer answer;
    if (immediate == nullptr) return answer;
    answer.error = static_cast<int>(wire::decode_response(*immediate).error);
    answer.invalidated =
        wire::immediate_type(*immediate) == wire::ImmediateType::io_response_invalidated;
    const bool told =
        std::ranges::find(end.invalidated.begin() + static_cast<long>(pending->invalidated_before),
                          end.invalidated.end(), pending->key) != end.invalidated.end();
    EXPECT_EQ(answer.invalidated, told) << "the type must say what was done";
    if (pending->key != 0 && !told) end.connection->hide(pending->chunk % 16);
    answer.data = std::move(pending->target);
    return answer;
  }

 private:
  // As messages are built on the kernel's stack: nobody cleared it.
  template <class Layout>
  static Layout garbage() {
    std::array<std::byte, sizeof(Layout)> bytes;
    bytes.fill(std::byte{0xcc});
    return std::bit_cast<Layout>(bytes);
  }
  std::unique_ptr<Pending> begin(std::uint16_t cid, std::uint32_t chunk) {
    auto pending = std::make_unique<Pending>();
    pending->cid = cid;
    pending->chunk = chunk;
    pending->immediates_before = raw_.ends[cid]->immediates.size();
    pending->invalidated_before = raw_.ends[cid]->invalidated.size();
    return pending;
  }
  const std::uint32_t* find(const Pending& pending) {
    const auto& all = raw_.ends[pending.cid]->immediates;
    for (std::size_t i = pending.immediates_before; i < all.size(); ++i) {
      const auto type = wire::immediate_type(all[i]);
      const bool response = type == wire::ImmediateType::io_response ||
                            type == wire::ImmediateType::io_response_invalidated;
      if (response && wire::decode_response(all[i]).id == pending.chunk) return &all[i];
    }
    return nullptr;
  }

  World& world_;
  rtrs::testing::RawClient raw_;
};

}  // namespace rnbd::testing
