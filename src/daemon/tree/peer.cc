#include "daemon/tree/peer.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace rnbd::daemon {
namespace {

constexpr auto kSilence = std::chrono::seconds(5);
// Between attempts at a socket whose backlog is full: nothing tells when it is not any more.
constexpr auto kFullPause = std::chrono::milliseconds(2);

tl::unexpected<Problem> away(const std::string& path, int error) {
  return problem({ProblemCode::unreachable, fmt::format("no daemon answers on {}", path), "",
                  error == 0 ? ENODEV : error});
}

}  // namespace

Outcome<UniqueFd> Peer::connect() const {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path) return away(path_, ENAMETOOLONG);
  std::memcpy(address.sun_path, path_.data(), path_.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return away(path_, errno);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return away(path_, errno);
  // Only root and we ourselves are believed.
  ucred peer{};
  socklen_t bytes = sizeof peer;
  const bool known = getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0;
  if (!known || (peer.uid != 0 && peer.uid != geteuid())) return away(path_, EPERM);
  return fd;
}

void Peer::ask(const AdminRequest& request, Clock::duration timeout, Answer done) {
  const auto now = Clock::now();
  if (now < silent_until_) return done(away(path_, ETIMEDOUT));
  waiting_.push_back(
      {.output = encode(request) + "\n", .deadline = now + timeout, .done = std::move(done)});
  Over over;
  start_waiting(over);
  for (auto& [answer, outcome] : over) answer(outcome);
}

void Peer::start_waiting(Over& over) {
  const auto now = Clock::now();
  if (now < full_until_) return;
  while (!waiting_.empty() && asked_.size() < most_) {
    auto fd = connect();
    if (!fd && fd.error().error == EAGAIN) {
      full_until_ = now + kFullPause;
      return;
    }
    Question question = std::move(waiting_.front());
    waiting_.pop_front();
    if (!fd) {
      over.emplace_back(std::move(question.done), tl::unexpected(fd.error()));
      continue;
    }
    question.fd = std::move(*fd);
    asked_.push_back(std::move(question));
  }
}

std::size_t Peer::add_polls(std::vector<pollfd>& polls) {
  for (const Question& question : asked_)
    polls.push_back(
        {question.fd.get(), question.output.empty() ? short{POLLIN} : short{POLLOUT}, 0});
  return polled_ = asked_.size();
}

int Peer::poll_timeout_ms(int most) const {
  const auto now = Clock::now();
  const auto until = [&](Clock::time_point time) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(time - now).count();
    const int wait = static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
    if (most < 0 || wait < most) most = wait;
  };
  for (const Question& question : asked_) until(question.deadline);
  for (const Question& question : waiting_) until(question.deadline);
  if (!waiting_.empty() && asked_.size() < most_) until(full_until_);
  return most;
}

void Peer::on_polled(const pollfd* polls) {
  const auto now = Clock::now();
  Over over;
  const pollfd* end = polls + polled_;
  polled_ = 0;
  for (auto at = asked_.begin(); polls != end; ++polls) {
    Outcome<AdminResponse> outcome;
    bool done = polls->revents != 0 && advance(*at, polls->revents, outcome);
    if (!done && at->deadline <= now) {
      done = true;
      outcome = away(path_, ETIMEDOUT);
      silent_until_ = now + kSilence;
    }
    if (done) over.emplace_back(std::move(at->done), std::move(outcome));
    at = done ? asked_.erase(at) : std::next(at);
  }
  while (!waiting_.empty() && waiting_.front().deadline <= now) {
    if (asked_.empty()) silent_until_ = now + kSilence;  // the socket was full all the time
    over.emplace_back(std::move(waiting_.front().done), away(path_, ETIMEDOUT));
    waiting_.pop_front();
  }
  start_waiting(over);
  for (auto& [done, outcome] : over) done(outcome);  // may ask again
}

bool Peer::advance(Question& question, short events, Outcome<AdminResponse>& outcome) {
  while ((events & POLLOUT) != 0 && !question.output.empty()) {
    const ssize_t n =
        send(question.fd.get(), question.output.data(), question.output.size(), MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (n <= 0) {
      outcome = away(path_, errno);
      return true;
    }
    question.output.erase(0, static_cast<std::size_t>(n));
  }
  if ((events & (POLLIN | POLLHUP | POLLERR)) == 0) return false;
  std::array<char, 65536> buffer{};
  const ssize_t n = recv(question.fd.get(), buffer.data(), buffer.size(), 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (n <= 0 || question.input.size() > kAdminResponseMax) {
    outcome = away(path_, ECONNRESET);
    return true;
  }
  const std::size_t before = question.input.size();
  question.input.append(buffer.data(), static_cast<std::size_t>(n));
  const std::size_t end = question.input.find('\n', before);
  if (end == std::string::npos) return false;
  outcome = decode_response(std::string_view(question.input).substr(0, end));
  return true;
}

}  // namespace rnbd::daemon
