#include "frontend/ublk/queue_set.h"

#include <cerrno>
#include <future>

namespace rnbd::ublk {

void QueueSet::on_each(const Step& step, std::function<void()> all_done) {
  auto left = std::make_shared<std::atomic<std::size_t>>(queues_.size());
  auto done = [left, all_done = std::move(all_done)] {
    if (--*left == 0) all_done();
  };
  for (std::size_t index = 0; index < queues_.size(); ++index) {
    reactor(index).post([self = shared_from_this(), step, index, done] { step(index, done); });
  }
}

bool QueueSet::on_each_and_wait(const Step& step, Duration limit) {
  auto all_done = std::make_shared<std::promise<void>>();  // outlives this call if one is late
  auto future = all_done->get_future();
  on_each(step, [all_done] { all_done->set_value(); });
  return future.wait_for(limit) == std::future_status::ready;
}

std::error_code QueueSet::start(UniqueFd device, const QueuePlan& plan, Duration limit) {
  file_ = std::move(device);
  queues_.resize(plan.count);
  auto create = [this, plan](std::size_t index, const std::function<void()>& done) {
    QueueSetup setup;
    setup.device_fd = file_.get();
    setup.id = static_cast<std::uint16_t>(index);
    setup.depth = plan.depth;
    setup.io_bytes = plan.io_bytes;
    setup.ioctl_encoded = plan.ioctl_encoded;
    auto queue = KernelQueue::create(reactor(index), setup, device_);
    if (queue) {
      (*queue)->set_on_gone([this] {
        if (on_gone_) on_gone_();
      });
      queues_[index] = std::move(*queue);
    } else {
      start_error_ = to_errno(queue.error());
    }
    done();
  };
  if (!on_each_and_wait(create, limit)) return from_errno(ETIMEDOUT);
  if (start_error_ != 0) return from_errno(start_error_);
  kernel_free_ = false;
  on_each(
      [this](std::size_t index, const std::function<void()>& done) {
        queues_[index]->fetch_all();
        done();
      },
      [] {});
  return {};
}

bool QueueSet::wait_kernel_free(Duration limit) {
  auto release = [this](std::size_t index, std::function<void()> done) {
    if (!queues_[index]) return done();
    queues_[index]->when_kernel_free([this, index, done = std::move(done)] {
      queues_[index]->release_kernel_memory();
      done();
    });
  };
  if (kernel_free_) return true;
  if (!on_each_and_wait(release, limit)) return false;
  kernel_free_ = true;
  file_.reset();
  return true;
}

void QueueSet::fail_all() {
  on_each(
      [this](std::size_t index, const std::function<void()>& done) {
        if (queues_[index]) queues_[index]->fail_all();
        done();
      },
      [] {});
}

void QueueSet::leave() {
  on_each(
      [this](std::size_t index, const std::function<void()>& done) {
        if (queues_[index]) queues_[index]->leave();
        done();
      },
      [] {});
}

void QueueSet::when_drained(Loop& home, std::function<void()> done) {
  if (queues_.empty()) return home.post(std::move(done));
  if (!kernel_free_) keep_for_good();
  on_each(
      [this, destroy = kernel_free_](std::size_t index, std::function<void()> gone) {
        if (!queues_[index]) return gone();
        queues_[index]->when_backend_free([this, index, destroy, gone = std::move(gone)] {
          // Not from inside the queue's own call.
          reactor(index).post([self = shared_from_this(), index, destroy, gone] {
            if (destroy) self->queues_[index].reset();
            gone();
          });
        });
      },
      [&home, done = std::move(done)] { home.post(done); });
}

// The rings of the reactors still know the tags. Reachable, so that no leak checker complains.
void QueueSet::keep_for_good() {
  static std::atomic<QueueSet*> all{nullptr};
  if (kept_) return;
  kept_ = shared_from_this();
  next_kept_ = all.load();
  while (!all.compare_exchange_weak(next_kept_, this)) continue;
}

}  // namespace rnbd::ublk
