#include "rtrs/client/fencing.h"

#include <algorithm>
#include <cerrno>

#include "base/event.h"
#include "base/mutation.h"
#include "rtrs/client/control_request.h"

namespace rnbd::rtrs::client {

struct Fencing::Loss {
  LossId id = 0;
  Uuid path{};
  std::uint16_t recon_cnt = 0;
  TimePoint deadline{};
  bool asked = false;
  bool refused = false;
};

struct Fencing::Question : ControlRequest {
  Question(Fencing& fencing, const Loss& loss)
      : ControlRequest(
            {.kind = wire::ControlKind::fence, .recon_cnt = loss.recon_cnt, .path = loss.path}),
        owner(fencing),
        id(loss.id) {
    done = [](Request& request, std::error_code error) {
      auto& self = static_cast<Question&>(request);
      self.owner.answered(self.id, error);
    };
  }
  Fencing& owner;
  const LossId id;
};

Fencing::Fencing(Loop& home, LaneImpl& service, Duration patience, FencingHandler& handler)
    : home_(home),
      service_(service),
      patience_(patience),
      handler_(handler),
      timer_(Timer::of<&Fencing::on_time>(home, this)) {}

Fencing::~Fencing() { RNBD_ASSERT(questions_.empty()); }

void Fencing::add(LossId loss, const Uuid& path, std::uint16_t recon_cnt) {
  losses_.push_back(
      {.id = loss, .path = path, .recon_cnt = recon_cnt, .deadline = home_.now() + patience_});
  if (broken(Rule::r12)) return settle(loss, "not at all");
  arm();
}

bool Fencing::pending(const Uuid& path) const {
  return std::ranges::find(losses_, path, &Loss::path) != losses_.end();
}

void Fencing::proven(const Uuid& path) {
  for (;;) {
    const auto found = std::ranges::find(losses_, path, &Loss::path);
    if (found == losses_.end()) return;
    settle(found->id, "the server accepted it anew (F1)");
  }
}

void Fencing::proven_all() {
  while (!losses_.empty())
    settle(losses_.front().id, "the server closed what was open, and packets had time to die (F2)");
}

void Fencing::ask() {
  if (stopped_) return;
  std::vector<Question*> now;
  for (Loss& loss : losses_) {
    if (std::exchange(loss.asked, true)) continue;
    questions_.push_back(std::make_unique<Question>(*this, loss));
    now.push_back(questions_.back().get());
  }
  for (Question* question : now) service_.submit(*question);
}

void Fencing::answered(LossId loss, std::error_code error) {
  std::erase_if(questions_, [&](const auto& question) { return question->id == loss; });
  const auto found = std::ranges::find(losses_, loss, &Loss::id);
  if (found == losses_.end()) return;
  if (!error) return settle(loss, "the server says so (F0)");
  // Nobody was asked after all; the path that comes up next will be. A server that refuses to
  // answer leaves it to time.
  const bool unheard =
      error == Errc::path_lost || error == from_errno(ENOTCONN) || error == from_errno(ECANCELED);
  if (!unheard) {
    log_event({.name = "fence_refused", .level = LogLevel::warning, .error = error},
              "the server does not fence a lost path: {}", error.message());
  }
  found->asked = found->refused = !unheard;
}

void Fencing::settle(LossId loss, const char* how) {
  const auto found = std::ranges::find(losses_, loss, &Loss::id);
  const Uuid path = found->path;
  losses_.erase(found);
  arm();
  handler_.on_fenced(loss, path, how);
}

void Fencing::expire(bool all) {
  const auto due = [&](const Loss& loss) {
    return loss.deadline <= home_.now() && (all || loss.refused);
  };
  for (auto loss = std::ranges::find_if(losses_, due); loss != losses_.end();
       loss = std::ranges::find_if(losses_, due))
    settle(loss->id, "enough time has passed (F3)");
}

void Fencing::arm() {
  if (losses_.empty() || stopped_) return timer_.disarm();
  timer_.arm_at(losses_.front().deadline);
}

void Fencing::stop() {
  stopped_ = true;
  timer_.disarm();
}

}  // namespace rnbd::rtrs::client
