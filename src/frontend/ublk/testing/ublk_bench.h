#pragma once
// For tests where the driver is: reactors, and ublk devices on them with calls that wait.

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "frontend/ublk/ublk_device.h"

namespace rnbd::ublk::testing {

class Bench final {
 public:
  explicit Bench(std::size_t count = 2) {
    for (std::size_t i = 0; i < count; ++i) {
      reactors_.push_back(std::move(*Reactor::create({.name = "loop" + std::to_string(i)})));
      pointers_.push_back(reactors_.back().get());
      reactors_.back()->start();
    }
  }
  ~Bench() {
    for (auto& reactor : reactors_) {
      reactor->stop();
      reactor->join();
    }
  }
  Reactor& home() { return *pointers_.front(); }

  // Runs `call` on the home reactor and waits for what it hands to its argument.
  template <class T>
  T ask(const std::function<void(std::function<void(T)>)>& call) {
    std::promise<std::shared_ptr<T>> promise;
    home().post(
        [&] { call([&](T value) { promise.set_value(std::make_shared<T>(std::move(value))); }); });
    return std::move(*promise.get_future().get());
  }
  using Made = Outcome<std::shared_ptr<Device>>;
  Made create(const Spec& spec, block::Device& device) {
    return ask<Made>([&](auto answer) {
      Device::create(pointers_, spec, device, [answer](auto made) { answer(shared(made)); });
    });
  }
  Made recover(Identity identity, const Spec& spec, block::Device& device) {
    return ask<Made>([&](auto answer) {
      Device::recover(pointers_, identity, spec, device,
                      [answer](auto made) { answer(shared(made)); });
    });
  }
  // Removed only when there is no error.
  RemoveResult remove(const std::shared_ptr<Device>& device, bool force) {
    return ask<RemoveResult>([&](auto answer) { device->remove(force, answer); });
  }
  void drain(std::shared_ptr<Device>& device) {
    ask<int>([&](auto answer) {
      device->when_drained([&device, answer] {
        device.reset();
        answer(0);
      });
    });
  }
  RemoveResult remove_and_drain(std::shared_ptr<Device>& device, bool force) {
    auto result = remove(device, force);
    if (!result.error) drain(device);
    return result;
  }
  void leave(const std::shared_ptr<Device>& device) {
    ask<int>([&](auto answer) { device->leave([answer] { answer(0); }); });
  }
  std::error_code resize(const std::shared_ptr<Device>& device, std::uint64_t size) {
    return ask<std::error_code>([&](auto answer) { device->resize(size, answer); });
  }

 private:
  static Made shared(Outcome<std::unique_ptr<Device>>& made) {
    if (!made) return tl::unexpected(made.error());
    return std::shared_ptr<Device>(std::move(*made));
  }
  std::vector<std::unique_ptr<Reactor>> reactors_;
  std::vector<Reactor*> pointers_;
};

}  // namespace rnbd::ublk::testing
