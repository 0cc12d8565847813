#pragma once
// Questions to the machine's other daemon over its admin socket, many at a time and none of them
// blocking: driven by the poll() of the thread it lives on. A daemon that is away answers at once
// that it is; one that is silent is not asked again for a while; one whose socket is full is asked
// again and again until the question's time is over.

#include <poll.h>

#include <chrono>
#include <deque>
#include <functional>
#include <list>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "daemon/admin/protocol.h"

namespace rnbd::daemon {

class Peer final {
 public:
  using Clock = std::chrono::steady_clock;
  using Answer = std::function<void(const Outcome<AdminResponse>&)>;

  // At most `most` questions are under way; further ones wait for their turn.
  Peer(std::string socket_path, std::size_t most) : path_(std::move(socket_path)), most_(most) {}

  // `done` comes from on_polled(), or from inside the call when the daemon is not there.
  void ask(const AdminRequest& request, Clock::duration timeout, Answer done);

  // How many it added.
  std::size_t add_polls(std::vector<pollfd>& polls);
  int poll_timeout_ms(int most) const;
  // `polls`: what add_polls() added last, after poll().
  void on_polled(const pollfd* polls);

 private:
  struct Question {
    UniqueFd fd{};
    std::string output{};
    std::string input{};
    Clock::time_point deadline{};
    Answer done{};
  };
  using Over = std::vector<std::pair<Answer, Outcome<AdminResponse>>>;
  Outcome<UniqueFd> connect() const;
  // Asks those that wait, as far as there is room for them.
  void start_waiting(Over& over);
  // True when the question is over, with its answer in `outcome`.
  bool advance(Question& question, short events, Outcome<AdminResponse>& outcome);

  const std::string path_;
  const std::size_t most_;
  std::list<Question> asked_;
  std::size_t polled_ = 0;  // of those
  std::deque<Question> waiting_;
  Clock::time_point full_until_{};  // the socket: when it is tried again
  Clock::time_point silent_until_{};
};

}  // namespace rnbd::daemon
