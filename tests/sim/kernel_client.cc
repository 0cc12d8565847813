#include "sim/kernel_client.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "wire/rnbd.h"

namespace rnbd::sim_test {

using namespace std::chrono_literals;  // NOLINT: times
using block::Op;
using fabric::sim::Host;
using fabric::sim::World;

namespace {

constexpr std::uint16_t kConnections = 3;  // the service connection, and two for requests
constexpr std::uint32_t kReceives = 64;
constexpr Duration kTick = 2ms;
constexpr Duration kHeartbeat = 40ms;
constexpr int kSilentMax = 5;  // heartbeats

}  // namespace

// One connection of a path.
class KernelClient::Channel final : public fabric::ConnectionHandler {
 public:
  Channel(KernelClient& owner_, Path& path_, std::uint16_t cid_)
      : owner(owner_), path(path_), cid(cid_) {}
  void on_connected(std::span<const std::byte> accept) override {
    owner.on_connected(*this, accept);
  }
  void on_rejected(std::span<const std::byte>) override {}
  void on_done(std::uint64_t cookie, std::error_code) override {
    if (cookie != 0) owner.on_sent(static_cast<std::uint32_t>(cookie - 1));
  }
  void on_receive(const fabric::ReceiveEvent& event) override;
  void on_closed(std::error_code) override {
    connection.reset();
    owner.on_channel_closed(path);
  }

  KernelClient& owner;
  Path& path;
  const std::uint16_t cid;
  std::unique_ptr<fabric::Connection> connection;
  std::vector<std::byte> info;
};

struct KernelClient::Path {
  enum class State : std::uint8_t { down, connecting, up, closing };
  std::size_t number = 0;
  State state = State::down;
  Uuid uuid{};
  std::uint16_t attempts = 0;
  bool guarded = false;
  bool heard = false;
  int silent = 0;
  TimePoint next{};  // heartbeat, or attempt
  std::unique_ptr<fabric::Domain> domain;
  std::vector<std::unique_ptr<Channel>> channels;
  std::vector<std::byte> info_request;
  wire::ConnectAccept limits;
  std::vector<wire::RemoteChunk> chunks;
};

void KernelClient::Channel::on_receive(const fabric::ReceiveEvent& event) {
  using Kind = fabric::ReceiveEvent::Kind;
  if (event.kind == Kind::flushed || path.state == Path::State::closing) return;
  path.heard = true;
  if (event.kind == Kind::send) return owner.on_info(path, event.bytes);
  connection->post_receive({}, 0);
  owner.on_immediate(*this, event.immediate);
}

// What the application sees.
class KernelClient::Queue final : public block::Queue {
 public:
  explicit Queue(KernelClient& owner) : owner_(owner) {}
  void submit(block::Request& request) override { owner_.submit(request); }

 private:
  KernelClient& owner_;
};

class KernelClient::Device final : public block::Device {
 public:
  explicit Device(KernelClient& owner) : owner_(owner) {}
  const std::string& name() const override { return owner_.work_.who; }
  block::Limits limits() const override { return owner_.disk_.device().limits(); }
  Result<std::unique_ptr<block::Queue>> open_queue(Loop&) override {
    return std::make_unique<Queue>(owner_);
  }

 private:
  KernelClient& owner_;
};

KernelClient::KernelClient(World& world, Host& host, const Config& config, const Report& report,
                           ServerHost& server, Disk& disk, std::size_t number)
    : world_(world),
      host_(host),
      config_(config),
      report_(report),
      server_(server),
      disk_(disk),
      work_{.world = world,
            .report = report,
            .model = disk.model(),
            .who = "client" + std::to_string(number),
            .client = static_cast<std::uint32_t>(number),
            .writes = true,
            .disk_failed = disk.ever_failed(),
            .depth = config.depth + 2,
            .budget = 100 + config.operations,
            .preflush = false},
      fabric_(host.add_fabric()),
      random_(world.random().next()),
      session_(random_.uuid()),
      device_(std::make_unique<Device>(*this)) {
  step_.set_place(&fabric_.sim_loop(), world.next_id());
  for (std::size_t i = 0; i < config.paths; ++i) {
    paths_.push_back(std::make_unique<Path>());
    paths_.back()->number = i;
    paths_.back()->uuid = random_.uuid();
  }
  later(0ns);
}

KernelClient::~KernelClient() { RNBD_ASSERT(ended_); }

void KernelClient::later(Duration delay) { world_.schedule(step_, world_.now() + delay); }

// ---- What time brings ----

void KernelClient::step() {
  if (ended_) return;
  for (const auto& path : paths_) {
    if (path->state == Path::State::down && path->next <= world_.now() && !closing_ &&
        (path->number == 0 || session_known_)) {
      connect(*path);
    } else if (path->state == Path::State::up && path->next <= world_.now()) {
      path->next = world_.now() + kHeartbeat;
      path->silent = std::exchange(path->heard, false) ? 0 : path->silent + 1;
      if (path->silent > kSilentMax)
        lose(*path);
      else
        send_heartbeat(*path, wire::kHeartbeatImmediate);
    }
  }
  if (!open_ && !opening_ && !ending_ && any_path() != nullptr) send_open();
  if (ending_) {
    work_.stopping = true;
    if (worker_) worker_->wake();
    if ((!worker_ || worker_->closed()) && !std::exchange(closing_, true)) {
      for (const auto& path : paths_) lose(*path);
    }
    ended_ = closing_ && std::ranges::all_of(paths_, [](const auto& path) {
               return path->state == Path::State::down;
             });
  }
  if (!ended_) later(kTick);
}

void KernelClient::end() { ending_ = true; }

bool KernelClient::path_up(std::size_t path) const {
  return paths_[path]->state == Path::State::up;
}

std::size_t KernelClient::inflight(std::size_t path) const {
  return static_cast<std::size_t>(std::ranges::count_if(permits_, [&](const auto& permit) {
    return permit->use != Permit::Use::none && permit->path == paths_[path].get() &&
           !permit->answered;
  }));
}

void KernelClient::lose_path(std::size_t path) { lose(*paths_[path]); }

void KernelClient::guard(std::size_t path, bool guarded) { paths_[path]->guarded = guarded; }

// ---- Paths ----

void KernelClient::connect(Path& path) {
  path.state = Path::State::connecting;
  ++path.attempts;
  path.channels.clear();
  path.domain = fabric_.create_domain(fabric::PathAddress{}).value();
  path.chunks.clear();
  connect_channel(path, 0);
}

void KernelClient::connect_channel(Path& path, std::uint16_t cid) {
  const wire::ConnectRequest request{.cid = cid,
                                     .cid_num = kConnections,
                                     .recon_cnt = path.attempts,
                                     .sess_uuid = path.uuid,
                                     .paths_uuid = session_,
                                     .first_conn = path.number == 0 || session_known_};
  const auto bytes = wire::encode_connect_request(request);
  path.channels.push_back(std::make_unique<Channel>(*this, path, cid));
  Channel& channel = *path.channels.back();
  channel.connection =
      fabric_
          .connect({.address = {host_.address(path.number), server_.address(path.number)},
                    .private_data = wire::bytes_of(bytes),
                    .timeout = config_.session.connect_timeout},
                   *path.domain, {.send_depth = 256, .receive_depth = kReceives + 1, .windows = 64},
                   channel)
          .value();
}

void KernelClient::on_connected(Channel& channel, std::span<const std::byte> accept) {
  Path& path = channel.path;
  if (path.state != Path::State::connecting) return;
  const auto limits = wire::parse_connect_accept(accept, channel.cid == 0);
  if (!limits) return lose(path);
  if (channel.cid == 0) {
    path.limits = *limits;
    channel.info.resize(wire::info_response_size(limits->queue_depth));
    channel.connection->post_receive(channel.info, 1);
  }
  for (std::uint32_t i = 0; i < kReceives; ++i) channel.connection->post_receive({}, 0);
  if (path.channels.size() < kConnections)
    return connect_channel(path, static_cast<std::uint16_t>(path.channels.size()));
  const auto request = wire::encode_info_request(work_.who);
  const auto bytes = wire::bytes_of(request);
  path.info_request.assign(bytes.begin(), bytes.end());
  const iovec local{path.info_request.data(), path.info_request.size()};
  const fabric::Work work{.op = fabric::Work::Op::send, .local = {&local, 1}};
  path.channels[0]->connection->post({&work, 1});
  path.next = world_.now();
}

void KernelClient::on_info(Path& path, std::span<const std::byte> bytes) {
  if (path.state != Path::State::connecting) return;
  auto chunks = wire::parse_info_response(bytes, path.limits);
  if (!chunks) return lose(path);
  path.chunks = std::move(*chunks);
  path.state = Path::State::up;
  path.silent = 0;
  path.next = world_.now() + kHeartbeat;
  session_known_ = true;
  report_.note("%s: path %zu up", work_.who.c_str(), path.number);
  if (depth_ == 0) {
    depth_ = path.limits.queue_depth;
    for (std::uint32_t i = 0; i < depth_; ++i) {
      permits_.push_back(std::make_unique<Permit>());
      permits_.back()->number = i;
    }
  }
  later(0ns);
}

void KernelClient::lose(Path& path) {
  if (path.state == Path::State::down || path.state == Path::State::closing) return;
  report_.note("%s: path %zu lost", work_.who.c_str(), path.number);
  if (path.guarded)
    report_.violation("R1/R2: %s: path %zu was lost without a reason", work_.who.c_str(),
                      path.number);
  path.state = Path::State::closing;
  for (const auto& channel : path.channels) {
    if (channel->connection) channel->connection->close(Errc::session_closed);
  }
}

// When the last one has closed its queue pairs are drained, and that is all it waits for.
void KernelClient::on_channel_closed(Path& path) {
  lose(path);
  const bool all = std::ranges::all_of(
      path.channels, [](const auto& channel) { return channel->connection == nullptr; });
  if (!all || path.state != Path::State::closing) return;
  path.state = Path::State::down;
  path.next = world_.now() + 4ms + world_.some(4ms);
  fail_over(path);
}

void KernelClient::fail_over(Path& path) {
  if (any_path() == nullptr) open_ = opening_ = false;
  for (const auto& permit : permits_) {
    if (permit->use == Permit::Use::none || permit->path != &path) continue;
    permit->path = nullptr;
    if (permit->answered) {
      permit->sent = true;
      finish(*permit);
    } else if (permit->use != Permit::Use::io) {
      permit->use = Permit::Use::none;
      opening_ = false;
    } else if (open_) {
      send(*permit, *any_path());
    }
  }
}

KernelClient::Path* KernelClient::any_path() {
  std::vector<Path*> up;
  for (const auto& path : paths_) {
    if (path->state == Path::State::up) up.push_back(path.get());
  }
  return up.empty() ? nullptr : up[world_.random().below(up.size())];
}

void KernelClient::send_heartbeat(Path& path, std::uint32_t immediate) {
  const fabric::Work work{.op = fabric::Work::Op::write_imm, .immediate = immediate};
  path.channels[0]->connection->post({&work, 1});
}

// ---- Requests ----

KernelClient::Permit* KernelClient::take_permit(Permit::Use use) {
  for (const auto& permit : permits_) {
    if (permit->use != Permit::Use::none) continue;
    if (permit->number == 0 && use == Permit::Use::io) continue;  // for an OPEN there is always one
    const std::uint32_t number = permit->number;
    *permit = Permit{};
    permit->number = number;
    permit->use = use;
    return permit.get();
  }
  return nullptr;
}

void KernelClient::send_open() {
  Permit* permit = take_permit(Permit::Use::open);
  if (permit == nullptr) return;
  opening_ = true;
  const auto text = wire::encode(wire::Open{wire::AccessMode::rw, disk_.config().name()});
  const auto bytes = wire::bytes_of(text);
  permit->message.assign(bytes.begin(), bytes.end());
  permit->read = true;
  open_answer_.assign(sizeof(wire::layout::OpenResponse), std::byte{});
  permit->data = {{open_answer_.data(), open_answer_.size()}};
  permit->data_length = static_cast<std::uint32_t>(open_answer_.size());
  send(*permit, *any_path());
}

void KernelClient::on_opened(const Permit& permit) {
  opening_ = false;
  const auto answer = wire::parse_open_response(open_answer_);
  if (permit.error != 0 || !answer) return;  // step() tries again
  report_.note("%s: opened", work_.who.c_str());
  device_id_ = answer->device_id;
  open_ = true;
  for (const auto& held : permits_) {
    if (held->use == Permit::Use::io && held->path == nullptr) start(*held);
  }
  if (!worker_) worker_ = std::make_unique<Worker>(work_, *device_, fabric_.sim_loop());
  pump();
}

void KernelClient::submit(block::Request& request) {
  waiting_.push_back(&request);
  pump();
}

void KernelClient::pump() {
  while (open_ && !waiting_.empty()) {
    Permit* permit = take_permit(Permit::Use::io);
    if (permit == nullptr) return;
    permit->request = waiting_.front();
    waiting_.pop_front();
    start(*permit);
  }
}

// The message, under the id the device has now.
void KernelClient::start(Permit& permit) {
  const block::Request& request = *permit.request;
  wire::Io io{.device_id = device_id_,
              .op = wire::IoOp::read,
              .flags = wire::kIoSync,
              .sector = request.offset >> wire::kSectorShift,
              .length = static_cast<std::uint32_t>(request.length),
              .priority = 0};
  if ((request.flags & block::kFua) != 0) io.flags |= wire::kIoFua;
  if (request.op == Op::write) io.op = wire::IoOp::write;
  if (request.op == Op::discard) io.op = wire::IoOp::discard;
  if (request.op == Op::write_zeroes) io.op = wire::IoOp::write_zeroes;
  if (request.op == Op::flush) {
    io.op = wire::IoOp::flush;
    io.sector = wire::kFlushSector;
    io.flags |= wire::kIoFua;
  }
  permit.read = request.op == Op::read || request.op == Op::flush;
  const auto text = wire::encode(io);
  const auto bytes = wire::bytes_of(text);
  permit.message.assign(bytes.begin(), bytes.end());
  permit.data.assign(request.segments.begin(), request.segments.end());
  permit.data_length =
      block::carries_data(request.op) ? static_cast<std::uint32_t>(request.length) : 0;
  if (Path* path = any_path()) send(permit, *path);
}

void KernelClient::send(Permit& permit, Path& path) {
  permit.path = &path;
  permit.sent = permit.answered = false;
  Channel& channel = *path.channels[1 + permit.number % (kConnections - 1)];
  const auto usr_len = static_cast<std::uint16_t>(permit.message.size());
  permit.header = permit.message;
  if (permit.read) {
    auto text = wire::encode_read(usr_len);
    if (permit.data_length != 0) {
      const auto span = channel.connection->expose(permit.number, permit.data);
      if (!span) return;  // it is closing, and fails over
      text = wire::encode_read(usr_len, {span->address, span->key, permit.data_length}, false);
    }
    permit.header.insert(permit.header.end(), text.view().begin(), text.view().end());
  } else {
    const auto text = wire::encode_write(usr_len);
    const auto bytes = wire::bytes_of(text);
    permit.header.insert(permit.header.end(), bytes.begin(), bytes.end());
  }
  std::vector<iovec> local;
  if (!permit.read) local = permit.data;
  local.push_back({permit.header.data(), permit.header.size()});
  const wire::RemoteChunk& chunk = path.chunks[permit.number];
  const fabric::Work work{
      .op = fabric::Work::Op::write_imm,
      .local = local,
      .remote = {chunk.address + (permit.read ? permit.data_length : 0), chunk.key, 0},
      .immediate =
          wire::RequestImmediate(depth_).encode(permit.number, permit.data_length + usr_len),
      .cookie = permit.number + 1};
  channel.connection->post({&work, 1});
}

void KernelClient::on_immediate(Channel& channel, std::uint32_t immediate) {
  if (immediate == wire::kHeartbeatImmediate)
    return send_heartbeat(channel.path, wire::kHeartbeatAckImmediate);
  if (wire::immediate_type(immediate) != wire::ImmediateType::io_response) return;
  const auto response = wire::decode_response(immediate);
  if (response.id >= permits_.size()) return lose(channel.path);
  Permit& permit = *permits_[response.id];
  if (permit.use == Permit::Use::none || permit.path != &channel.path || permit.answered) {
    return report_.violation("I6: %s: an answer for permit %u, which waits for none",
                             work_.who.c_str(), response.id);
  }
  permit.answered = true;
  permit.error = response.error;
  if (permit.read && permit.data_length != 0) channel.connection->hide(permit.number);
  if (permit.sent) finish(permit);
}

void KernelClient::on_sent(std::uint32_t number) {
  Permit& permit = *permits_[number];
  if (permit.use == Permit::Use::none || permit.path == nullptr) return;
  permit.sent = true;
  if (permit.answered) finish(permit);
}

void KernelClient::finish(Permit& permit) {
  if (permit.use == Permit::Use::io && permit.error == ENOTCONN) {  // closed there: held
    permit.path = nullptr;
    open_ = false;
    return;
  }
  const Permit::Use use = std::exchange(permit.use, Permit::Use::none);
  if (use == Permit::Use::open) return on_opened(permit);
  block::Request& request = *permit.request;
  request.result = from_errno(permit.error);
  request.done(request);
  pump();
}

bool KernelClient::misbehave(std::size_t number) {
  Path& path = *paths_[number];
  for (const auto& permit : permits_) {
    if (permit->use != Permit::Use::io || permit->path != &path || permit->answered) continue;
    const std::uint32_t data_length = permit->read ? 0 : permit->data_length;
    const wire::RemoteChunk& chunk = path.chunks[permit->number];
    const iovec header{permit->header.data(), permit->header.size()};
    const fabric::Work work{
        .op = fabric::Work::Op::write_imm,
        .local = {&header, 1},
        .remote = {chunk.address + data_length, chunk.key, 0},
        .immediate = wire::RequestImmediate(depth_).encode(
            permit->number, data_length + static_cast<std::uint32_t>(permit->message.size()))};
    path.channels[1 + permit->number % (kConnections - 1)]->connection->post({&work, 1});
    return true;
  }
  return false;
}

}  // namespace rnbd::sim_test
