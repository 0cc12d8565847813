#include "frontend/ublk/ublk_device.h"

#include <deque>
#include <thread>
#include <utility>

#include "base/assert.h"
#include "base/device_users.h"
#include "frontend/ublk/lifecycle.h"

namespace rnbd::ublk {
namespace {

// Runs `work` on a thread of its own, then `answer` with its result on the home loop.
template <class Work, class Answer>
void run_aside(Loop& home, Work work, Answer answer) {
  auto thread = std::make_shared<std::thread>();
  *thread =
      std::thread([&home, thread, work = std::move(work), answer = std::move(answer)]() mutable {
        using Result = decltype(work());
        auto ended = std::make_shared<Result>(work());
        home.post([thread, ended, answer = std::move(answer)] {
          ended->stuck ? thread->detach() : thread->join();
          answer(std::move(ended->result));
        });
      });
}

class DeviceImpl;
// Says that the driver let go of us; comes from the reactors by way of home, whenever it likes.
// Shared with the calls on their way.
struct Gone {
  bool gone = false;
  DeviceImpl* device = nullptr;
};

class DeviceImpl final : public Device {
 public:
  DeviceImpl(Loop& home, Spec spec, Existing existing, std::shared_ptr<Gone> gone)
      : home_(home),
        spec_(std::move(spec)),
        existing_(std::move(existing)),
        node_(spec_.device_directory + "/" + existing_.node),
        gone_(std::move(gone)) {
    gone_->device = this;
  }
  ~DeviceImpl() override {
    RNBD_ASSERT(turns_.empty());
    gone_->device = nullptr;
  }

  Identity identity() const override { return existing_.identity; }
  const std::string& node() const override { return node_; }
  const std::string& number_link() const override { return existing_.links.number_link; }
  const std::string& name_link() const override { return existing_.links.name_link; }
  std::vector<std::string> users() const override { return device_users(existing_.node); }

  void remove(bool force, std::function<void(RemoveResult)> done) override {
    take_turn([this, force, done = std::move(done)] {
      removing_ = true;
      auto work = [existing = existing_, spec = spec_, force] {
        return take_away(existing, spec, force);
      };
      run_aside(home_, std::move(work), [this, done](RemoveResult result) {
        removing_ = !result.error;
        end_turn();
        done(std::move(result));
      });
    });
  }

  void when_drained(std::function<void()> done) override {
    existing_.queues->when_drained(home_, std::move(done));
  }

  void leave(std::function<void()> done) override {
    existing_.queues->leave();
    existing_.queues->when_drained(home_, std::move(done));
  }

  void resize(std::uint64_t size_bytes, std::function<void(std::error_code)> done) override {
    take_turn([this, size_bytes, done = std::move(done)] {
      auto work = [identity = existing_.identity, size_bytes] {
        return Ended<std::error_code>{change_size(identity, size_bytes)};
      };
      run_aside(home_, std::move(work), [this, done](std::error_code error) {
        end_turn();
        done(error);
      });
    });
  }

  void set_on_gone(std::function<void()> call) override {
    on_gone_ = std::move(call);
    if (gone_->gone) tell_gone();
  }
  void tell_gone() {
    if (on_gone_ && !removing_) home_.post(std::exchange(on_gone_, nullptr));
  }

  std::vector<Arena> arenas() const override {
    std::vector<Arena> arenas;
    const QueueSet& queues = *existing_.queues;
    for (std::size_t index = 0; index < queues.count(); ++index)
      arenas.push_back({&queues.reactor(index), queues.arena(index)});
    return arenas;
  }

 private:
  void take_turn(std::function<void()> operation) {
    turns_.push_back(std::move(operation));
    if (turns_.size() == 1) turns_.front()();
  }
  void end_turn() {
    turns_.pop_front();
    if (!turns_.empty()) turns_.front()();
  }

  Loop& home_;
  const Spec spec_;
  const Existing existing_;
  const std::string node_;
  const std::shared_ptr<Gone> gone_;
  std::deque<std::function<void()>> turns_;  // the first is under way
  bool removing_ = false;
  std::function<void()> on_gone_;
};

// `making`: Ended<Outcome<Existing>>(std::shared_ptr<QueueSet>, const Spec&, const Limits&).
template <class Making>
void bring_about(std::span<Reactor* const> reactors, Spec spec, block::Device& device,
                 Making making, Device::Created done) {
  Loop& home = *reactors.front();
  const auto queues = std::make_shared<QueueSet>(reactors, device);
  const auto gone = std::make_shared<Gone>();
  queues->set_on_gone([&home, gone] {
    home.post([gone] {
      if (!std::exchange(gone->gone, true) && gone->device != nullptr) gone->device->tell_gone();
    });
  });
  run_aside(
      home,
      [queues, spec, limits = device.limits(), making = std::move(making)] {
        return making(queues, spec, limits);
      },
      [&home, queues, spec, gone, done = std::move(done)](Outcome<Existing> existing) {
        if (!existing) {
          return queues->when_drained(
              home, [queues, done, why = existing.error()] { done(tl::unexpected(why)); });
        }
        done(std::make_unique<DeviceImpl>(home, spec, std::move(*existing), gone));
      });
}

}  // namespace

void Device::create(std::span<Reactor* const> reactors, Spec spec, block::Device& device,
                    Created done) {
  auto making = [count = reactors.size()](const std::shared_ptr<QueueSet>& queues, const Spec& with,
                                          const block::Limits& limits) {
    return make_device(queues, count, with, limits);
  };
  bring_about(reactors, std::move(spec), device, std::move(making), std::move(done));
}

void Device::recover(std::span<Reactor* const> reactors, Identity identity, Spec spec,
                     block::Device& device, Created done) {
  auto making = [identity](const std::shared_ptr<QueueSet>& queues, const Spec& with,
                           const block::Limits& limits) {
    return take_over(queues, identity, with, limits);
  };
  bring_about(reactors, std::move(spec), device, std::move(making), std::move(done));
}

}  // namespace rnbd::ublk
