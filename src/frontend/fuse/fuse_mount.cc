#include "frontend/fuse/fuse_mount.h"

#include <fcntl.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "base/unique_fd.h"
#include "frontend/fuse/channel.h"
#include "frontend/fuse/filesystem.h"
#include "frontend/fuse/fuse_api.h"
#include "frontend/fuse/mountpoint.h"

namespace rnbd::fuse {
namespace {

[[gnu::format(printf, 2, 0)]] void log_of_libfuse(enum fuse_log_level level, const char* format,
                                                  va_list arguments) {
  char line[512];
  std::vsnprintf(line, sizeof line, format, arguments);
  line[std::strcspn(line, "\n")] = '\0';
  if (level <= FUSE_LOG_ERR) {
    log_warning("libfuse: {}", line);
  } else {
    log_debug("libfuse: {}", line);
  }
}

class MountImpl final : public Mount {
 public:
  MountImpl(Reactor& reactor, MountOptions options)
      : reactor_(reactor), options_(std::move(options)) {}
  ~MountImpl() override { RNBD_ASSERT(session_ == nullptr); }

  std::error_code mount();

  Result<void> add_volume(VolumeOptions options, block::Device& device) override {
    if (unmounting_) return fail_errno(ESHUTDOWN);
    return filesystem_.add(std::move(options.name), options.read_only, device);
  }
  void remove_volume(const std::string& name, std::function<void(std::error_code)> done) override {
    filesystem_.remove(name, std::move(done));
  }
  std::uint32_t open_count(const std::string& name) const override {
    return filesystem_.open_count(name);
  }
  std::vector<std::string> volumes() const override { return filesystem_.names(); }
  std::string file_path(const std::string& name) const override {
    return options_.mountpoint + "/" + name;
  }
  void unmount(std::function<void()> done) override;
  void set_on_unmounted(std::function<void()> call) override { on_unmounted_ = std::move(call); }
  bool mounted() const override { return mounted_; }

 private:
  void start();
  void on_ended();
  void maybe_finish();

  Reactor& reactor_;
  MountOptions options_;
  Filesystem filesystem_{reactor_};
  std::unique_ptr<Channel> channel_;
  fuse_session* session_ = nullptr;
  bool mounted_ = false;
  bool unmounting_ = false;
  std::function<void()> on_unmounted_;
  std::function<void()> unmounted_;
};

std::error_code MountImpl::mount() {
  auto mountpoint = prepare_mountpoint(options_.mountpoint);
  if (!mountpoint) return mountpoint.error();
  options_.mountpoint = std::move(*mountpoint);
  if (!UniqueFd(::open("/dev/fuse", O_RDWR | O_CLOEXEC))) return from_errno(errno);
  auto channel = Channel::create(reactor_, filesystem_, options_.inflight_max);
  if (!channel) return channel.error();

  fuse_set_log_func(&log_of_libfuse);
  std::string program = "rnbd", dash_o = "-o";
  std::string words = "fsname=rnbd,subtype=rnbd,default_permissions,nosuid,nodev,max_read=" +
                      std::to_string(kTransferMax) + (options_.allow_other ? ",allow_other" : "");
  char* arguments[] = {program.data(), dash_o.data(), words.data(), nullptr};
  fuse_args args = FUSE_ARGS_INIT(3, arguments);
  session_ =
      fuse_session_new(&args, &Filesystem::operations(), sizeof(fuse_lowlevel_ops), &filesystem_);
  fuse_opt_free_args(&args);
  if (session_ == nullptr) return from_errno(EINVAL);
  if (fuse_session_mount(session_, options_.mountpoint.c_str()) != 0) {
    fuse_session_destroy(session_);
    session_ = nullptr;
    return from_errno(EPERM);  // libfuse has said why in the log
  }
  const int fd = fuse_session_fd(session_);
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  channel_ = std::move(*channel);
  mounted_ = true;
  reactor_.post([this] { start(); });
  return {};
}

void MountImpl::start() {
  if (!mounted_) return;
  channel_->start(session_, fuse_session_fd(session_), [this] { on_ended(); });
}

// The kernel closed the connection: somebody unmounted us, or aborted it.
void MountImpl::on_ended() {
  mounted_ = false;
  log_warning("fuse: {}: unmounted by somebody else", printable(options_.mountpoint));
  filesystem_.disconnected();
  if (on_unmounted_) reactor_.post(on_unmounted_);
}

void MountImpl::unmount(std::function<void()> done) {
  RNBD_ASSERT(!unmounting_);
  unmounting_ = true;
  mounted_ = false;
  unmounted_ = std::move(done);
  channel_->stop();
  fuse_session_exit(session_);
  fuse_session_unmount(session_);
  detach_if_dead(options_.mountpoint);
  filesystem_.disconnected();
  const auto names = filesystem_.names();
  for (const std::string& name : names) {
    filesystem_.remove(name, [](std::error_code) {});
  }
  channel_->set_on_idle([this] { maybe_finish(); });
  maybe_finish();
}

void MountImpl::maybe_finish() {
  if (channel_->in_use() > 0 || !unmounted_) return;
  reactor_.post([this, done = std::exchange(unmounted_, nullptr)] {
    fuse_session_destroy(session_);
    session_ = nullptr;
    done();
  });
}

}  // namespace

Result<std::unique_ptr<Mount>> Mount::create(Reactor& reactor, MountOptions options) {
  constexpr std::uint32_t kInflightMax = 1024;
  if (options.inflight_max < 1 || options.inflight_max > kInflightMax) return fail_errno(EINVAL);
  auto mount = std::make_unique<MountImpl>(reactor, std::move(options));
  if (const auto error = mount->mount()) return fail(error);
  return mount;
}

}  // namespace rnbd::fuse
