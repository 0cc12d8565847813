#pragma once
// A server of ours with one volume, and clients that behave as the Linux kernel's: the stage of
// the cases in docs/interop.md.

#include <gtest/gtest.h>

#include "rnbd/testing/kernel_client.h"

namespace rnbd::testing {

inline std::vector<std::byte> pattern(std::size_t size, std::uint64_t seed) {
  std::vector<std::byte> bytes(size);
  SeededRandom random(seed);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random.next());
  return bytes;
}

class KernelClientCases : public ::testing::Test {
 protected:
  KernelClientCases() { set_log_options({.program = "rnbd", .level = LogLevel::off}); }
  ~KernelClientCases() override {
    stop();
    set_log_options({});
  }
  void start(const rtrs::server::ServerOptions& options = small_server(),
             const DiskOptions& disk_options = small_disk()) {
    stop();
    Site::Options site_options;
    site_options.server = options;
    site = std::make_unique<Site>(site_options);
    disk = &site->add_disk("vol", disk_options);
    disk->recording = true;
    fabric = &site->world.add_host("kernel", 2).add_fabric();
  }
  void stop() {
    clients.clear();
    if (!site) return;
    EXPECT_TRUE(site->world.run_until([&] { return site->opener.open_devices == 0; }, 60s));
    EXPECT_EQ(disk->overlaps, 0);
    EXPECT_EQ(disk->refused, 0);
    site.reset();
  }
  KernelClient& make_client(const KernelClient::Options& options = {}) {
    return *clients.emplace_back(
        std::make_unique<KernelClient>(site->world, *fabric, site->server.address(), options));
  }
  KernelClient& connect(const std::string& name = "blya",
                        const KernelClient::Options& options = {}) {
    KernelClient& client = make_client(options);
    EXPECT_TRUE(client.establish(name));
    EXPECT_TRUE(client.greet());
    return client;
  }
  // As lists of what the disk saw: "write+fua 0 512".
  std::string seen() {
    std::string text;
    for (const auto& request : disk->seen) {
      text += (text.empty() ? "" : ", ") + std::string(block::op_name(request.op));
      if ((request.flags & block::kFua) != 0) text += "+fua";
      if ((request.flags & block::kNoUnmap) != 0) text += "+nounmap";
    }
    disk->seen.clear();
    return text;
  }
  std::span<const std::byte> on_disk(std::uint64_t at, std::size_t size) {
    return std::span(disk->bytes()).subspan(at, size);
  }

  std::unique_ptr<Site> site;
  Disk* disk = nullptr;
  SimFabric* fabric = nullptr;
  std::vector<std::unique_ptr<KernelClient>> clients;
};

}  // namespace rnbd::testing
