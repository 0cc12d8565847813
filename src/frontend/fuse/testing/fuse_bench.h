#pragma once
// For the tests of the FUSE front end: a mount of fake devices on a reactor with a thread of its
// own.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cstdlib>
#include <future>
#include <string>
#include <thread>

#include "base/unique_fd.h"
#include "block/testing/fake_device.h"
#include "frontend/fuse/fuse_mount.h"

namespace rnbd::fuse::testing {

inline bool fuse_works() { return ::access("/dev/fuse", R_OK | W_OK) == 0; }

class Bench {
 public:
  Bench() {
    char pattern[] = "/tmp/rnbd-fuse-test-XXXXXX";
    directory = ::mkdtemp(pattern);
    options.mountpoint = directory + "/mnt";
    auto made = Reactor::create({.name = "fuse-test"});
    RNBD_ASSERT(made);
    reactor = std::move(*made);
    reactor->start();
  }
  ~Bench() {
    stop();
    reactor->stop();
    reactor->join();
    ::rmdir(options.mountpoint.c_str());
    ::rmdir(directory.c_str());
  }
  // Runs `call` on the reactor and hands its result over.
  template <class Call>
  std::invoke_result_t<Call> on_reactor(Call call) {
    std::packaged_task<std::invoke_result_t<Call>()> task(std::move(call));
    auto future = task.get_future();
    reactor->post([&] { task(); });
    return future.get();
  }
  void start() {
    on_reactor([&] {
      auto made = Mount::create(*reactor, options);
      ASSERT_TRUE(made) << made.error().message();
      mount = std::move(*made);
    });
  }
  void stop() {
    if (!mount) return;
    std::promise<void> done;
    reactor->post([&] {
      mount->unmount([&] {
        mount.reset();
        done.set_value();
      });
    });
    done.get_future().wait();
  }
  Result<void> add(const std::string& name, block::Device& device, bool read_only = false) {
    return on_reactor(
        [&] { return mount->add_volume({.name = name, .read_only = read_only}, device); });
  }
  std::future<std::error_code> remove(const std::string& name) {
    auto done = std::make_shared<std::promise<std::error_code>>();
    auto future = done->get_future();
    reactor->post([this, name, done] {
      mount->remove_volume(name, [done](std::error_code e) { done->set_value(e); });
    });
    return future;
  }
  std::uint32_t open_count(const std::string& name) {
    return on_reactor([&] { return mount->open_count(name); });
  }
  std::string path(const std::string& name) const { return options.mountpoint + "/" + name; }
  template <class Condition>
  static bool wait_for(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }

  std::string directory;
  MountOptions options;
  std::unique_ptr<Reactor> reactor;
  std::unique_ptr<Mount> mount;
};

}  // namespace rnbd::fuse::testing
