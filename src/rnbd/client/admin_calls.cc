#include "rnbd/client/admin_calls.h"

#include <algorithm>
#include <cstring>

namespace rnbd::client {

struct AdminCalls::Call : rtrs::client::Request {
  AdminCalls* owner = nullptr;
  std::vector<std::byte> text;
  std::vector<std::byte> room;
  iovec segment{};
  Answer answer;
};

AdminCalls::AdminCalls() = default;

AdminCalls::~AdminCalls() { RNBD_ASSERT(calls_.empty()); }

template <class Layout>
void AdminCalls::send(rtrs::client::Lane& lane, rtrs::Direction direction, const Layout& message,
                      std::size_t answer_size, Answer answer) {
  auto owned = std::make_unique<Call>();
  Call& call = *owned;
  call.owner = this;
  call.text.resize(sizeof(Layout));
  std::memcpy(call.text.data(), &message, sizeof(Layout));
  call.room.resize(answer_size);
  call.segment = {call.room.data(), call.room.size()};
  call.answer = std::move(answer);
  call.direction = direction;
  call.changes = true;  // OPEN too, though it is carried as a read
  call.message = call.text;
  if (answer_size != 0) call.data = {&call.segment, 1};
  call.data_length = static_cast<std::uint32_t>(answer_size);
  call.done = &AdminCalls::on_done;
  calls_.push_back(std::move(owned));
  lane.submit(call);
}

void AdminCalls::on_done(rtrs::client::Request& request, std::error_code error) {
  Call& call = static_cast<Call&>(request);
  AdminCalls& self = *call.owner;
  const auto place = std::find_if(self.calls_.begin(), self.calls_.end(),
                                  [&](const auto& owned) { return owned.get() == &call; });
  const std::unique_ptr<Call> owned = std::move(*place);
  self.calls_.erase(place);
  owned->answer(error, owned->room);
  if (self.calls_.empty() && self.idle_) std::exchange(self.idle_, nullptr)();
}

void AdminCalls::when_idle(std::function<void()> call) {
  if (calls_.empty()) return call();
  idle_ = std::move(call);
}

void AdminCalls::session_info(rtrs::client::Lane& lane,
                              std::function<void(Result<std::uint8_t>)> done) {
  send(lane, rtrs::Direction::read, wire::encode(wire::SessionInfo{}),
       sizeof(wire::layout::SessionInfo),
       [done = std::move(done)](std::error_code error, wire::ByteView bytes) {
         if (error) return done(fail(error));
         done(wire::parse_session_info_response(bytes));
       });
}

void AdminCalls::open(rtrs::client::Lane& lane, const wire::Open& message,
                      std::function<void(Result<wire::OpenResponse>)> done) {
  send(lane, rtrs::Direction::read, wire::encode(message), sizeof(wire::layout::OpenResponse),
       [done = std::move(done)](std::error_code error, wire::ByteView bytes) {
         if (error) return done(fail(error));
         done(wire::parse_open_response(bytes));
       });
}

void AdminCalls::close(rtrs::client::Lane& lane, std::uint32_t device_id,
                       std::function<void(std::error_code)> done) {
  send(lane, rtrs::Direction::write, wire::encode(wire::Close{device_id}), 0,
       [done = std::move(done)](std::error_code error, wire::ByteView) { done(error); });
}

}  // namespace rnbd::client
