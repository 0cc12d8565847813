#include "daemon/admin/admin_server.h"

#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/event.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "daemon/admin/activation.h"
#include "daemon/admin/event_view.h"

namespace rnbd::daemon {
namespace {

constexpr std::size_t kConnectionsMax = 64;
constexpr int kAcceptPauseMs = 200;
constexpr std::size_t kEventsWaitingMax = 1024;       // for the admin thread
constexpr std::size_t kStreamBufferMax = 256U << 10;  // bytes a reader of events may lag behind

bool somebody_listens(const sockaddr_un& address) {
  UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // Only a refusal proves that nobody does; on any other doubt the socket is left alone.
  return !probe ||
         connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
         errno != ECONNREFUSED;
}

struct Listening {
  UniqueFd fd;
  ino_t inode = 0;  // of the socket's name: at the end we take away only what is ours
};

Result<Listening> listen_on(const std::string& path, gid_t group) {
  if (UniqueFd handed = take_activated_socket(path)) return Listening{std::move(handed), 0};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail_errno(ENAMETOOLONG);
  std::memcpy(address.sun_path, path.data(), path.size());
  struct stat status {};
  if (lstat(path.c_str(), &status) == 0) {
    if (!S_ISSOCK(status.st_mode)) return fail_errno(EEXIST);
    if (somebody_listens(address)) return fail_errno(EADDRINUSE);
    unlink(path.c_str());
  }
  Listening listening;
  listening.fd = UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listening.fd) return fail_errno(errno);
  // Nobody connects before the mode is right: the socket is born not listening.
  if (bind(listening.fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return fail_errno(errno);
  if (chmod(path.c_str(), 0660) != 0) return fail_errno(errno);
  if (group != kNoGroup && chown(path.c_str(), static_cast<uid_t>(-1), group) != 0)
    return fail_errno(errno);
  if (listen(listening.fd.get(), 16) != 0) return fail_errno(errno);
  if (lstat(path.c_str(), &status) == 0) listening.inode = status.st_ino;
  return listening;
}

// Besides the effective group the peer's supplementary groups count.
bool peer_in_group(int fd, gid_t group) {
  std::array<gid_t, 256> groups{};
  socklen_t bytes = sizeof groups;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &bytes) != 0) return false;
  auto end = groups.begin() + static_cast<std::ptrdiff_t>(bytes / sizeof(gid_t));
  return std::find(groups.begin(), end, group) != end;
}

struct Connection {
  std::uint64_t id = 0;
  UniqueFd fd;
  std::string input;
  std::string output;
  bool busy = false;         // a request is with the handler
  bool closing = false;      // no further request; close when the output is out
  bool streaming = false;    // of events: no further request
  std::uint64_t missed = 0;  // events, because it reads too slowly; not yet told
};

}  // namespace

Result<gid_t> find_group(const std::string& group) {
  if (group.empty()) return kNoGroup;
  gid_t number{};
  auto [end, error] = std::from_chars(group.data(), group.data() + group.size(), number);
  if (error == std::errc() && end == group.data() + group.size()) return number;
  const struct group* entry = getgrnam(group.c_str());
  if (entry == nullptr) return fail_errno(ENOENT);
  return entry->gr_gid;
}

bool may_administer(uid_t peer_uid, gid_t peer_gid, uid_t own_uid, gid_t group) {
  return peer_uid == 0 || peer_uid == own_uid || (group != kNoGroup && peer_gid == group);
}

class AdminServer::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(std::string path, gid_t group, Listening listening, UniqueFd wake, AdminHandler handler)
      : path_(std::move(path)),
        group_(group),
        listening_(std::move(listening)),
        wake_(std::move(wake)),
        handler_(std::move(handler)) {}

  void start() {
    thread_ = std::thread([this] { run(); });
  }

  void stop() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_up();
    thread_.join();
    subscription_.reset();
    struct stat status {};
    if (lstat(path_.c_str(), &status) == 0 && status.st_ino == listening_.inode)
      unlink(path_.c_str());
    connections_.clear();
    listening_ = {};
    handler_ = nullptr;
  }

  std::error_code set_group(gid_t group) {
    if (listening_.inode != 0 &&
        chown(path_.c_str(), static_cast<uid_t>(-1), group == kNoGroup ? getegid() : group) != 0)
      return from_errno(errno);
    group_ = group;
    return {};
  }

  void answer(std::uint64_t id, const AdminResponse& response) {
    std::string line = encode(response) + "\n";
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
      answers_.emplace_back(id, std::move(line));
    }
    wake_up();
  }

 private:
  void wake_up() {
    std::uint64_t one = 1;
    [[maybe_unused]] ssize_t n = write(wake_.get(), &one, sizeof one);
  }

  void run() {
    std::vector<pollfd> polls;
    while (take_answers()) {
      unsubscribe_unless_read();
      polls.clear();
      polls.push_back({wake_.get(), POLLIN, 0});
      const bool accepting = connections_.size() < kConnectionsMax && !out_of_descriptors_;
      polls.push_back({listening_.fd.get(), accepting ? short{POLLIN} : short{0}, 0});
      for (const auto& c : connections_) {
        bool reading = c->streaming || (!c->busy && !c->closing && c->output.empty());
        polls.push_back(
            {c->fd.get(),
             static_cast<short>((reading ? POLLIN : 0) | (c->output.empty() ? 0 : POLLOUT)), 0});
      }
      if (poll(polls.data(), polls.size(), out_of_descriptors_ ? kAcceptPauseMs : -1) < 0 &&
          errno != EINTR)
        return;
      out_of_descriptors_ = false;
      drain_wake(polls[0].revents);
      for (std::size_t i = 0; i < connections_.size(); ++i)
        serve(*connections_[i], polls[i + 2].revents);
      std::erase_if(connections_, [](const auto& c) { return !c->fd; });
      if (polls[1].revents != 0) accept_one();
    }
  }

  void drain_wake(short events) {
    std::uint64_t count = 0;
    if (events != 0) [[maybe_unused]]
      ssize_t n = read(wake_.get(), &count, sizeof count);
  }

  // Moves answers into their connections; false when the thread shall end.
  bool take_answers() {
    std::vector<std::pair<std::uint64_t, std::string>> answers;
    std::vector<std::string> events;
    std::uint64_t missed = 0;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return false;
      answers.swap(answers_);
      events.swap(events_);
      missed = std::exchange(events_missed_, 0);
    }
    for (auto& [id, line] : answers) {
      for (auto& c : connections_) {
        if (c->id != id) continue;
        c->output += line;
        c->busy = false;
      }
    }
    for (const auto& c : connections_) {
      if (!c->streaming) continue;
      c->missed += missed;
      for (const std::string& line : events) add_event(*c, line);
      flush(*c);
    }
    return true;
  }

  // ---- Events ----

  void subscribe() {
    if (!subscription_) subscription_.emplace([this](const Event& event) { on_event(event); });
  }

  void unsubscribe_unless_read() {
    const auto reads = [](const auto& c) { return c->streaming && c->fd; };
    if (std::ranges::none_of(connections_, reads)) subscription_.reset();
  }

  // On any thread.
  void on_event(const Event& event) {
    {
      std::lock_guard lock(mutex_);
      if (events_.size() >= kEventsWaitingMax) {
        ++events_missed_;
        return;
      }
      events_.push_back(encode(event_view(event)) + "\n");
    }
    wake_up();
  }

  static void add_event(Connection& c, const std::string& line) {
    if (c.output.size() + line.size() > kStreamBufferMax) {
      ++c.missed;
      return;
    }
    tell_missed(c);
    c.output += line;
  }

  static void tell_missed(Connection& c) {
    if (c.missed == 0) return;
    Event event{.time = std::chrono::system_clock::now(),
                .name = "events_missed",
                .level = LogLevel::warning,
                .text = fmt::format("{} events are missing here: they were read too slowly",
                                    std::exchange(c.missed, 0))};
    c.output += encode(event_view(event)) + "\n";
  }

  void accept_one() {
    UniqueFd fd(accept4(listening_.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) {
      out_of_descriptors_ = errno == EMFILE || errno == ENFILE;
      return;
    }
    auto connection = std::make_unique<Connection>();
    connection->id = ++last_id_;
    connection->fd = std::move(fd);
    connections_.push_back(std::move(connection));
  }

  void serve(Connection& c, short events) {
    if ((events & POLLOUT) != 0) flush(c);
    if (c.fd && (events & POLLIN) != 0) receive(c);
    if (c.fd && (events & (POLLERR | POLLHUP)) != 0 && (events & POLLIN) == 0) return c.fd.reset();
    if (c.fd && c.streaming) return serve_stream(c);
    while (c.fd && !c.busy && !c.closing && c.output.empty() && next_request(c)) flush(c);
    if (c.fd && c.closing && !c.busy && c.output.empty()) c.fd.reset();
  }

  void serve_stream(Connection& c) {
    c.input.clear();  // nothing more is answered here
    if (c.closing) return c.fd.reset();
    if (!c.output.empty()) return;
    tell_missed(c);
    flush(c);
  }

  void flush(Connection& c) {
    while (!c.output.empty()) {
      ssize_t n = send(c.fd.get(), c.output.data(), c.output.size(), MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) return;
      if (n <= 0) return c.fd.reset();
      c.output.erase(0, static_cast<std::size_t>(n));
    }
  }

  void receive(Connection& c) {
    std::array<char, 16384> buffer{};
    ssize_t n = recv(c.fd.get(), buffer.data(), buffer.size(), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
      c.closing = true;
      c.input.clear();
      return;
    }
    c.input.append(buffer.data(), static_cast<std::size_t>(n));
  }

  // Takes one line of the input; false when there is none.
  bool next_request(Connection& c) {
    std::size_t end = c.input.find('\n');
    if (end == std::string::npos && c.input.size() < kAdminRequestMax) return false;
    if (end == std::string::npos || end >= kAdminRequestMax) {
      refuse(c, {ProblemCode::usage, "the admin request is too long", "", EMSGSIZE});
      c.closing = true;
      c.input.clear();
      return true;
    }
    std::string line = c.input.substr(0, end);
    c.input.erase(0, end + 1);
    if (!permitted(c)) {
      refuse(c, {ProblemCode::refused, "no permission to administer this daemon",
                 "be root or in the socket's group", EACCES});
      return true;
    }
    auto request = decode_request(line);
    if (!request) {
      refuse(c, request.error());
      return true;
    }
    if (request->command == AdminCommand::events) {
      subscribe();  // what happens from the answer on is told
      c.streaming = true;
      c.output += encode(AdminResponse{}) + "\n";
      flush(c);
      return false;
    }
    c.busy = true;
    handler_(std::move(*request), [self = weak_from_this(), id = c.id](AdminResponse response) {
      if (auto impl = self.lock()) impl->answer(id, response);
    });
    return false;
  }

  bool permitted(const Connection& c) const {
    ucred peer{};
    socklen_t bytes = sizeof peer;
    if (getsockopt(c.fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) return false;
    return may_administer(peer.uid, peer.gid, geteuid(), group_) ||
           (group_ != kNoGroup && peer_in_group(c.fd.get(), group_));
  }

  static void refuse(Connection& c, Problem problem) {
    AdminResponse response;
    response.error = std::move(problem);
    c.output += encode(response) + "\n";
  }

  const std::string path_;
  std::atomic<gid_t> group_;
  Listening listening_;
  UniqueFd wake_;
  AdminHandler handler_;
  std::thread thread_;
  std::vector<std::unique_ptr<Connection>> connections_;  // admin thread only
  std::optional<EventSubscription> subscription_;         // the same; while somebody reads
  std::uint64_t last_id_ = 0;
  bool out_of_descriptors_ = false;  // accepting pauses
  std::mutex mutex_;                 // guards what follows
  bool stopping_ = false;
  std::vector<std::pair<std::uint64_t, std::string>> answers_;
  std::vector<std::string> events_;  // as lines
  std::uint64_t events_missed_ = 0;
};

Result<std::unique_ptr<AdminServer>> AdminServer::create(const AdminServerOptions& options,
                                                         AdminHandler handler) {
  auto group = find_group(options.group);
  if (!group) return tl::unexpected(group.error());
  auto listening = listen_on(options.path, *group);
  if (!listening) return tl::unexpected(listening.error());
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail_errno(errno);
  auto impl = std::make_shared<Impl>(options.path, *group, std::move(*listening), std::move(wake),
                                     std::move(handler));
  impl->start();
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(impl)));
}

std::error_code AdminServer::set_group(const std::string& group) {
  auto found = find_group(group);
  if (!found) return found.error();
  return impl_->set_group(*found);
}

AdminServer::~AdminServer() { impl_->stop(); }

}  // namespace rnbd::daemon
