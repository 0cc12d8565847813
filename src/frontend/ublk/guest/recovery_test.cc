// The daemon dies, or is replaced, and the device never goes away.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <thread>

#include "backend/memory/memory_device.h"
#include "base/unique_fd.h"
#include "frontend/ublk/guest/daemon_test.h"
#include "frontend/ublk/testing/shared_device.h"
#include "frontend/ublk/testing/ublk_bench.h"

extern char** environ;

namespace rnbd::ublk {
namespace testing {

int daemon_main(int argc, char** argv) {
  if (argc < 4) return 2;
  SharedDevice shared(argv[2], std::chrono::milliseconds(2));
  Bench bench;
  Spec spec;
  spec.session = "s";
  spec.volume = "v";
  spec.tag = std::strtoull(argv[3], nullptr, 10);
  Bench::Made made =
      argc > 4
          ? bench.recover({static_cast<std::uint32_t>(std::atoi(argv[4])), spec.tag}, spec, shared)
          : bench.create(spec, shared);
  if (!made) {
    std::printf("failed %d %s\n", made.error().error.value(), made.error().what.c_str());
    return 1;
  }
  std::shared_ptr<Device> device = std::move(*made);
  std::printf("ready %u\n", device->identity().id);
  std::fflush(stdout);
  std::string word;
  std::cin >> word;
  if (word == "leave") {
    bench.leave(device);
    ::_exit(0);
  }
  return bench.remove_and_drain(device, word == "force").error ? 1 : 0;
}

int memory_main(int argc, char** argv) {
  if (argc < 3) return 2;
  backend::MemoryOptions options;
  options.size = std::strtoull(argv[2], nullptr, 10);
  if (argc > 3) options.logical_block_size = static_cast<std::uint32_t>(std::atoi(argv[3]));
  auto memory = backend::MemoryDevice::create(options);
  if (!memory) return 2;
  Bench bench;
  Spec spec;
  spec.session = "session";
  spec.volume = "memory" + std::to_string(::getpid());
  auto made = bench.create(spec, **memory);
  if (!made) {
    std::fprintf(stderr, "%s\n", made.error().what.c_str());
    return 1;
  }
  std::printf("%s\n", (*made)->node().c_str());
  std::fflush(stdout);
  std::string rest;
  while (rest != "end" && std::getline(std::cin, rest)) continue;
  const auto removed = bench.remove_and_drain(*made, false);
  for (const auto& user : removed.users) std::fprintf(stderr, "in use: %s\n", user.c_str());
  return removed.error ? 1 : 0;
}

}  // namespace testing

namespace {

constexpr std::uint64_t kTag = 4711;

// A daemon in a process of its own.
class Daemon {
 public:
  explicit Daemon(const std::string& file, std::optional<std::uint32_t> id = {},
                  std::uint64_t tag = kTag) {
    int in[2], out[2];
    if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) std::abort();
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    ::posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    std::vector<std::string> words{"/proc/self/exe", "--daemon", file, std::to_string(tag)};
    if (id) words.push_back(std::to_string(*id));
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    if (::posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr, argv.data(), environ) != 0)
      std::abort();
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(in[0]);
    ::close(out[1]);
    commands_.reset(in[1]);
    std::FILE* answers = ::fdopen(out[0], "r");
    std::array<char, 512> line{};
    if (std::fgets(line.data(), line.size(), answers) != nullptr) said_ = line.data();
    std::fclose(answers);
  }
  ~Daemon() {
    if (pid_ > 0) kill();
  }
  const std::string& said() const { return said_; }
  std::uint32_t id() const {
    unsigned id = 0xffffffff;
    std::sscanf(said_.c_str(), "ready %u", &id);
    return id;
  }
  void kill() {
    ::kill(pid_, SIGKILL);
    wait();
  }
  int tell(const std::string& word) {
    EXPECT_EQ(::write(commands_.get(), word.data(), word.size()),
              static_cast<ssize_t>(word.size()));
    commands_.reset();
    return wait();
  }
  int wait() {
    int status = -1;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }

 private:
  pid_t pid_ = -1;
  UniqueFd commands_;
  std::string said_;
};

// Writes and verifies without end, on a device that must not fail.
class Load {
 public:
  explicit Load(const std::string& node) {
    for (unsigned job = 0; job < 4; ++job)
      threads_.emplace_back([this, node, job] { run(node, job); });
  }
  ~Load() { stop(); }
  void stop() {
    stop_ = true;
    for (auto& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }
  // Waits until so many more blocks went through.
  void more(unsigned blocks) const {
    const unsigned until = done_ + blocks;
    while (done_ < until && faults_ == 0) std::this_thread::yield();
  }
  unsigned faults() const { return faults_; }

 private:
  static constexpr std::size_t kBlock = 8192, kBlocks = 64;
  void run(const std::string& node, unsigned job) {
    const UniqueFd fd(::open(node.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
    auto* memory = static_cast<std::uint32_t*>(std::aligned_alloc(4096, kBlock));
    std::array<std::uint32_t, kBlocks> written{};
    for (std::uint32_t turn = 1; !stop_; ++turn) {
      const std::size_t block = turn * 29 % kBlocks;
      const auto at = static_cast<off_t>((job * kBlocks + block) * kBlock);
      if (written[block] != 0) {  // what was last written there is still there
        if (::pread(fd.get(), memory, kBlock, at) != kBlock) ++faults_;
        for (std::size_t i = 0; i < kBlock / 4; ++i) {
          if (memory[i] != written[block] + i) {
            ++faults_;
            break;
          }
        }
      }
      written[block] = turn * 65536 + job;
      for (std::size_t i = 0; i < kBlock / 4; ++i)
        memory[i] = written[block] + static_cast<std::uint32_t>(i);
      if (::pwrite(fd.get(), memory, kBlock, at) != kBlock) ++faults_;
      ++done_;
    }
    std::free(memory);
  }
  std::atomic<bool> stop_{false};
  std::atomic<unsigned> done_{0};
  std::atomic<unsigned> faults_{0};
  std::vector<std::thread> threads_;
};

class UblkRecovery : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto error = driver_usable())
      GTEST_SKIP() << failure("use the ublk driver", error).what;
    std::ofstream(file_).close();
    ASSERT_EQ(::truncate(file_.c_str(), 16 << 20), 0);
  }
  void TearDown() override {
    ::unlink(file_.c_str());
    if (const auto left = list_devices()) {
      EXPECT_TRUE(left->empty());
    }
  }
  const std::string file_ = "/tmp/ublk-recovery-" + std::to_string(::getpid());
};

std::string node_of(std::uint32_t id) { return "/dev/ublkb" + std::to_string(id); }

// Is the thread of ours in a request that is not answered?
bool waits_for_disk(pid_t thread) {
  std::ifstream stat("/proc/self/task/" + std::to_string(thread) + "/stat");
  const std::string text{std::istreambuf_iterator<char>(stat), {}};
  const std::size_t name_end = text.rfind(')');
  return name_end != std::string::npos && text.compare(name_end, 4, ") D ") == 0;
}

TEST_F(UblkRecovery, AKilledDaemonIsReplacedUnderLoadWithoutAnError) {
  auto daemon = std::make_unique<Daemon>(file_);
  ASSERT_EQ(daemon->said().rfind("ready", 0), 0U) << daemon->said();
  const std::uint32_t id = daemon->id();
  Load load(node_of(id));
  for (int round = 0; round < 5; ++round) {
    load.more(200);
    daemon->kill();
    daemon = std::make_unique<Daemon>(file_, id);
    ASSERT_EQ(daemon->id(), id) << daemon->said();
    EXPECT_EQ(load.faults(), 0U);
  }
  load.more(200);
  load.stop();
  EXPECT_EQ(load.faults(), 0U);
  EXPECT_EQ(daemon->tell("remove"), 0);
}

TEST_F(UblkRecovery, ADaemonThatLeavesIsReplacedUnderLoadWithoutAnError) {
  auto daemon = std::make_unique<Daemon>(file_);
  ASSERT_EQ(daemon->said().rfind("ready", 0), 0U) << daemon->said();
  const std::uint32_t id = daemon->id();
  Load load(node_of(id));
  for (int round = 0; round < 3; ++round) {
    load.more(200);
    EXPECT_EQ(daemon->tell("leave"), 0);
    daemon = std::make_unique<Daemon>(file_, id);
    ASSERT_EQ(daemon->id(), id) << daemon->said();
  }
  load.more(200);
  load.stop();
  EXPECT_EQ(load.faults(), 0U);
  EXPECT_EQ(daemon->tell("remove"), 0);
}

TEST_F(UblkRecovery, ADeviceLeftBehindIsListedAndCanBeDiscarded) {
  Daemon daemon(file_);
  ASSERT_EQ(daemon.said().rfind("ready", 0), 0U) << daemon.said();
  const std::uint32_t id = daemon.id();
  daemon.kill();
  auto listed = list_devices();
  while (listed && listed->size() == 1 && listed->front().state == DeviceState::live)
    listed = list_devices();  // the driver notices a little later
  ASSERT_TRUE(listed);
  ASSERT_EQ(listed->size(), 1U);
  EXPECT_EQ(listed->front().state, DeviceState::quiesced);
  EXPECT_EQ(listed->front().tag, kTag);
  EXPECT_FALSE(listed->front().owner_alive);
  EXPECT_EQ(discard_device(id, kTag + 1, std::chrono::seconds(5)), from_errno(ENODEV));
  // A request that waits for a successor fails with it.
  std::atomic<int> result{0};
  std::atomic<pid_t> thread{0};
  const UniqueFd fd(::open(node_of(id).c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  ASSERT_TRUE(fd);
  std::thread reader([&] {
    void* memory = std::aligned_alloc(4096, 4096);
    thread = ::gettid();
    result = ::pread(fd.get(), memory, 4096, 0) == -1 ? errno : -1;
    std::free(memory);
  });
  while (thread == 0 || !waits_for_disk(thread)) std::this_thread::yield();
  EXPECT_FALSE(discard_device(id, kTag, std::chrono::seconds(10)));
  reader.join();
  EXPECT_EQ(result, EIO);
}

TEST_F(UblkRecovery, NobodyTakesOverWhatIsServedOrAnothers) {
  Daemon daemon(file_);
  ASSERT_EQ(daemon.said().rfind("ready", 0), 0U) << daemon.said();
  testing::Bench bench;
  testing::SharedDevice shared(file_, std::chrono::milliseconds(1));
  Spec spec;
  spec.links = false;
  spec.patience = std::chrono::milliseconds(100);
  const auto served = bench.recover({daemon.id(), kTag}, spec, shared);
  ASSERT_FALSE(served);
  EXPECT_EQ(served.error().error, from_errno(EBUSY));
  EXPECT_NE(served.error().what.find("still serves it"), std::string::npos);
  const auto foreign = bench.recover({daemon.id(), kTag + 1}, spec, shared);
  ASSERT_FALSE(foreign);
  EXPECT_EQ(foreign.error().error, from_errno(ENODEV));
  const auto missing = bench.recover({daemon.id() + 7, kTag}, spec, shared);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().error, from_errno(ENODEV));
  const std::uint32_t id = daemon.id();
  daemon.kill();
  const auto other = backend::MemoryDevice::create({.size = 16 << 20, .logical_block_size = 4096});
  const auto unlike = bench.recover({id, kTag}, spec, **other);
  ASSERT_FALSE(unlike);
  EXPECT_EQ(unlike.error().error, from_errno(EINVAL));
  Daemon successor(file_, id);  // still there for the right one
  ASSERT_EQ(successor.id(), id) << successor.said();
  EXPECT_EQ(successor.tell("remove"), 0);
}

}  // namespace
}  // namespace rnbd::ublk
