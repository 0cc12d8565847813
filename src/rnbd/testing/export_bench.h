#pragma once
// Exports alone: requests made by hand, as RTRS would hand them over, on simulated loops over
// simulated disks.

#include "rnbd/testing/disk.h"
#include "wire/rnbd.h"

namespace rnbd::testing {

class HandSession final : public rtrs::server::Session {
 public:
  HandSession(std::string name, std::uint64_t id) : name_(std::move(name)), id_(id) {}
  const std::string& name() const override { return name_; }
  std::uint64_t id() const override { return id_; }
  std::size_t home() const override { return 0; }
  std::uint32_t queue_depth() const override { return 64; }
  bool own_client() const override { return own; }
  bool survivor() const override { return from_before; }
  void notify() override { ++notices; }
  void release() override { ++released; }
  int notices = 0;
  int released = 0;
  bool own = false;
  bool from_before = false;

 private:
  std::string name_;
  std::uint64_t id_;
};

// One message with its chunk. The scratch memory is spoilt when it is answered, as its next user
// would.
class HandRequest final : public rtrs::server::Request {
 public:
  HandRequest(HandSession& session, SimLoop& loop, std::size_t loop_index, rtrs::Direction way,
              std::vector<std::byte> text, std::size_t data_length, std::size_t reply_length)
      : session_(session), loop_(loop), loop_index_(loop_index), text_(std::move(text)) {
    chunk.resize(std::max(data_length, reply_length), kStale);
    direction_ = way;
    message_ = text_;
    data_ = std::span(chunk).first(data_length);
    reply_length_ = static_cast<std::uint32_t>(reply_length);
  }
  rtrs::server::Session& session() override { return session_; }
  std::size_t loop_index() const override { return loop_index_; }
  void respond(int error) override {
    EXPECT_TRUE(loop_.on_this_thread());
    EXPECT_EQ(responses, 0) << "answered twice";
    EXPECT_TRUE(error >= 0 && error <= 511);
    ++responses;
    errno_ = error;
    std::memset(scratch().data(), 0xee, kScratchSize);
  }
  // The bytes that would go to the client.
  std::span<const std::byte> reply() const { return std::span(chunk).first(reply_length_); }
  bool reply_is_stale() const {
    return std::any_of(chunk.begin(), chunk.end(), [](std::byte b) { return b == kStale; });
  }

  static constexpr std::byte kStale{0xd7};  // what an earlier request left in the chunk
  std::vector<std::byte> chunk;
  bool abandoned() const override { return path_closes; }
  bool path_closes = false;
  int responses = 0;
  int errno_ = -1;

 private:
  HandSession& session_;
  SimLoop& loop_;
  std::size_t loop_index_;
  std::vector<std::byte> text_;
};

template <class Layout>
std::vector<std::byte> text_of(const Layout& layout) {
  const auto bytes = std::as_bytes(std::span(&layout, 1));
  return {bytes.begin(), bytes.end()};
}

class ExportBench {
 public:
  static constexpr std::uint32_t kMaxIo = 126976;

  explicit ExportBench(const server::ExportsOptions& options = {}, std::size_t loop_count = 2,
                       std::uint64_t seed = 1)
      : world({.seed = seed}), opener(world) {
    std::vector<Loop*> all;
    for (std::size_t i = 0; i < loop_count; ++i) {
      loops.push_back(&world.make_loop());
      all.push_back(loops.back());
    }
    exports = server::Exports::create(all, opener, kMaxIo, options);
  }
  ~ExportBench() {
    for (auto& session : sessions_) end(*session);
    EXPECT_TRUE(world.run_until([&] { return all_released(); }, 60s))
        << "a session was not released";
    world.run_for(10ms);
    for (auto& request : requests_) EXPECT_EQ(request->responses, 1);
    for (auto& disk : disks_) {
      EXPECT_EQ(disk->queues, 0);
      EXPECT_EQ(disk->overlaps, 0);
      EXPECT_EQ(disk->refused, 0) << "the disk was asked for what it cannot do";
    }
  }

  Disk& add_disk(const std::string& name, const DiskOptions& options = small_disk()) {
    disks_.push_back(std::make_unique<Disk>(world, options));
    opener.add(name, *disks_.back());
    return *disks_.back();
  }
  HandSession& session(const std::string& name) {
    sessions_.push_back(std::make_unique<HandSession>(name, sessions_.size() + 100));
    HandSession& made = *sessions_.back();
    on(0, [&] { exports->on_session_opened(made); });
    return made;
  }
  void end(HandSession& session) {
    if (!ended_.insert(&session).second) return;
    on(0, [&] { exports->on_session_closed(session); });
  }

  // Hands a message over; it is answered some time later.
  HandRequest& send(HandSession& session, std::size_t loop, rtrs::Direction way,
                    std::vector<std::byte> text, std::size_t data_length = 0,
                    std::size_t reply_length = 0) {
    requests_.push_back(std::make_unique<HandRequest>(session, *loops[loop], loop, way,
                                                      std::move(text), data_length, reply_length));
    return *requests_.back();
  }
  HandRequest& start(HandRequest& request) {
    on(request.loop_index(), [&] { exports->on_request(request); });
    return request;
  }
  HandRequest& finish(HandRequest& request) {
    EXPECT_TRUE(world.run_until([&] { return request.responses > 0; }, 10s)) << "not answered";
    return request;
  }

  HandRequest& open_message(HandSession& session, const std::string& name, server::AccessMode mode,
                            std::size_t loop = 0) {
    return send(session, loop, rtrs::Direction::read, text_of(wire::encode(wire::Open{mode, name})),
                56, 56);
  }
  // The id, or minus the errno.
  std::int64_t open(HandSession& session, const std::string& name,
                    server::AccessMode mode = server::AccessMode::rw) {
    HandRequest& request = finish(start(open_message(session, name, mode)));
    if (request.errno_ != 0) return -request.errno_;
    return wire::parse_open_response(request.reply())->device_id;
  }
  HandRequest& start_close(HandSession& session, std::int64_t id, std::size_t loop = 0) {
    return start(send(session, loop, rtrs::Direction::write,
                      text_of(wire::encode(wire::Close{static_cast<std::uint32_t>(id)}))));
  }
  int close(HandSession& session, std::int64_t id) {
    return finish(start_close(session, id)).errno_;
  }

  static wire::Io io(std::int64_t id, wire::IoOp op, std::uint64_t sector, std::uint32_t length,
                     std::uint32_t flags = 0) {
    return {.device_id = static_cast<std::uint32_t>(id),
            .op = op,
            .flags = flags,
            .sector = sector,
            .length = length,
            .priority = 0};
  }
  // An IO carried as a client does it.
  HandRequest& io_message(HandSession& session, const wire::Io& message, std::size_t loop = 0) {
    const bool read = message.op == wire::IoOp::read || message.op == wire::IoOp::flush;
    const std::size_t data =
        message.op == wire::IoOp::read || message.op == wire::IoOp::write ? message.length : 0;
    return send(session, loop, read ? rtrs::Direction::read : rtrs::Direction::write,
                text_of(wire::encode(message)), data, read ? data : 0);
  }
  HandRequest& run(HandSession& session, const wire::Io& message, std::size_t loop = 0) {
    return finish(start(io_message(session, message, loop)));
  }

  World world;
  std::vector<SimLoop*> loops;
  DiskOpener opener;
  std::unique_ptr<server::Exports> exports;

 private:
  void on(std::size_t loop, std::function<void()> call) {
    world.after(0ns, std::move(call), loops[loop]);
  }
  bool all_released() const {
    return std::all_of(sessions_.begin(), sessions_.end(),
                       [](const auto& session) { return session->released == 1; });
  }
  std::vector<std::unique_ptr<Disk>> disks_;
  std::vector<std::unique_ptr<HandSession>> sessions_;
  std::set<HandSession*> ended_;
  std::vector<std::unique_ptr<HandRequest>> requests_;
};

}  // namespace rnbd::testing
