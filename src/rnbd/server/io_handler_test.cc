#include "rnbd/server/io_handler.h"

#include <gtest/gtest.h>

#include "rnbd/testing/export_bench.h"

namespace rnbd::server {
namespace {

using block::Op;
using testing::Disk;
using testing::ExportBench;
using testing::HandRequest;
using testing::HandSession;
using testing::small_disk;
using testing::text_of;
using wire::IoOp;
using namespace std::chrono_literals;  // NOLINT: tests

constexpr auto kRead = rtrs::Direction::read;
constexpr auto kWrite = rtrs::Direction::write;

class IoHandlerTest : public ::testing::Test {
 protected:
  void open(const testing::DiskOptions& options = small_disk(), AccessMode mode = AccessMode::rw) {
    disk = &bench.add_disk("vol", options);
    session = &bench.session("s");
    id = bench.open(*session, "vol", mode);
    ASSERT_GE(id, 0);
    disk->recording = true;
  }
  int run(IoOp op, std::uint64_t sector, std::uint32_t length, std::uint32_t flags = 0) {
    return bench.run(*session, ExportBench::io(id, op, sector, length, flags)).errno_;
  }
  // Carried in another way than clients do.
  int carried(const wire::Io& io, rtrs::Direction way, std::size_t data, std::size_t reply) {
    HandRequest& request = bench.finish(
        bench.start(bench.send(*session, 0, way, text_of(wire::encode(io)), data, reply)));
    return request.errno_;
  }
  wire::Io io(IoOp op, std::uint64_t sector, std::uint32_t length, std::uint32_t flags = 0) const {
    return ExportBench::io(id, op, sector, length, flags);
  }
  // Its path closes when the first step is at the disk.
  void expect_stops_after_its_first_step(HandRequest& request) {
    disk->hold(true);
    bench.start(request);
    ASSERT_TRUE(bench.world.run_until([&] { return disk->outstanding == 1; }, 1s));
    request.path_closes = true;
    disk->hold(false);
    EXPECT_EQ(bench.finish(request).errno_, ECANCELED);
    EXPECT_EQ(disk->seen.size(), 1U);
  }
  std::string seen() const {
    std::string text;
    for (const auto& request : disk->seen) {
      text += std::string(text.empty() ? "" : ", ") + block::op_name(request.op);
      if ((request.flags & block::kFua) != 0) text += "+fua";
    }
    return text;
  }
  ExportBench bench;
  Disk* disk = nullptr;
  HandSession* session = nullptr;
  std::int64_t id = -1;
};

// The cases of docs/interop.md.
class IoHandlerCases : public IoHandlerTest {};

TEST_F(IoHandlerTest, WritesFromTheChunkAndReadsIntoIt) {
  open();
  HandRequest& write = bench.io_message(*session, io(IoOp::write, 8, 4096));
  for (std::size_t i = 0; i < write.chunk.size(); ++i)
    write.chunk[i] = static_cast<std::byte>(i * 7);
  EXPECT_EQ(bench.finish(bench.start(write)).errno_, 0);
  HandRequest& read = bench.run(*session, io(IoOp::read, 8, 4096), 1);
  EXPECT_EQ(read.errno_, 0);
  EXPECT_EQ(read.chunk, write.chunk);
}

TEST_F(IoHandlerCases, C27_S51_AcceptsTheShorterMessageOfVersionOne) {
  open();
  auto text = text_of(wire::encode(io(IoOp::read, 0, 512)));
  text.resize(24);
  EXPECT_EQ(bench.finish(bench.start(bench.send(*session, 0, kRead, text, 512, 512))).errno_, 0);
}

TEST_F(IoHandlerCases, S12_AFlushComesAsAReadWithoutDataAndAnySector) {
  open();
  EXPECT_EQ(run(IoOp::flush, wire::kFlushSector, 0, wire::kIoSync | wire::kIoFua), 0);
  EXPECT_EQ(carried(io(IoOp::flush, 0, 0), kWrite, 0, 0), 0);
  EXPECT_EQ(seen(), "flush, flush");
}

TEST_F(IoHandlerCases, C34_RefusesIoOfDevicesNobodyOpened) {
  open();
  HandSession& other = bench.session("other");
  EXPECT_EQ(bench.run(other, io(IoOp::read, 0, 512)).errno_, ENOTCONN)
      << "ids are the session's own";
  id = 77;
  EXPECT_EQ(run(IoOp::read, 0, 512), ENOTCONN);
  EXPECT_EQ(run(IoOp::flush, 0, 0), ENOTCONN);
}

TEST_F(IoHandlerTest, K1_AReadAnswersExactlyItsLengthOrNothing) {
  open();
  for (const std::size_t reply : {0U, 1U, 511U, 513U, 1024U, 65536U}) {
    EXPECT_EQ(carried(io(IoOp::read, 0, 512), kRead, 512, reply), EINVAL) << reply;
    EXPECT_EQ(carried(io(IoOp::read, 0, 512), kRead, reply, reply), EINVAL) << reply;
  }
  EXPECT_EQ(carried(io(IoOp::read, 0, 512), kWrite, 512, 0), EINVAL);
  EXPECT_EQ(carried(io(IoOp::flush, 0, 0), kRead, 512, 512), EINVAL)
      << "would send what lies in the chunk";
  EXPECT_EQ(carried(io(IoOp::discard, 0, 512), kRead, 512, 512), EINVAL);
  EXPECT_EQ(seen(), "");
}

TEST_F(IoHandlerCases, C35_DataMustBeAsLongAsTheOperation) {
  open();
  EXPECT_EQ(carried(io(IoOp::write, 0, 512), kWrite, 1024, 0), EINVAL);
  EXPECT_EQ(carried(io(IoOp::write, 0, 1024), kWrite, 512, 0), EINVAL);
  EXPECT_EQ(carried(io(IoOp::write, 0, 512), kWrite, 0, 0), EINVAL);
  EXPECT_EQ(carried(io(IoOp::write, 0, 512), kRead, 512, 512), EINVAL);
  EXPECT_EQ(carried(io(IoOp::write_zeroes, 0, 8192), kWrite, 512, 0), EOPNOTSUPP)
      << "an old kernel's WRITE SAME";
  EXPECT_EQ(seen(), "");
}

TEST_F(IoHandlerCases, S43_UnknownOperationsAreNotSupported) {
  open();
  for (const std::uint32_t op : {6U, 7U, 255U}) {
    wire::layout::Io message = wire::encode(io(IoOp::read, 0, 512));
    message.rw = op;
    EXPECT_EQ(bench.finish(bench.start(bench.send(*session, 0, kRead, text_of(message), 512, 512)))
                  .errno_,
              EOPNOTSUPP);
  }
}

TEST_F(IoHandlerCases, C33_ChecksTheRange) {
  open();
  EXPECT_EQ(run(IoOp::read, 2047, 512), 0);
  EXPECT_EQ(run(IoOp::read, 2047, 1024), EIO);
  EXPECT_EQ(run(IoOp::write, 2048, 512), EIO);
  EXPECT_EQ(run(IoOp::write, std::uint64_t{1} << 56, 512), EIO);
  EXPECT_EQ(run(IoOp::read, 0, 100), EINVAL);
  disk->resize(2 << 20);
  EXPECT_EQ(run(IoOp::read, 2048, 512), 0) << "a device that has grown is as large as it is";
}

TEST_F(IoHandlerTest, K24_LengthsOfOperationsWithoutDataAreNotBoundedByTheChunk) {
  auto options = small_disk();
  options.limits.size = std::uint64_t{8} << 20;
  options.limits.max_discard = options.limits.max_write_zeroes = std::uint64_t{8} << 20;
  open(options);
  EXPECT_EQ(run(IoOp::discard, 0, 8 << 20), 0);
  EXPECT_EQ(run(IoOp::write_zeroes, 0, 8 << 20), 0);
  EXPECT_EQ(run(IoOp::write_zeroes, 0, 0xfffffe00), EIO);
  EXPECT_EQ(run(IoOp::discard, 16384, 0xfffffe00), EIO);
  EXPECT_EQ(run(IoOp::discard, 0, 0), 0);
}

TEST_F(IoHandlerCases, S17_WhatADeviceCannotDoIsNotSupported) {
  auto options = small_disk();
  options.limits.max_discard = options.limits.max_write_zeroes = 0;
  open(options);
  EXPECT_EQ(run(IoOp::discard, 0, 512), EOPNOTSUPP);
  EXPECT_EQ(run(IoOp::write_zeroes, 0, 512), EOPNOTSUPP);
  EXPECT_EQ(run(IoOp::secure_erase, 0, 512), EOPNOTSUPP);
}

TEST_F(IoHandlerCases, S41_S9_AReadOnlyMappingChangesNothing) {
  open(small_disk(), AccessMode::ro);
  for (const IoOp op : {IoOp::write, IoOp::discard, IoOp::write_zeroes, IoOp::secure_erase})
    EXPECT_EQ(run(op, 0, 512), EPERM);
  EXPECT_EQ(run(IoOp::read, 0, 512), 0);
  EXPECT_EQ(run(IoOp::flush, 0, 0), 0);
}

TEST_F(IoHandlerCases, S54_AnEmptyWriteThatAsksForStableStorageIsAFlush) {
  open();
  EXPECT_EQ(run(IoOp::write, 0, 0), 0);
  EXPECT_EQ(run(IoOp::write, wire::kFlushSector, 0), 0);
  EXPECT_EQ(seen(), "");
  EXPECT_EQ(run(IoOp::write, 0, 0, wire::kIoFua), 0);
  EXPECT_EQ(run(IoOp::write, wire::kFlushSector, 0, wire::kIoPreflush), 0);
  EXPECT_EQ(seen(), "flush, flush");
}

TEST_F(IoHandlerTest, StableStorageByFuaOrByFlush) {
  open();
  EXPECT_EQ(run(IoOp::write, 0, 512, wire::kIoFua | wire::kIoSync), 0);
  EXPECT_EQ(run(IoOp::write, 0, 512, wire::kIoFua | wire::kIoPreflush), 0);
  EXPECT_EQ(seen(), "write+fua, flush, write+fua");
}

TEST_F(IoHandlerTest, StableStorageByFlushWhereThereIsNoFua) {
  auto options = small_disk();
  options.limits.fua = false;
  open(options);
  EXPECT_EQ(run(IoOp::write, 0, 512, wire::kIoFua | wire::kIoPreflush), 0);
  EXPECT_EQ(seen(), "flush, write, flush");
}

TEST_F(IoHandlerTest, CutsWhatIsTooLongForTheDevice) {
  auto options = small_disk();
  options.limits.max_transfer = 4096;
  options.limits.max_discard = 8192;
  open(options);
  HandRequest& write = bench.io_message(*session, io(IoOp::write, 2, 10240));
  for (std::size_t i = 0; i < write.chunk.size(); ++i)
    write.chunk[i] = static_cast<std::byte>(i / 512);
  EXPECT_EQ(bench.finish(bench.start(write)).errno_, 0);
  EXPECT_EQ(bench.run(*session, io(IoOp::read, 2, 10240)).chunk, write.chunk);
  EXPECT_EQ(run(IoOp::discard, 2, 10240), 0);
  EXPECT_EQ(seen(), "write, write, write, read, read, read, discard, discard");
}

TEST_F(IoHandlerCases, S18_ErrorsOfTheDeviceReachTheClientAsErrno) {
  open();
  for (const int error : {EIO, ENOSPC, EOPNOTSUPP, EILSEQ, ENODATA, ETIMEDOUT, EBADE}) {
    disk->fail_next(1, error);
    EXPECT_EQ(run(IoOp::write, 0, 512), error);
  }
  disk->fail_next(1, 99999);
  EXPECT_EQ(run(IoOp::read, 0, 512), EIO) << "no such number on the wire";
}

TEST_F(IoHandlerTest, R5_ARequestOfAClosingPathThatWaitedForItsTurnIsNotRun) {
  open();
  disk->hold(true);
  HandRequest& first = bench.start(bench.io_message(*session, io(IoOp::write, 0, 4096)));
  ASSERT_TRUE(bench.world.run_until([&] { return disk->outstanding == 1; }, 1s));
  HandRequest& copy = bench.start(bench.io_message(*session, io(IoOp::write, 0, 4096), 1));
  bench.world.run_for(1ms);
  HandRequest& later = bench.start(bench.io_message(*session, io(IoOp::write, 0, 4096)));
  bench.world.run_for(1ms);
  copy.path_closes = true;
  disk->hold(false);
  EXPECT_EQ(bench.finish(first).errno_, 0);
  EXPECT_EQ(bench.finish(copy).errno_, ECANCELED);
  EXPECT_EQ(bench.finish(later).errno_, 0);  // what waited behind it goes on
  EXPECT_EQ(seen(), "write, write");
}

TEST_F(IoHandlerTest, R5_OfARequestInPiecesTheRestIsNotRunOnceThePathCloses) {
  auto options = small_disk();
  options.limits.max_transfer = 4096;
  open(options);
  HandRequest& request = bench.io_message(*session, io(IoOp::write, 0, 16384));
  expect_stops_after_its_first_step(request);
}

TEST_F(IoHandlerTest, R5_AFlushThatWouldFollowAWriteIsNotRunOnceThePathCloses) {
  auto options = small_disk();
  options.limits.fua = false;
  open(options);
  HandRequest& request = bench.io_message(*session, io(IoOp::write, 0, 4096, wire::kIoFua));
  expect_stops_after_its_first_step(request);
}

TEST_F(IoHandlerTest, R10_AFailedFlushIsNotForgottenUntilForgiven) {
  open();
  disk->fail_next(1, EIO, [](const block::Request& request) { return request.op == Op::flush; });
  EXPECT_EQ(run(IoOp::flush, 0, 0), EIO);
  EXPECT_EQ(run(IoOp::flush, 0, 0), EIO) << "the disk would say yes, and lie";
  EXPECT_EQ(run(IoOp::write, 0, 512, wire::kIoFua), EIO);
  EXPECT_EQ(run(IoOp::write, 0, 512), 0);
  EXPECT_EQ(bench.close(*session, id), 0);
  id = bench.open(*session, "vol");
  EXPECT_EQ(run(IoOp::flush, 0, 0), EIO) << "opening anew does not bring the data back";
  std::optional<std::error_code> forgiven;
  bench.exports->forgive("disk:vol", [&](std::error_code error) { forgiven = error; });
  ASSERT_TRUE(bench.world.run_until([&] { return forgiven.has_value(); }, 1s));
  EXPECT_FALSE(*forgiven);
  EXPECT_EQ(run(IoOp::flush, 0, 0), 0);
}

TEST_F(IoHandlerTest, R10_ARefusedRequestTaintsNothing) {
  open();
  disk->fail_next(1, EINVAL, [](const block::Request& request) { return request.op == Op::flush; });
  EXPECT_EQ(run(IoOp::flush, 0, 0), EINVAL);
  EXPECT_EQ(run(IoOp::flush, 0, 0), 0);
}

// Writers on both loops and both sessions: what is stored is what arrived last, and the disk never
// saw two overlapping requests at once (the bench checks that).
TEST(IoOrder, R3_OverlappingWritesHappenInOrderOfArrival) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    ExportBench bench({}, 3, seed);
    Disk& disk = bench.add_disk("vol");
    HandSession& a = bench.session("a");
    HandSession& b = bench.session("b");
    const std::int64_t id_a = bench.open(a, "vol", AccessMode::rw),
                       id_b = bench.open(b, "vol", AccessMode::migration);
    std::vector<std::byte> expected(32 * 512);
    for (int i = 0; i < 200; ++i) {
      const std::uint64_t sector = bench.world.random().below(24);
      const auto length = static_cast<std::uint32_t>(512 * (1 + bench.world.random().below(8)));
      const bool zero = bench.world.chance(6);
      HandSession& session = bench.world.chance(2) ? a : b;
      HandRequest& request =
          bench.io_message(session,
                           ExportBench::io(&session == &a ? id_a : id_b,
                                           zero ? IoOp::write_zeroes : IoOp::write, sector, length),
                           bench.world.random().below(3));
      const auto value = zero ? std::byte{0} : static_cast<std::byte>(1 + i % 255);
      std::fill(request.chunk.begin(), request.chunk.end(), value);
      std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(sector * 512), length, value);
      bench.start(request);
      bench.world.run_for(1ns +
                          bench.world.some(20us));  // it has arrived before the next one is sent
    }
    ASSERT_TRUE(bench.world.run_until([&] { return disk.outstanding == 0; }, 10s));
    bench.world.run_for(50ms);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), disk.bytes().begin()))
        << "seed " << seed;
  }
}

}  // namespace
}  // namespace rnbd::server
