#pragma once
// Questions to the machine's other daemon over its admin socket, many at a time and none of them
// blocking: driven by the poll() of the thread it lives on. A daemon that is away answers at once
// that it is; one that is silent is not asked again for a while.

#include <poll.h>

#include <chrono>
#include <deque>
#include <functional>
#include <list>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "daemon/admin/protocol.h"

namespace rnbd::daemon {

class Peer final {
 public:
  using Clock = std::chrono::steady_clock;
  using Answer = std::function<void(const Outcome<AdminResponse>&)>;

  explicit Peer(std::string socket_path) : path_(std::move(socket_path)) {}

  // `done` comes from on_polled(), or from inside the call when the daemon is not there.
  void ask(const AdminRequest& request, Clock::duration timeout, Answer done);

  void add_polls(std::vector<pollfd>& polls) const;
  int poll_timeout_ms(int most) const;
  // `polls` as add_polls() left them, after poll().
  void on_polled(const pollfd* polls);

 private:
  struct Question {
    UniqueFd fd{};
    std::string output{};
    std::string input{};
    Clock::time_point deadline{};
    Answer done{};
  };
  Outcome<UniqueFd> connect() const;
  void start(Question question);
  // True when the question is over, with its answer in `outcome`.
  bool advance(Question& question, short events, Outcome<AdminResponse>& outcome);

  const std::string path_;
  std::list<Question> asked_;
  std::deque<Question> waiting_;
  Clock::time_point silent_until_{};
};

}  // namespace rnbd::daemon
