// The NBD server under clients other people wrote: libnbd's tools, qemu, fio. Each test needs its
// tool.
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "frontend/nbd/testing/nbd_bench.h"

namespace rnbd::nbd {
namespace {

using testing::Bench;

struct Outcome {
  int status = -1;
  std::string output;
};

Outcome run(const std::string& command) {
  Outcome outcome;
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "re");
  if (pipe == nullptr) return outcome;
  char buffer[4096];
  for (std::size_t got = 0; (got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    outcome.output.append(buffer, got);
  const int status = ::pclose(pipe);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

bool installed(const std::string& tool) { return run("command -v " + tool).status == 0; }

#define NEEDS(tool) \
  if (!installed(tool)) GTEST_SKIP() << "needs " << (tool)

class ClientsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    bench_.start();
    ASSERT_TRUE(bench_.add("disk", device_));
    uri_ = "'nbd+unix:///disk?socket=" + bench_.options.socket_path + "'";
  }
  void TearDown() override {
    EXPECT_TRUE(Bench::wait_for([&] { return bench_.connections("disk") == 0; }));
    bench_.stop();
  }
  void expect_ok(const std::string& command) {
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.status, 0) << command << "\n" << outcome.output;
  }
  block::FakeDevice device_{64 << 20};
  Bench bench_;
  std::string uri_;
};

TEST_F(ClientsTest, NbdinfoSeesWhatTheDeviceCanDo) {
  NEEDS("nbdinfo");
  const Outcome outcome = run("nbdinfo --json " + uri_);
  ASSERT_EQ(outcome.status, 0) << outcome.output;
  for (const char* line :
       {"\"export-size\": 67108864", "\"can_multi_conn\": true", "\"can_trim\": true",
        "\"can_zero\": true", "\"can_fua\": true", "\"can_flush\": true", "\"is_read_only\": false",
        "\"can_fast_zero\": false", "\"block_size_minimum\": 512", "\"block_size_preferred\": 4096",
        "\"block_size_maximum\": 33554432", "\"structured\": true",
        "\"description\": \"about disk\""}) {
    EXPECT_NE(outcome.output.find(line), std::string::npos) << line << " is missing in\n"
                                                            << outcome.output;
  }
  const Outcome list =
      run("nbdinfo --list --json 'nbd+unix:///?socket=" + bench_.options.socket_path + "'");
  EXPECT_EQ(list.status, 0);
  EXPECT_NE(list.output.find("\"export-name\": \"disk\""), std::string::npos) << list.output;
}

TEST_F(ClientsTest, NbdcopyCopiesInAndOutUnchanged) {
  NEEDS("nbdcopy");
  const std::string in = bench_.directory() + "/in", out = bench_.directory() + "/out";
  std::srand(1);
  {
    std::ofstream file(in, std::ios::binary);
    for (int i = 0; i < 64 << 18; ++i) {
      const int word = std::rand();
      file.write(reinterpret_cast<const char*>(&word), sizeof word);
    }
  }
  expect_ok("nbdcopy --flush " + in + " " + uri_);
  expect_ok("nbdcopy " + uri_ + " " + out);
  expect_ok("cmp " + in + " " + out);
  EXPECT_GT(device_.flushes, 0U);
  ::unlink(in.c_str());
  ::unlink(out.c_str());
}

TEST_F(ClientsTest, QemuIoWritesZeroesDiscardsAndVerifies) {
  NEEDS("qemu-io");
  expect_ok("qemu-io -f raw " + uri_ +
            " -c 'write -P 0xab 0 4M' -c 'write -z 1M 1M' -c 'discard 2M 1M' -c 'write -f -P 0xcd "
            "3M 64k' -c flush"
            " -c 'read -P 0xab 0 1M' -c 'read -P 0 1M 1M' -c 'read -P 0xcd 3M 64k' |"
            " (! grep -q 'Pattern verification failed')");
  EXPECT_EQ(device_.bytes[0], std::byte{0xab});
  EXPECT_EQ(device_.bytes[1 << 20], std::byte{0});
  EXPECT_EQ(device_.bytes[3 << 20], std::byte{0xcd});
}

TEST_F(ClientsTest, NbdshGetsTheRightErrors) {
  // The system's Python: libnbd's module is not in others.
  const std::string nbdsh = "PATH=/usr/bin:/bin nbdsh";
  if (run(nbdsh + " -c 1").status != 0) GTEST_SKIP() << "needs nbdsh";
  expect_ok(nbdsh + " -u " + uri_ +
            " -c 'import errno\n"
            "h.set_strict_mode(0)\n"
            "def fails(call, expected):\n"
            "    try: call()\n"
            "    except nbd.Error as e: assert e.errnum == expected, e\n"
            "    else: assert False\n"
            "fails(lambda: h.pread(100, 0), errno.EINVAL)\n"
            "fails(lambda: h.pread(512, h.get_size()), errno.EINVAL)\n"
            "fails(lambda: h.pwrite(bytearray(512), h.get_size()), errno.ENOSPC)\n"
            "h.pwrite(b\"x\" * 512, 512)\n"
            "assert h.pread(512, 512) == b\"x\" * 512\n"
            "h.flush()'");
}

TEST_F(ClientsTest, FioFindsEveryBlockAsItWroteIt) {
  NEEDS("fio");
  const Outcome outcome = run("fio --name=t --ioengine=nbd --uri=" + uri_ +
                              " --rw=randrw --bsrange=512-256k --bs_unaligned=0 --iodepth=32 "
                              "--size=32m --serialize_overlap=1"
                              " --verify=crc32c --verify_fatal=1 --randseed=7");
  if (outcome.output.find("engine nbd not loadable") != std::string::npos)
    GTEST_SKIP() << "fio without nbd engine";
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("err= 0"), std::string::npos) << outcome.output;
}

}  // namespace
}  // namespace rnbd::nbd
