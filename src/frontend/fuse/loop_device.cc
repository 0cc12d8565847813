#include "frontend/fuse/loop_device.h"

#include <unistd.h>

#include <list>
#include <thread>
#include <utility>

#include "base/device_links.h"
#include "base/device_users.h"
#include "base/log.h"
#include "frontend/fuse/loop_control.h"

namespace rnbd::fuse {
namespace {

LinkPlace link_place(const LoopOptions& options) {
  return {options.link_directory.empty() ? options.device_directory : options.link_directory,
          options.device_directory};
}

std::string node_of(unsigned number) { return "loop" + std::to_string(number); }

Result<LoopDevice> do_attach(const LoopOptions& options, const LoopSpec& spec) {
  const auto number =
      loop_attach({options.device_directory, spec.file, spec.block_size, spec.read_only});
  if (!number) return fail(number.error());
  LoopDevice device;
  device.number = *number;
  device.device = options.device_directory + "/" + node_of(*number);
  device.file = spec.file;
  if (!options.links) return device;
  auto links =
      make_links(link_place(options), node_of(*number), spec.session, spec.volume, spec.number);
  if (!links) {
    loop_clear(device.device, true);
    return fail(links.error());
  }
  device.number_link = std::move(links->number_link);
  device.name_link = std::move(links->name_link);
  return device;
}

bool bound(const LoopDevice& device) { return loop_backing_file(device.number) == device.file; }

DetachResult do_detach(const LoopOptions& options, const LoopDevice& device, bool force) {
  const DeviceLinks links{device.number_link, device.name_link};
  const std::string node = node_of(device.number);
  if (!bound(device)) {  // somebody detached it already
    remove_links(links, node);
    return {};
  }
  if (!force) {
    auto users = wait_for_users(node, options.busy_wait);
    if (!users.empty()) return {from_errno(EBUSY), std::move(users)};
  }
  if (const auto error = loop_clear(device.device, force)) return {error, device_users(node)};
  remove_links(links, node);
  return {};
}

// Loop devices on files below `directory`.
std::vector<unsigned> attached_below(const std::string& directory) {
  std::vector<unsigned> numbers = loop_numbers();
  std::erase_if(numbers, [&](unsigned number) {
    const auto file = loop_backing_file(number);
    return !file || file->rfind(directory + "/", 0) != 0;
  });
  return numbers;
}

unsigned do_clean_up(const LoopOptions& options, const std::vector<unsigned>& left) {
  unsigned cleared = 0;
  for (const unsigned number : left) {
    const std::string device = options.device_directory + "/" + node_of(number);
    if (!loop_clear(device, false)) ++cleared;
  }
  if (options.links) remove_dead_links(link_place(options).directory);
  return cleared;
}

}  // namespace

// Owned by LoopDevices and by every answer on its way to the home loop, which must not call back
// into something destroyed.
struct LoopDevices::State {
  State(Loop& loop, LoopOptions with) : home(loop), options(std::move(with)) {}

  // Runs `work` on a thread of its own, then `answer` with its result on the home loop.
  template <class Work, class Answer>
  static void run(const std::shared_ptr<State>& state, Work work, Answer answer) {
    RNBD_ASSERT(!state->on_idle);
    const auto self = state->workers.emplace(state->workers.end());
    Loop& home = state->home;
    *self = std::thread([&home, weak = std::weak_ptr(state), self, work = std::move(work),
                         answer = std::move(answer)]() mutable {
      auto result = std::make_shared<decltype(work())>(work());
      home.post([weak = std::move(weak), self, result, answer = std::move(answer)] {
        const auto alive = weak.lock();
        if (!alive || alive->destroyed) return;
        self->join();
        alive->workers.erase(self);
        answer(std::move(*result));
        if (!alive->destroyed) alive->tell_if_idle();
      });
    });
  }

  void tell_if_idle() {
    if (workers.empty() && on_idle) home.post(std::exchange(on_idle, nullptr));
  }

  Loop& home;
  LoopOptions options;
  std::list<std::thread> workers;
  std::function<void()> on_idle;
  bool destroyed = false;
};

LoopDevices::LoopDevices(Loop& home, LoopOptions options)
    : state_(std::make_shared<State>(home, std::move(options))) {}

LoopDevices::~LoopDevices() {
  state_->destroyed = true;
  for (auto& worker : state_->workers) worker.join();
}

void LoopDevices::close(std::function<void()> done) {
  state_->on_idle = std::move(done);
  state_->tell_if_idle();
}

void LoopDevices::attach(LoopSpec spec, std::function<void(Result<LoopDevice>)> done) {
  auto work = [options = state_->options, spec = std::move(spec)] {
    return do_attach(options, spec);
  };
  State::run(state_, std::move(work), std::move(done));
}

void LoopDevices::detach(LoopDevice device, bool force, std::function<void(DetachResult)> done) {
  auto work = [options = state_->options, device = std::move(device), force] {
    return do_detach(options, device, force);
  };
  State::run(state_, std::move(work), std::move(done));
}

void LoopDevices::resize(const LoopDevice& device, std::function<void(std::error_code)> done) {
  State::run(
      state_, [path = device.device] { return loop_resize(path); }, std::move(done));
}

void LoopDevices::clean_up(const std::string& directory, std::function<void(unsigned)> done) {
  // Listed now (sysfs does not block): what is attached from here on is not left over.
  auto work = [options = state_->options, left = attached_below(directory)] {
    return do_clean_up(options, left);
  };
  State::run(state_, std::move(work), std::move(done));
}

bool LoopDevices::available() { return ::access("/dev/loop-control", R_OK | W_OK) == 0; }

}  // namespace rnbd::fuse
