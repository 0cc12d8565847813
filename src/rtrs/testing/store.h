#pragma once
// A request handler for tests: a small disk in memory behind every session. Its user message says
// where, what to answer and how long to take. It notes everything a server must never do.

#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "fabric/sim/world.h"
#include "rtrs/server/server.h"
#include "wire/bytes.h"

namespace rnbd::rtrs::testing {

struct StoreMessage {
  le64 offset;
  le32 error;     // the errno to answer
  le32 delay_us;  // before answering; 0: from inside on_request
};
static_assert(WireStruct<StoreMessage, 16>);

class Store final : public server::RequestHandler {
 public:
  Store(fabric::sim::World& world, std::vector<fabric::sim::SimLoop*> loops, std::size_t size)
      : world_(world), loops_(std::move(loops)), bytes_(size) {}

  void on_session_opened(server::Session& session) override {
    mistake(!live_.insert(&session).second, "session opened twice");
    ++opened_;
  }
  void on_session_closed(server::Session& session) override {
    mistake(live_.erase(&session) != 1, "closed a session that was not open");
    mistake(running_[&session] != 0, "session closed with requests running");
    ++closed_;
    if (hold_release_) {
      held_.push_back(&session);
    } else {
      session.release();
    }
  }
  void on_request(server::Request& request) override {
    ++requests_;
    ++running_[&request.session()];
    mistake(!live_.contains(&request.session()), "request of a session that is not open");
    mistake(loops_[request.loop_index()] != world_.current(), "request on the wrong loop");
    last_message_.assign(request.message().begin(), request.message().end());
    const auto message = wire::load<StoreMessage>(request.message());
    if (!message) return respond(request, EINVAL);
    if (message->delay_us == 0) return execute(request, *message);
    world_.after(
        std::chrono::microseconds(message->delay_us),
        [this, &request, message = *message] { execute(request, message); },
        loops_[request.loop_index()]);
  }

  std::vector<std::byte>& bytes() { return bytes_; }
  const std::vector<std::byte>& last_message() const { return last_message_; }
  std::size_t opened() const { return opened_; }
  std::size_t closed() const { return closed_; }
  std::uint64_t requests() const { return requests_; }
  std::uint64_t running() const {
    std::uint64_t sum = 0;
    for (const auto& [session, count] : running_) sum += count;
    return sum;
  }
  const std::vector<std::string>& mistakes() const { return mistakes_; }
  std::set<server::Session*>& live() { return live_; }
  void hold_release(bool hold) { hold_release_ = hold; }
  void release_held() {
    for (server::Session* session : held_) session->release();
    held_.clear();
  }

 private:
  void execute(server::Request& request, const StoreMessage& message) {
    if (message.error != 0) return respond(request, static_cast<int>(message.error.value()));
    const std::uint64_t offset = message.offset;
    const bool read = request.direction() == Direction::read;
    const std::size_t length = read ? request.reply_length() : request.data().size();
    if (offset > bytes_.size() || length > bytes_.size() - offset) return respond(request, EIO);
    if (read && length != 0) {
      std::memcpy(request.data().data(), bytes_.data() + offset, length);
    } else if (length != 0) {
      std::memcpy(bytes_.data() + offset, request.data().data(), length);
    }
    respond(request, 0);
  }
  void respond(server::Request& request, int error) {
    --running_[&request.session()];
    request.respond(error);
  }
  void mistake(bool made, const char* what) {
    if (made) mistakes_.emplace_back(what);
  }

  fabric::sim::World& world_;
  std::vector<fabric::sim::SimLoop*> loops_;
  std::vector<std::byte> bytes_;
  std::vector<std::byte> last_message_;
  std::set<server::Session*> live_;
  std::map<server::Session*, std::uint64_t> running_;
  std::vector<server::Session*> held_;
  bool hold_release_ = false;
  std::size_t opened_ = 0;
  std::size_t closed_ = 0;
  std::uint64_t requests_ = 0;
  std::vector<std::string> mistakes_;
};

}  // namespace rnbd::rtrs::testing
