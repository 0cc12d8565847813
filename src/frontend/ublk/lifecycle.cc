#include "frontend/ublk/lifecycle.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>
#include <utility>

#include "base/device_users.h"
#include "base/log.h"
#include "frontend/ublk/control.h"
#include "frontend/ublk/params.h"

namespace rnbd::ublk {
namespace {

// What needs no I/O of the device ends well within this, or a reactor hangs.
constexpr Duration kReactorLimit = std::chrono::seconds(10);
constexpr Duration kDeleteLimit = std::chrono::seconds(3);
constexpr Duration kAskAgain = std::chrono::milliseconds(20);
constexpr std::uint64_t kReissue = abi::kUserRecovery | abi::kUserRecoveryReissue;

class Deadline {
 public:
  explicit Deadline(Duration limit) : at_(std::chrono::steady_clock::now() + limit) {}
  // Waits for a moment; false when the time is up.
  bool pause() const {
    if (std::chrono::steady_clock::now() >= at_) return false;
    std::this_thread::sleep_for(kAskAgain);
    return true;
  }

 private:
  std::chrono::steady_clock::time_point at_;
};

std::string node_of(std::uint32_t id) { return "ublkb" + std::to_string(id); }

LinkPlace link_place(const Spec& spec) {
  return {spec.link_directory.empty() ? spec.device_directory : spec.link_directory,
          spec.device_directory};
}

// The node appears by devtmpfs at once, or by udev a little later; a predecessor may still have it.
Result<UniqueFd> open_character_device(const Spec& spec, std::uint32_t id) {
  const std::string path = spec.device_directory + "/ublkc" + std::to_string(id);
  const Deadline deadline(spec.patience);
  for (;;) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (fd) return fd;
    const int error = errno;
    if ((error != ENOENT && error != EBUSY && error != EACCES) || !deadline.pause())
      return fail_errno(error);
  }
}

// Stops it. What is under way may end within `grace`; then it is answered with errors.
std::error_code stop_device(Control& control, QueueSet& queues, std::uint32_t id, Duration grace,
                            Duration patience) {
  if (grace == Duration::zero()) queues.fail_all();
  auto error = control.stop(id, grace == Duration::zero() ? patience : grace);
  if (error == from_errno(ETIMEDOUT)) {
    queues.fail_all();
    error = control.wait(patience);
  }
  if (error && error != from_errno(ENODEV)) return error;
  queues.fail_all();  // nothing more comes; what a backend still has was answered
  return queues.wait_kernel_free(kReactorLimit) ? std::error_code{} : from_errno(ETIMEDOUT);
}

std::error_code delete_device(Control& control, std::uint32_t id) {
  const auto error = control.del(id, kDeleteLimit);
  return error == from_errno(ENODEV) ? std::error_code{} : error;
}

// One device on its way into being: undone unless it gets there.
class Making {
 public:
  Making(std::shared_ptr<QueueSet> queues, const Spec& spec) : spec_(spec) {
    made_.queues = std::move(queues);
  }
  ~Making() { undo(); }
  Making(const Making&) = delete;
  Making& operator=(const Making&) = delete;

  Outcome<Existing> run(std::size_t reactors, const block::Limits& limits) {
    auto control = Control::open();
    if (!control) return fail_with("use the ublk driver", control.error());
    control_ = std::make_unique<Control>(std::move(*control));
    const std::uint32_t io_bytes = io_buffer_bytes(limits, spec_.io_bytes_max);
    const auto params = device_params(limits, io_bytes);
    if (!params) return tl::unexpected(params.error());
    if (auto error = add(reactors, io_bytes)) return fail_with("add a ublk device", error);
    if (auto error = control_->set_params(id(), *params))
      return fail_with("set the limits of a ublk device", error);
    if (auto error = start_queues()) return fail_with("serve a ublk device", error);
    if (auto error = start()) return fail_with("start a ublk device", error);
    if (spec_.links) {
      auto links =
          make_links(link_place(spec_), made_.node, spec_.session, spec_.volume, spec_.number);
      if (!links) return fail_with("link to /dev/" + made_.node, links.error());
      made_.links = std::move(*links);
    }
    complete_ = true;
    return std::move(made_);
  }
  bool undo() {
    if (!std::exchange(added_, false) || complete_) return stuck_;
    auto error = stop_device(*control_, *made_.queues, id(), Duration::zero(), spec_.patience);
    if (const auto deleted = delete_device(*control_, id()); !error) error = deleted;
    if (error) log_warning("ublk device {} is left behind: {}", id(), error.message());
    stuck_ = stuck_ || control_->outstanding();
    return stuck_;
  }

 private:
  std::uint32_t id() const { return made_.identity.id; }

  std::error_code add(std::size_t reactors, std::uint32_t io_bytes) {
    info_.nr_hw_queues =
        static_cast<std::uint16_t>(std::clamp<std::size_t>(reactors, 1, spec_.queues_max));
    info_.queue_depth = std::clamp<std::uint16_t>(spec_.queue_depth, 1, abi::kQueueDepthMax);
    info_.max_io_buf_bytes = io_bytes;
    info_.dev_id = 0xffffffff;  // any
    info_.ublksrv_pid = ::getpid();
    info_.ublksrv_flags = spec_.tag;
    info_.flags = kReissue;
    if (control_->ioctl_encoded())
      info_.flags = (kReissue & control_->features()) | abi::kCmdIoctlEncode;
    if (const auto error = control_->add(info_)) return error;
    added_ = true;
    made_.identity = {info_.dev_id, spec_.tag};
    made_.node = node_of(info_.dev_id);
    if ((info_.flags & kReissue) != kReissue)
      log_warning("/dev/{} does not survive this daemon: the ublk driver is too old", made_.node);
    return {};
  }

  std::error_code start_queues() {
    auto file = open_character_device(spec_, id());
    if (!file) return file.error();
    QueuePlan plan;
    plan.count = info_.nr_hw_queues;
    plan.depth = info_.queue_depth;
    plan.io_bytes = info_.max_io_buf_bytes;
    plan.ioctl_encoded = control_->ioctl_encoded();
    return made_.queues->start(std::move(*file), plan, kReactorLimit);
  }

  std::error_code start() {
    const auto error = control_->start(id(), spec_.patience);
    if (error != from_errno(ETIMEDOUT)) return error;
    made_.queues->fail_all();  // ends the partition scan, and so the command
    if (control_->wait(spec_.patience) == error) {
      // Not even so: the rest needs a ring of its own.
      stuck_ = true;
      if (auto another = Control::open()) control_ = std::make_unique<Control>(std::move(*another));
    }
    return error;
  }

  const Spec& spec_;
  std::unique_ptr<Control> control_;
  ublksrv_ctrl_dev_info info_{};
  Existing made_;
  bool added_ = false;
  bool complete_ = false;
  bool stuck_ = false;
};

// Waits until the predecessor is gone; what the device is then.
Outcome<ublksrv_ctrl_dev_info> wait_for_quiesced(Control& control, Identity identity,
                                                 const Deadline& deadline) {
  const std::string doing = "take over /dev/" + node_of(identity.id);
  for (;;) {
    const auto info = control.info(identity.id);
    if (!info) return fail_with(doing, info.error());
    if (info->ublksrv_flags != identity.tag)
      return tl::unexpected(Failure{
          from_errno(ENODEV), "cannot " + doing + ": it is another device of that number", ""});
    if ((info->flags & kReissue) != kReissue) return fail_with(doing, from_errno(EOPNOTSUPP));
    const auto state = static_cast<abi::State>(info->state);
    if (state == abi::State::quiesced) return *info;
    if (state == abi::State::dead) return fail_with(doing, from_errno(ENODEV));
    if (!deadline.pause())
      return tl::unexpected(Failure{
          from_errno(EBUSY),
          "cannot " + doing + ": process " + std::to_string(info->ublksrv_pid) + " still serves it",
          "end that process first"});
  }
}

Outcome<Existing> run_take_over(std::shared_ptr<QueueSet> queues, Identity identity,
                                const Spec& spec, const block::Limits& limits, bool& stuck) {
  const std::string doing = "take over /dev/" + node_of(identity.id);
  auto control = Control::open();
  if (!control) return fail_with("use the ublk driver", control.error());
  const Deadline deadline(spec.patience);
  const auto info = wait_for_quiesced(*control, identity, deadline);
  if (!info) return tl::unexpected(info.error());
  const auto params = control->params(identity.id);
  if (!params) return fail_with(doing, params.error());
  if (const std::string why = mismatch(*params, limits); !why.empty())
    return tl::unexpected(Failure{from_errno(EINVAL), "cannot " + doing + ": " + why, ""});
  std::error_code error;
  do {  // EBUSY while the predecessor's last file is being closed
    error = control->start_recovery(identity.id);
  } while (error == from_errno(EBUSY) && deadline.pause());
  if (error) return fail_with(doing, error);
  auto file = open_character_device(spec, identity.id);
  if (!file) return fail_with(doing, file.error());
  QueuePlan plan;
  plan.count = info->nr_hw_queues;
  plan.depth = info->queue_depth;
  plan.io_bytes = info->max_io_buf_bytes;
  plan.ioctl_encoded = control->ioctl_encoded();
  error = queues->start(std::move(*file), plan, kReactorLimit);
  if (!error) error = control->end_recovery(identity.id, spec.patience);
  stuck = control->outstanding();
  if (error) {
    queues->leave();  // whatever the driver thinks: it must not lose a request
    return fail_with(doing, error);
  }
  Existing made{identity, node_of(identity.id), {}, std::move(queues)};
  if (spec.links) {
    auto links = make_links(link_place(spec), made.node, spec.session, spec.volume, spec.number);
    if (links) made.links = std::move(*links);  // the device itself is there: served all the same
    if (!links) log_warning("no links to /dev/{}: {}", made.node, links.error().message());
  }
  if (params->basic.dev_sectors << abi::kSectorShift != limits.size) {
    error = control->update_size(identity.id, limits.size);
    if (error)
      log_warning("/dev/{} keeps its size until it is made anew: {}", made.node, error.message());
  }
  return made;
}

RemoveResult run_take_away(const Existing& device, const Spec& spec, bool force, bool& stuck) {
  auto control = Control::open();
  if (!control) return {control.error(), {}};
  UniqueFd hold;  // keeps others from mounting it while it goes
  if (!force) {
    auto users = wait_for_users(device.node, spec.busy_wait);
    if (!users.empty()) return {from_errno(EBUSY), std::move(users)};
    const std::string path = spec.device_directory + "/" + device.node;
    hold.reset(::open(path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK));
    if (!hold && errno == EBUSY) return {from_errno(EBUSY), device_users(device.node)};
  }
  remove_links(device.links, device.node);
  auto error = stop_device(*control, *device.queues, device.identity.id,
                           force ? spec.force_grace : spec.patience, spec.patience);
  hold.reset();
  if (!error) error = delete_device(*control, device.identity.id);
  stuck = control->outstanding();
  if (error) log_error("ublk device {} cannot be removed: {}", device.node, error.message());
  return {error, {}};
}

}  // namespace

Ended<Outcome<Existing>> make_device(std::shared_ptr<QueueSet> queues, std::size_t reactors,
                                     const Spec& spec, const block::Limits& limits) {
  Making making(std::move(queues), spec);
  auto result = making.run(reactors, limits);
  return {std::move(result), making.undo()};
}

Ended<Outcome<Existing>> take_over(std::shared_ptr<QueueSet> queues, Identity identity,
                                   const Spec& spec, const block::Limits& limits) {
  bool stuck = false;
  auto result = run_take_over(std::move(queues), identity, spec, limits, stuck);
  return {std::move(result), stuck};
}

Ended<RemoveResult> take_away(const Existing& device, const Spec& spec, bool force) {
  bool stuck = false;
  auto result = run_take_away(device, spec, force, stuck);
  return {std::move(result), stuck};
}

std::error_code change_size(Identity identity, std::uint64_t size_bytes) {
  auto control = Control::open();
  return control ? control->update_size(identity.id, size_bytes) : control.error();
}

}  // namespace rnbd::ublk
