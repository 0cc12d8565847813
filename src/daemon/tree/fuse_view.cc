#include "daemon/tree/fuse_view.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <thread>

#include "base/log.h"
#include "daemon/admin/admin_server.h"
#include "daemon/admin/runtime.h"
#include "daemon/tree/fuse_tree.h"
#include "daemon/tree/mailbox.h"
#include "daemon/tree/peer.h"
#include "daemon/tree/tree_mount.h"

namespace rnbd::daemon {
namespace {

constexpr int kStandbyMs = 1000;  // between looks for the place to become free
constexpr auto kLookTimeout = std::chrono::seconds(2);
constexpr auto kWriteTimeout = std::chrono::minutes(5);
// Questions to the other daemon at a time: its admin socket has others to serve. Looks have a line
// of their own, as writes may take long.
constexpr std::size_t kLooksMax = 12;
constexpr std::size_t kWritesMax = 24;

TreeOwner owner_of(const std::string& group) {
  TreeOwner owner{.uid = geteuid(), .gid = getegid()};
  const auto found = find_group(group);
  if (group.empty() || !found) return owner;
  owner.gid = *found;
  owner.group_writes = true;
  return owner;
}

}  // namespace

class FuseView::Impl final : private TreeAccess {
 public:
  explicit Impl(FuseViewOptions options)
      : options_(std::move(options)),
        tree_(*this, owner_of(options_.group)),
        mount_(options_.mountpoint),
        own_([this](const Coalescer<TreeStatePtr>::Want& told) { ask_own(Depth::node, told); }),
        full_own_([this](const Coalescer<TreeStatePtr>::Want& told) { ask_own(Depth::all, told); }),
        looks_(options_.peer_socket, kLooksMax),
        writes_(options_.peer_socket, kWritesMax) {}

  void start() {
    try_mount();
    thread_ = std::thread([this] { run(); });
    pthread_setname_np(thread_.native_handle(), "rnbd-sysfs");
  }

  ~Impl() override {
    stopping_ = true;
    mailbox_->post([] {});
    if (thread_.joinable()) thread_.join();
  }

 private:
  void run() {
    std::vector<pollfd> polls;
    while (!stopping_) {
      polls.clear();
      polls.push_back({mailbox_->fd(), POLLIN, 0});
      polls.push_back({mount_.fd(), POLLIN, 0});  // -1 is ignored
      const std::size_t looks_polled = looks_.add_polls(polls);
      writes_.add_polls(polls);
      int most = mount_.mounted() || given_up_ ? -1 : kStandbyMs;
      most = writes_.poll_timeout_ms(looks_.poll_timeout_ms(most));
      if (poll(polls.data(), polls.size(), most) < 0 && errno != EINTR) break;
      looks_.on_polled(polls.data() + 2);
      writes_.on_polled(polls.data() + 2 + looks_polled);
      if (polls[0].revents != 0) mailbox_->run();
      if (polls[1].revents != 0) serve();
      if (!mount_.mounted() && !given_up_ && !stopping_) try_mount();
    }
    mailbox_->close();
    tree_.end(ENODEV);
    mount_.unmount();
  }

  void serve() {
    const bool there = mount_.receive();
    tree_.answer_interrupted();
    if (there) return;
    log_warning("{}: unmounted by somebody else; it is back when the daemon is started again",
                printable(mount_.path()));
    given_up_ = true;
    tree_.end(ENODEV);
    mount_.unmount();
  }

  void try_mount() {
    const std::error_code error = mount_.mount(tree_, geteuid() == 0);
    if (!error) {
      log_info("attributes are below {}", printable(mount_.path()));
      return;
    }
    if (error == from_errno(EWOULDBLOCK)) {
      if (!std::exchange(standing_by_, true))
        log_info("{} is mounted by this machine's other daemon: standing by",
                 printable(mount_.path()));
      return;
    }
    given_up_ = true;
    const int code = to_errno(error);
    log_warning("attributes do not appear below {}: {} ({})", printable(mount_.path()),
                error.message(),
                code == ENOENT || code == ENODEV ? "modprobe fuse, or set sysfs_mountpoint = \"\""
                : code == EBUSY ? "something else is mounted there: choose another sysfs_mountpoint"
                                : "choose another sysfs_mountpoint, or \"\" for none");
  }

  // ---- where nodes come from ----

  bool is_own(const std::string& path) const {
    const Side side = side_of(path);
    return side == Side::both || side == options_.own;
  }
  bool is_peers(const std::string& path) const {
    return !options_.peer_socket.empty() && side_of(path) != options_.own;
  }

  void ask_own(Depth depth, const Coalescer<TreeStatePtr>::Want& told) {
    // What the loop tells is carried to this thread.
    options_.on_home([mailbox = mailbox_, depth, told](Attributes& attributes) {
      attributes.look({.path = {}, .depth = depth}, [mailbox, told](const TreeStatePtr& state) {
        mailbox->post([told, state] { told(state); });
      });
    });
  }

  // What names may be shown of: nothing from before a command that was answered, by this tree or
  // by our own daemon.
  TimePoint names_since(TimePoint now) const {
    return std::max({now - kNamesAge, last_write_, options_.last_command->time()});
  }

  void look_at_own(const std::string& path, Depth depth, std::function<void(const Nodes&)> told) {
    auto want = [path, depth, told = std::move(told)](const TreeStatePtr& state) {
      told(state->nodes({path, depth}));
    };
    if (depth == Depth::children)
      return own_.want_since(names_since(Peer::Clock::now()), std::move(want));
    (tells_users({path, depth}) ? full_own_ : own_).want(std::move(want));
  }

  // The other daemon knows when it was commanded last, but not when we were.
  void look_at_peers(const std::string& path, Depth depth, std::function<void(const Nodes&)> told) {
    const TimePoint now = Peer::Clock::now();
    AdminRequest request;
    request.command = AdminCommand::list_attributes;
    request.target = path;
    request.depth = depth == Depth::children ? "names" : "node";
    request.recent = depth == Depth::children && names_since(now) == now - kNamesAge;
    looks_.ask(request, kLookTimeout,
               [path, depth, told = std::move(told)](const Outcome<AdminResponse>& outcome) {
                 Nodes nodes;
                 if (outcome && !outcome->error)
                   for (const NodeView& view : outcome->nodes) add(nodes, view, path, depth);
                 told(nodes);
               });
  }

  // An older release tells all that is below.
  static void add(Nodes& nodes, const NodeView& view, const std::string& path, Depth depth) {
    if (view.path != path) {
      const std::size_t start = path.empty() ? 0 : path.size() + 1;
      const bool below =
          view.path.size() > start && (path.empty() || view.path.starts_with(path + "/"));
      if (depth == Depth::node || !below || view.path.find('/', start) != std::string::npos) return;
    }
    nodes.push_back(node_of(view));
  }

  void look(const std::string& path, Depth depth, std::function<void(const Nodes&)> told) override {
    if (!is_own(path) && !is_peers(path)) return told({});
    if (!is_peers(path)) return look_at_own(path, depth, std::move(told));
    if (!is_own(path)) return look_at_peers(path, depth, std::move(told));
    look_at_own(path, depth, [this, path, depth, told = std::move(told)](const Nodes& own) {
      look_at_peers(path, depth, [own, told](const Nodes& peers) {
        Nodes all = own;
        for (const Node& node : peers) {
          const bool known = std::any_of(own.begin(), own.end(),
                                         [&](const Node& o) { return o.path == node.path; });
          if (!known) all.push_back(node);
        }
        told(all);
      });
    });
  }

  void write(const std::string& path, std::string text, std::function<void(int)> done) override {
    auto written = [this, done = std::move(done)](int error) {
      if (error == 0) last_write_ = Peer::Clock::now();
      done(error);
    };
    if (is_own(path))
      return options_.on_home([mailbox = mailbox_, path, text = std::move(text),
                               written = std::move(written)](Attributes& attributes) {
        attributes.write(path, text, [mailbox, written](const AdminResponse& response) {
          const int error = errno_of(response);
          mailbox->post([written, error] { written(error); });
        });
      });
    if (!is_peers(path)) return written(ENODEV);
    AdminRequest request;
    request.command = AdminCommand::write_attribute;
    request.target = path;
    request.text = std::move(text);
    writes_.ask(request, kWriteTimeout, [written](const Outcome<AdminResponse>& outcome) {
      written(outcome ? errno_of(*outcome) : ENODEV);
    });
  }

  static int errno_of(const AdminResponse& response) {
    if (!response.error) return 0;
    return response.error->error > 0 ? response.error->error : EIO;
  }

  const FuseViewOptions options_;
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  FuseTree tree_;
  TreeMount mount_;
  Coalescer<TreeStatePtr> own_, full_own_;  // the other with users
  Peer looks_, writes_;
  TimePoint last_write_{};
  bool standing_by_ = false;
  bool given_up_ = false;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;  // last: what it uses is there
};

std::unique_ptr<FuseView> FuseView::start(FuseViewOptions options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  impl->start();
  return std::unique_ptr<FuseView>(new FuseView(std::move(impl)));
}

FuseView::FuseView(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FuseView::~FuseView() = default;

std::unique_ptr<FuseView> show_tree(const TreeConfig& config, bool usual,
                                    const std::string& usual_peer, FuseViewOptions options) {
  const bool automatic = config.mountpoint == "auto";
  if (config.mountpoint.empty() || (automatic && !(usual && geteuid() == 0))) return nullptr;
  options.mountpoint =
      automatic ? runtime_dir() + "/sysfs" : std::filesystem::absolute(config.mountpoint).string();
  options.peer_socket = config.peer_socket;
  if (config.peer_socket == "auto") options.peer_socket = usual ? usual_peer : "";
  return FuseView::start(std::move(options));
}

}  // namespace rnbd::daemon
