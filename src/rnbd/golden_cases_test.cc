// What the two ends of ours put on the wire, beside what was captured between the Linux kernel's
// client and server (6.12, RoCE v2). Fields that are chosen anew each time, as keys, addresses and
// UUIDs, are written as "..", and those where we differ on purpose are named.

#include <gtest/gtest.h>

#include <sstream>

#include "rnbd/testing/kernel_client_cases.h"
#include "rnbd/testing/kernel_volumes.h"
#include "wire/testing/hex.h"

namespace rnbd::testing {
namespace {

using block::Op;
using rtrs::testing::KernelServer;

// Whether bytes are as written: pairs of hex digits, ".." for any byte, "00*31" for 31 times it.
::testing::AssertionResult matches(std::span<const std::byte> bytes, std::string_view golden) {
  std::vector<std::string> expected;
  std::istringstream words{std::string(golden)};
  for (std::string word; words >> word;) {
    const auto star = word.find('*');
    const std::size_t times = star == std::string::npos ? 1 : std::stoul(word.substr(star + 1));
    expected.insert(expected.end(), times, word.substr(0, 2));
  }
  if (bytes.size() != expected.size()) {
    return ::testing::AssertionFailure() << bytes.size() << " bytes instead of " << expected.size();
  }
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::string is = wire::test::to_hex(bytes.subspan(i, 1));
    if (expected[i] != ".." && is != expected[i]) {
      return ::testing::AssertionFailure()
             << "byte " << i << " is " << is << ", the kernel's " << expected[i] << "\n"
             << wire::test::to_hex(bytes);
    }
  }
  return ::testing::AssertionSuccess();
}

class GoldenCases : public KernelClientCases {};

TEST_F(GoldenCases, U02_OurClientWritesWhatTheKernelsDoes) {
  World world{fabric::sim::Options{}};
  Host& server_host = world.add_host("server");
  Host& client_host = world.add_host("blya");
  KernelVolumes volumes;
  volumes.volumes["dev/nullb0"].about.cache_policy = 3;
  KernelServer server(world, server_host, 1, {}, [&](rtrs::testing::KernelRequest& request) {
    return volumes.handle(request);
  });
  {
    ClientBox client(world, client_host, {server_host.address_with_port(kPort)}, {.name = "blya"});
    auto& device = client.must_open("/dev/nullb0");
    {
      Door door(world, device, client.loop());
      EXPECT_FALSE(door.run(Io(Op::read, 0, 4096)));
      EXPECT_FALSE(door.run(Io(Op::write, 0, 4096, block::kSync)));
      EXPECT_FALSE(door.run(Io(Op::write, 0, 4096)));
      EXPECT_FALSE(door.run(Io(Op::write, 0, 4096, block::kFua)));
      EXPECT_FALSE(door.run(Io(Op::flush, 0, 0)));
    }
    server.heartbeat();
    world.run_for(20s);
    client.close(device);
  }
  // Connection 0 of two; the kernel's has one connection per CPU and one more.
  EXPECT_TRUE(matches(wire::bytes_of(server.requests.at(0)),
                      "00 00 bd 1b 00 02 00 00 02 00 01 00 ..*16 ..*16 01 00*11"));
  EXPECT_TRUE(matches(wire::bytes_of(server.requests.at(1)),
                      "00 00 bd 1b 00 02 01 00 02 00 01 00 ..*16 ..*16 01 00*11"));
  EXPECT_TRUE(matches(server.infos.at(0), "00 00 62 6c 79 61 00*251 00*15"));

  struct Golden {
    const char* message;
    const char* header;
    std::uint32_t offset;  // in the immediate
  };
  // Reads differ in one bit: we do not ask for an invalidation (01 00 in the kernel's flags), as
  // our keys are not its to invalidate. And we set no priority (04 40).
  const char* const read_one = "03 00 20 00 00 00 01 00 ..*8 ..*4 00 10 00 00";
  const Golden golden[] = {
      {"00 00 00 00 02 00*31", "03 00 24 00 00 00 01 00 ..*8 ..*4 24 00 00 00", 0x48},
      {"02 00 00 00 01 00 2f 64 65 76 2f 6e 75 6c 6c 62 30 00*244 00*3",
       "03 00 08 01 00 00 01 00 ..*8 ..*4 38 00 00 00", 0x140},
      {"04 00 00 00 00 00 00 00 00*8 00 01 00 00 00 10 00 00 00 00 00*6", read_one, 0x1020},
      {"04 00 00 00 00 00 00 00 00*8 01 01 00 00 00 10 00 00 00 00 00*6", "02 00 20 00", 0x1020},
      {"04 00 00 00 00 00 00 00 00*8 01 00 00 00 00 10 00 00 00 00 00*6", "02 00 20 00", 0x1020},
      {"04 00 00 00 00 00 00 00 00*8 01 03 00 00 00 10 00 00 00 00 00*6", "02 00 20 00", 0x1020},
      {"04 00 00 00 00 00 00 00 ff*8 02 03 00 00 00*4 00 00 00*6", "03 00 20 00 00 00 00 00", 0x20},
      {"05 00 00 00 00 00 00 00", "02 00 08 00", 0x08},
  };
  ASSERT_EQ(volumes.requests.size(), std::size(golden));
  for (std::size_t i = 0; i < std::size(golden); ++i) {
    const auto& request = volumes.requests[i];
    EXPECT_TRUE(matches(request.message, golden[i].message)) << i;
    EXPECT_TRUE(matches(request.rtrs_message, golden[i].header)) << i;
    EXPECT_EQ(request.immediate & 0x7ffffU, golden[i].offset) << i;  // 19 bits at a depth of 512
    EXPECT_EQ(request.immediate >> 28, 0U) << i;
  }
  EXPECT_EQ(server.heartbeats, (std::set<std::uint32_t>{0x80000000, 0x90000000}));
}

TEST_F(GoldenCases, U02_OurServerAnswersWhatTheKernelsDoes) {
  rtrs::server::ServerOptions options;  // the kernel's defaults are ours
  options.max_chunk_memory = std::uint64_t{1} << 30;
  auto disk_options = small_disk();
  disk_options.limits.max_discard = (std::uint64_t{0x7fffff} << 9) & ~std::uint64_t{511};
  disk_options.limits.max_write_zeroes = 0;
  start(options, disk_options);
  KernelClient& client = make_client();
  ASSERT_TRUE(client.establish("blya"));
  // As with always_invalidate=N: no flag, one region.
  EXPECT_TRUE(matches(client.raw().ends[0]->private_data,
                      "bd 1b 00 02 00 00 00 02 00 f0 01 00 00 10 00 00 00*4 00*36"));
  EXPECT_TRUE(matches(client.raw().ends[0]->sends.at(0), "01 00 01 00 00*4 ..*8 ..*4 00 00 00 04"));

  EXPECT_TRUE(matches(client.greet().data, "01 00 00 00 02 00*31"));
  EXPECT_EQ(client.raw().ends[0]->immediates.back(), 0x20000000U);  // invalidated, no error, id 0
  const auto opened = client.send_open("vol");
  const auto id = wire::parse_open_response(opened.data)->device_id;
  // 2048 sectors where the kernel's had 131072, and 248 at a time where its device had 255.
  EXPECT_TRUE(matches(opened.data,
                      "03 00 00 00 ..*4 00 08 00*6 f8 00 00 00 00 00 00 00 ff ff 7f 00 00 02 00 00 "
                      "00*4 00 02 00 02 ..*2 00 00 00 03 00*10"));
  EXPECT_EQ(client.open("nothing"), -ENOENT);
  EXPECT_EQ(client.raw().ends[0]->immediates.back(), 0x20100000U);
  EXPECT_EQ(client.write_blocks(id, 0, pattern(4096, 1), 0x101, 1, 5), 0);
  EXPECT_EQ(client.raw().ends[1]->immediates.back(), 0x10000005U);
  EXPECT_EQ(client.write_blocks(id + 1, 0, pattern(4096, 1), 0x101, 1, 9), ENOTCONN);
  EXPECT_EQ(client.raw().ends[1]->immediates.back(), 0x13580009U);
  EXPECT_EQ(client.flush(id), 0);
  EXPECT_EQ(client.raw().ends[1]->immediates.back(), 0x10000001U);
  EXPECT_EQ(client.close(id), 0);
  EXPECT_EQ(client.raw().ends[0]->immediates.back(), 0x10000000U);
  client.raw().ends[0]->immediate(0x80000000);
  site->world.run_for(1ms);
  EXPECT_EQ(client.raw().ends[0]->immediates.back(), 0x90000000U);
}

}  // namespace
}  // namespace rnbd::testing
