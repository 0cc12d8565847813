// Volumes that change their size while they are open.

#include <gtest/gtest.h>

#include "rnbd/testing/export_bench.h"

namespace rnbd::server {
namespace {

using testing::Disk;
using testing::ExportBench;
using testing::HandRequest;
using testing::HandSession;
using namespace std::chrono_literals;  // NOLINT: tests

constexpr std::uint64_t kSize = 1 << 20;  // of a small disk

std::uint64_t size_of(ExportBench& bench, HandSession& session, const char* name) {
  HandRequest& request =
      bench.finish(bench.start(bench.open_message(session, name, AccessMode::rw)));
  EXPECT_EQ(request.errno_, 0);
  return wire::parse_open_response(request.reply())->nsectors << wire::kSectorShift;
}

TEST(ExportsSize, GrowthIsNoticedAndToldToThoseWhoHaveTheVolume) {
  ExportBench bench;
  Disk& disk = bench.add_disk("vol");
  bench.add_disk("other");
  HandSession& writer = bench.session("writer");
  HandSession& reader = bench.session("reader");
  HandSession& stranger = bench.session("stranger");
  const auto id = bench.open(writer, "vol");
  ASSERT_GE(bench.open(reader, "vol", AccessMode::ro), 0);
  ASSERT_GE(bench.open(stranger, "other"), 0);
  disk.resize(2 * kSize);
  ASSERT_TRUE(bench.world.run_until([&] { return writer.notices > 0 && reader.notices > 0; }, 2s));
  bench.world.run_for(5s);
  EXPECT_EQ(writer.notices, 1) << "once for each growth";
  EXPECT_EQ(stranger.notices, 0);
  for (const std::size_t loop : {0U, 1U}) {
    const auto last = ExportBench::io(id, wire::IoOp::write, 2 * kSize / 512 - 1, 512);
    EXPECT_EQ(bench.run(writer, last, loop).errno_, 0);
  }
  EXPECT_EQ(size_of(bench, writer, "vol"), 2 * kSize);
}

TEST(ExportsSize, WithoutAnyVolumeOpenNothingIsLookedAt) {
  ExportBench bench;
  bench.add_disk("vol");
  HandSession& session = bench.session("s");
  bench.world.run_for(10s);
  EXPECT_EQ(bench.opener.looks, 0);
  const auto id = bench.open(session, "vol");
  bench.world.run_for(10s);
  EXPECT_GE(bench.opener.looks, 9);
  EXPECT_LE(bench.opener.looks, 11);
  bench.close(session, id);
  bench.world.run_for(2s);
  const int looks = bench.opener.looks;
  bench.world.run_for(10s);
  EXPECT_EQ(bench.opener.looks, looks);
  ASSERT_GE(bench.open(session, "vol"), 0);
  bench.world.run_for(3s);
  EXPECT_GT(bench.opener.looks, looks);
}

TEST(ExportsSize, AnAdministratorNeedNotWait) {
  ExportBench bench;
  Disk& disk = bench.add_disk("vol");
  HandSession& session = bench.session("s");
  bool looked = false;
  bench.exports->look_at_sizes([&] { looked = true; });
  ASSERT_TRUE(bench.world.run_until([&] { return looked; }, 1s)) << "with nothing open";
  ASSERT_GE(bench.open(session, "vol"), 0);
  disk.resize(2 * kSize);
  looked = false;
  bench.exports->look_at_sizes([&] { looked = true; });
  ASSERT_TRUE(bench.world.run_until([&] { return looked; }, 100ms));
  EXPECT_EQ(session.notices, 1);
}

TEST(ExportsSize, WhoOpensAgainGetsTheRealSizeAtOnce) {
  ExportBench bench;
  Disk& disk = bench.add_disk("vol");
  HandSession& session = bench.session("s");
  const auto id = bench.open(session, "vol");
  disk.resize(3 * kSize);
  EXPECT_EQ(size_of(bench, session, "vol"), 3 * kSize);
  EXPECT_EQ(bench.open(session, "vol"), id);
}

TEST(ExportsSize, AVolumeClosedWhileItsSizeIsAskedForIsOpenedAnew) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    ExportBench bench({}, 2, seed);
    bench.add_disk("vol");
    HandSession& session = bench.session("s");
    const auto id = bench.open(session, "vol");
    HandRequest& again = bench.start(bench.open_message(session, "vol", AccessMode::rw, 1));
    if (seed % 2 == 0) bench.world.run_for(bench.world.some(100us));
    HandRequest& close = bench.start_close(session, id);
    EXPECT_EQ(bench.finish(close).errno_, 0);
    // EPERM: the volume was not given back yet.
    const int error = bench.finish(again).errno_;
    EXPECT_TRUE(error == 0 || error == EPERM) << error;
  }
}

TEST(ExportsSize, AVolumeThatShrinksIsToldOfAndFailsBeyondItsEnd) {
  ExportBench bench;
  Disk& disk = bench.add_disk("vol");
  HandSession& session = bench.session("s");
  const auto id = bench.open(session, "vol");
  disk.resize(kSize / 2);
  ASSERT_TRUE(bench.world.run_until([&] { return session.notices > 0; }, 2s));
  bench.world.run_for(1ms);
  for (const std::size_t loop : {0U, 1U}) {
    for (const auto op : {wire::IoOp::read, wire::IoOp::write}) {
      EXPECT_EQ(bench.run(session, ExportBench::io(id, op, kSize / 1024, 512), loop).errno_, EIO);
      EXPECT_EQ(bench.run(session, ExportBench::io(id, op, kSize / 1024 - 1, 512), loop).errno_, 0);
    }
  }
}

TEST(Exports, WhoseVolumeIsTakenAwayIsTold) {
  ExportBench bench;
  bench.add_disk("vol");
  HandSession& session = bench.session("s");
  const auto id = bench.open(session, "vol");
  std::optional<std::error_code> closed;
  bench.exports->force_close(session.id(), static_cast<std::uint32_t>(id),
                             [&](std::error_code error) { closed = error; });
  ASSERT_TRUE(bench.world.run_until([&] { return closed.has_value(); }, 1s));
  EXPECT_EQ(session.notices, 1);
}

TEST(Exports, R10_AFailedFlushIsForgivenByAnyNameOfTheVolume) {
  for (const char* name : {"disk:vol", "vol", "/dev/vol", "other"}) {
    for (const bool open : {true, false}) {
      ExportBench bench;
      Disk& disk = bench.add_disk("vol");
      HandSession& session = bench.session("s");
      auto id = bench.open(session, "vol");
      disk.fail_next(1, EIO, [](const block::Request& r) { return r.op == block::Op::flush; });
      const auto flush = [&] {
        return bench.run(session, ExportBench::io(id, wire::IoOp::flush, 0, 0)).errno_;
      };
      EXPECT_EQ(flush(), EIO);
      EXPECT_EQ(flush(), EIO);
      std::vector<OpenInfo> all;
      bench.exports->list([&](auto infos) { all = infos; });
      ASSERT_TRUE(bench.world.run_until([&] { return !all.empty(); }, 1s));
      EXPECT_TRUE(all[0].flush_failed);
      if (!open) bench.close(session, id);
      std::optional<std::error_code> forgiven;
      bench.exports->forgive(name, [&](std::error_code error) { forgiven = error; });
      ASSERT_TRUE(bench.world.run_until([&] { return forgiven.has_value(); }, 1s));
      if (!open) id = bench.open(session, "vol");
      const bool known = std::string_view(name) != "other";
      EXPECT_EQ(*forgiven, known ? std::error_code{} : from_errno(ENOENT)) << name;
      EXPECT_EQ(flush(), known ? 0 : EIO) << name;
      EXPECT_EQ(disk.forgiven, known && open ? 1 : 0);
    }
  }
}

}  // namespace
}  // namespace rnbd::server
