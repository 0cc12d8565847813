#pragma once
// A server that does on the wire what the Linux kernel's does (drivers/infiniband/ulp/rtrs), with
// always_invalidate on or off: how it refuses, what it registers, how it answers. What the requests
// are about is the business of a function. For playing the kernel to our client in the simulator.

#include <functional>
#include <list>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "fabric/sim/memory.h"
#include "rtrs/testing/raw.h"

namespace rnbd::rtrs::testing {

struct KernelServerOptions {
  std::uint32_t queue_depth = 512;
  std::uint32_t chunk_size = 131072;
  bool always_invalidate = true;
  std::uint32_t regions = 1;  // when it is off
};

// A request as it lies in its chunk.
struct KernelRequest {
  Uuid session{};
  std::string session_name;
  std::uint16_t cid = 0;
  std::uint32_t immediate = 0;
  bool read = false;
  std::uint16_t flags = 0;  // of a read
  std::uint16_t descriptors = 0;
  std::uint32_t data_length = 0;
  std::vector<std::byte> message;
  std::vector<std::byte> rtrs_message;
  std::vector<std::byte> data;  // write: the client's. read: room, and then what it gets
};

class KernelServer final : fabric::ListenHandler {
 public:
  using Handler = std::function<int(KernelRequest&)>;  // the errno to answer

  KernelServer(World& world, Host& host, std::size_t addresses, const KernelServerOptions& as,
               Handler handler)
      : options(as), world_(world), fabric_(host.add_fabric()), handler_(std::move(handler)) {
    for (std::size_t i = 0; i < addresses; ++i)
      listeners_.push_back(fabric_.listen(host.address_with_port(kPort, i), *this).value());
  }
  ~KernelServer() override {
    listeners_.clear();
    disconnect();
    EXPECT_TRUE(world_.run_until([&] { return live_paths() == 0; }, 60s));
    world_.run_for(1s);
  }
  // As by its sysfs: every path is closed.
  void disconnect() {
    for (auto& path : paths_) close(*path);
  }
  // As by unloading and loading its modules, perhaps with other parameters.
  void reload(const KernelServerOptions& with) {
    disconnect();
    options = with;
  }
  void heartbeat() {
    for (auto& path : paths_) {
      if (path->connected) path->ends[0]->immediate(wire::kHeartbeatImmediate);
    }
  }
  void answer_held() {
    std::exchange(hold, false);
    for (auto& call : std::exchange(held_, {})) call();
  }
  std::size_t held() const { return held_.size(); }
  std::size_t live_paths() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(paths_, [](const auto& path) { return !path->gone(); }));
  }

  KernelServerOptions options;
  bool hold = false;                  // requests are executed and not answered yet
  bool mute = false;                  // heartbeats are not answered
  int refuse = 0;                     // connects, with this errno
  std::set<std::string> stale_names;  // sessions of the dead, still there
  std::vector<wire::layout::ConnectRequest> requests;
  std::vector<std::vector<std::byte>> infos;
  std::set<std::uint32_t> heartbeats;  // immediates of heartbeats that came
  std::uint64_t answered = 0;
  std::uint64_t io_on_service = 0;  // requests that came on connection 0
  std::size_t most_at_once = 0;     // requests held
  std::function<void(const Uuid& session)> on_session_gone;

 private:
  struct Path {
    wire::ConnectRequest request;
    fabric::PathAddress address;
    std::string name;
    std::unique_ptr<fabric::Domain> domain;
    std::vector<std::unique_ptr<fabric::Memory>> memory;  // per chunk, or per region
    std::vector<RawEnd*> ends;                            // by cid
    bool connected = false;
    bool closing = false;
    bool gone() const {
      return closing &&
             std::ranges::all_of(ends, [](const RawEnd* end) { return !end || !end->connection; });
    }
  };

  void on_connect_request(std::unique_ptr<fabric::IncomingConnection> incoming) override {
    const auto raw = wire::load<wire::layout::ConnectRequest>(incoming->private_data());
    if (raw) requests.push_back(*raw);
    const auto request = wire::parse_connect_request(incoming->private_data());
    const int error = refuse != 0 ? refuse : request ? why_not(*request, *incoming) : ECONNRESET;
    if (error != 0) {
      return fabric_.reject(std::move(incoming),
                            wire::bytes_of(wire::encode_connect_reject(error)));
    }
    Path* path = find(*request);
    if (path == nullptr) path = &add_path(*request, *incoming);
    accept(*path, request->cid, std::move(incoming));
  }
  int why_not(const wire::ConnectRequest& request, const fabric::IncomingConnection& incoming) {
    bool known = false;
    for (const auto& path : paths_) {
      if (path->gone() || path->request.paths_uuid != request.paths_uuid) continue;
      known = true;
      if (path->request.sess_uuid == request.sess_uuid) {
        const bool fits = !path->closing && !path->connected &&
                          path->request.cid_num == request.cid_num && !path->ends[request.cid];
        return fits ? 0 : ECONNRESET;
      }
      if (path->address.source.same_host(incoming.peer_address()) &&
          path->address.destination.same_host(incoming.local_address())) {
        return EEXIST;
      }
    }
    return known || request.first_conn ? 0 : ENXIO;
  }
  Path* find(const wire::ConnectRequest& request) {
    for (const auto& path : paths_) {
      if (!path->gone() && path->request.sess_uuid == request.sess_uuid) return path.get();
    }
    return nullptr;
  }
  Path& add_path(const wire::ConnectRequest& request, const fabric::IncomingConnection& incoming) {
    auto& path = *paths_.emplace_back(std::make_unique<Path>());
    path.request = request;
    path.address = {incoming.peer_address(), incoming.local_address()};
    path.domain = fabric_.create_domain(incoming).value();
    path.ends.resize(request.cid_num);
    const std::uint32_t regions = options.always_invalidate ? options.queue_depth : options.regions;
    for (std::uint32_t i = 0; i < regions; ++i) {
      const std::size_t size = std::size_t{options.queue_depth} / regions * options.chunk_size;
      path.memory.push_back(
          path.domain->register_memory({.size = size, .access = fabric::Access::remote_write})
              .value());
    }
    return path;
  }
  void accept(Path& path, std::uint16_t cid, std::unique_ptr<fabric::IncomingConnection> incoming) {
    auto& end = *ends_.emplace_back(std::make_unique<RawEnd>());
    path.ends[cid] = &end;
    wire::ConnectAccept answer{.queue_depth = static_cast<std::uint16_t>(options.queue_depth),
                               .max_io_size = options.chunk_size - 4096,
                               .max_hdr_size = 4096};
    answer.new_rkey = options.always_invalidate;
    end.accept(fabric_, *path.domain, std::move(incoming),
               wire::bytes_of(wire::encode_connect_accept(answer)));
    end.on_event = [this, &path, &end, cid, sends = std::size_t{0},
                    seen = std::size_t{0}]() mutable {
      if (!end.connection) return close(path);
      for (; sends < end.sends.size(); ++sends) on_info(path, cid, end.sends[sends]);
      for (; seen < end.immediates.size(); ++seen) on_immediate(path, cid, end.immediates[seen]);
    };
  }
  void close(Path& path) {
    if (!std::exchange(path.closing, true)) {
      path.connected = false;
      for (RawEnd* end : path.ends) {
        if (end) end->close();
      }
    }
    const bool last = std::ranges::none_of(paths_, [&](const auto& other) {
      return other->request.paths_uuid == path.request.paths_uuid && !other->gone();
    });
    if (last && on_session_gone) on_session_gone(path.request.paths_uuid);
  }

  void on_info(Path& path, std::uint16_t cid, const std::vector<std::byte>& bytes) {
    infos.push_back(bytes);
    const auto name = wire::parse_info_request(bytes);
    const bool complete = std::ranges::none_of(path.ends, [](RawEnd* end) { return !end; });
    if (cid != 0 || !name || !complete || stale_names.contains(*name) ||
        std::ranges::any_of(paths_, [&](const auto& other) {
          return !other->gone() && other->name == *name &&
                 other->request.paths_uuid != path.request.paths_uuid;
        })) {
      return close(path);
    }
    path.name = *name;
    path.connected = true;
    std::vector<wire::Descriptor> regions;
    for (const auto& memory : path.memory) {
      const auto span = memory->remote(0, memory->bytes().size());
      regions.push_back(
          {span.address, span.key, static_cast<std::uint32_t>(memory->bytes().size())});
    }
    path.ends[0]->send(wire::encode_info_response(regions));
  }

  void on_immediate(Path& path, std::uint16_t cid, std::uint32_t immediate) {
    const auto type = wire::immediate_type(immediate);
    if (type != wire::ImmediateType::io_request) {
      heartbeats.insert(immediate);
      if (type == wire::ImmediateType::heartbeat && !mute)
        path.ends[0]->immediate(wire::kHeartbeatAckImmediate);
      return;
    }
    EXPECT_TRUE(path.connected || path.closing);
    if (path.connected) on_request(path, cid, immediate);
  }
  std::span<std::byte> chunk_bytes(Path& path, std::uint32_t chunk) {
    const std::size_t per_region = options.queue_depth / path.memory.size();
    return path.memory[chunk / per_region]->bytes().subspan(chunk % per_region * options.chunk_size,
                                                            options.chunk_size);
  }
  void on_request(Path& path, std::uint16_t cid, std::uint32_t immediate) {
    const auto [chunk, offset] = wire::RequestImmediate(options.queue_depth).decode(immediate);
    if (chunk >= options.queue_depth || offset >= options.chunk_size) return close(path);
    const auto bytes = chunk_bytes(path, chunk);
    const auto start = wire::load<wire::layout::WriteMessage>(bytes.subspan(offset)).value();
    auto request = std::make_shared<KernelRequest>();
    request->session = path.request.paths_uuid;
    request->session_name = path.name;
    request->cid = cid;
    request->immediate = immediate;
    request->read = start.type == static_cast<std::uint16_t>(wire::RtrsType::read);
    const std::uint32_t usr_len = start.usr_len;
    if (start.type < 2 || start.type > 3 || usr_len > offset) return close(path);
    wire::Descriptor target;
    if (request->read && !take_read(bytes.subspan(offset), *request, target)) return close(path);
    request->data_length = offset - usr_len;
    copy(request->message, bytes.subspan(request->data_length, usr_len));
    const std::size_t header = request->read ? 8 + 16 * std::size_t{request->descriptors} : 4;
    copy(request->rtrs_message, bytes.subspan(offset, header));
    copy(request->data, bytes.first(request->data_length));
    if (cid == 0) ++io_on_service;
    const int error = handler_(*request);
    auto answer = [this, &path, chunk = chunk, request, target, error] {
      respond(path, chunk, *request, target, error);
    };
    if (!hold) return answer();
    held_.push_back(answer);
    most_at_once = std::max(most_at_once, held_.size());
  }
  static void copy(std::vector<std::byte>& to, std::span<const std::byte> from) {
    to.assign(from.begin(), from.end());
  }
  static bool take_read(std::span<const std::byte> bytes, KernelRequest& request,
                        wire::Descriptor& target) {
    const auto message = wire::load<wire::layout::ReadMessage>(bytes).value();
    request.flags = message.flags;
    request.descriptors = message.descriptor_count;
    if (request.descriptors > 1) return false;
    if (request.descriptors == 0) return true;
    const auto descriptor = wire::load<wire::layout::Descriptor>(bytes.subspan(8)).value();
    target = {descriptor.address, descriptor.key, descriptor.length};
    return true;
  }

  void respond(Path& path, std::uint32_t chunk, const KernelRequest& request,
               const wire::Descriptor& target, int error) {
    using Op = fabric::Work::Op;
    if (!path.connected) return;
    ++answered;
    RawEnd& end = *path.ends[request.cid];
    if (request.read && request.descriptors == 1 && error == 0) {
      // As many bytes as the client says, whatever the user made of them.
      EXPECT_LE(target.length, options.chunk_size);
      std::vector<std::byte> data = request.data;
      data.resize(target.length);
      end.post({.op = Op::write, .remote = {target.address, target.key, 0}}, data);
    }
    const bool invalidate = request.descriptors == 1 && (request.flags & 1) != 0;
    if (invalidate) end.post({.op = Op::send_invalidate, .invalidate_key = target.key});
    const std::uint32_t immediate = wire::encode_response(chunk, error, invalidate);
    // The remote address and key of a write of nothing are never initialised.
    const fabric::RemoteSpan garbage{0xdeadbeefdeadbeef, 0xdeadbeef, 0};
    if (!options.always_invalidate)
      return end.post({.op = Op::write_imm, .remote = garbage, .immediate = immediate});
    // The old key is dead; an answer of the user's error sends it once more, registered anew.
    if (error == 0) static_cast<fabric::sim::SimMemory&>(*path.memory[chunk]).renew_key();
    const auto key = wire::encode_rkey_response(static_cast<std::uint16_t>(chunk),
                                                path.memory[chunk]->remote(0, 1).key);
    end.post({.op = Op::send_imm, .immediate = immediate}, wire::bytes_of(key));
  }

  World& world_;
  SimFabric& fabric_;
  const Handler handler_;
  std::vector<std::unique_ptr<fabric::Listener>> listeners_;
  std::vector<std::unique_ptr<RawEnd>> ends_;
  std::list<std::unique_ptr<Path>> paths_;
  std::vector<std::function<void()>> held_;
};

}  // namespace rnbd::rtrs::testing
