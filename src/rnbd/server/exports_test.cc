#include "rnbd/server/exports.h"

#include <gtest/gtest.h>

#include "rnbd/testing/export_bench.h"

namespace rnbd::server {
namespace {

using testing::Disk;
using testing::ExportBench;
using testing::HandRequest;
using testing::HandSession;
using testing::text_of;
using namespace std::chrono_literals;  // NOLINT: tests

constexpr auto kRead = rtrs::Direction::read;
constexpr auto kWrite = rtrs::Direction::write;

TEST(ExportsCases, C18_AnswersSessionInfoWithTheSmallerVersion) {
  ExportBench bench;
  HandSession& session = bench.session("s");
  for (const auto& [theirs, answer] : {std::pair{1, 1}, {2, 2}, {9, 2}}) {
    const auto text = text_of(wire::encode(wire::SessionInfo{static_cast<std::uint8_t>(theirs)}));
    HandRequest& request = bench.finish(bench.start(bench.send(session, 0, kRead, text, 36, 36)));
    ASSERT_EQ(request.errno_, 0);
    EXPECT_EQ(request.reply()[0], std::byte{1});
    EXPECT_EQ(request.reply()[4], static_cast<std::byte>(answer));
    EXPECT_FALSE(request.reply_is_stale());
  }
}

TEST(Exports, OpensADeviceAndDescribesIt) {
  ExportBench bench;
  bench.add_disk("vol");
  HandSession& session = bench.session("blya");
  HandRequest& request =
      bench.finish(bench.start(bench.open_message(session, "/vol", AccessMode::rw)));
  ASSERT_EQ(request.errno_, 0);
  const auto response = wire::parse_open_response(request.reply());
  ASSERT_TRUE(response);
  EXPECT_EQ(response->device_id, 0U);
  EXPECT_EQ(response->nsectors, 2048U);
  EXPECT_EQ(response->max_hw_sectors, ExportBench::kMaxIo / 512);
  EXPECT_EQ(response->cache_policy, 3);
  EXPECT_EQ(bench.opener.last_session, "blya");
}

TEST(Exports, K22_DefinesEveryByteOfAnAnswer) {
  ExportBench bench;
  bench.add_disk("vol");
  HandSession& session = bench.session("s");
  const auto text = text_of(wire::encode(wire::Open{wire::AccessMode::rw, "vol"}));
  HandRequest& request = bench.finish(bench.start(bench.send(session, 0, kRead, text, 4096, 4096)));
  ASSERT_EQ(request.errno_, 0);
  EXPECT_FALSE(request.reply_is_stale());
  const auto info = text_of(wire::encode(wire::SessionInfo{}));
  EXPECT_FALSE(
      bench.finish(bench.start(bench.send(session, 0, kRead, info, 4096, 4096))).reply_is_stale());
}

TEST(ExportsCases, C36_S44_S45_RefusesMessagesThatAreNoneOrLeaveNoRoomForTheAnswer) {
  ExportBench bench;
  bench.add_disk("vol");
  HandSession& session = bench.session("s");
  const auto open = text_of(wire::encode(wire::Open{wire::AccessMode::rw, "vol"}));
  const auto info = text_of(wire::encode(wire::SessionInfo{}));
  const auto close = text_of(wire::encode(wire::Close{0}));
  const auto cut = [](std::vector<std::byte> text, std::size_t size) {
    text.resize(size);
    return text;
  };
  const auto typed = [&](std::byte type) {
    auto text = info;
    text[0] = type;
    return text;
  };
  auto bad_mode = open;
  bad_mode[4] = std::byte{3};
  auto unterminated = open;
  std::fill(unterminated.begin() + 6, unterminated.end(), std::byte{'x'});
  auto empty_name = open;
  empty_name[6] = std::byte{0};
  struct Case {
    std::vector<std::byte> text;
    rtrs::Direction way;
    std::size_t data, reply;
  };
  const Case cases[] = {
      {{}, kRead, 0, 0},
      {cut(info, 3), kRead, 36, 36},
      {cut(info, 35), kRead, 36, 36},
      {info, kRead, 35, 35},
      {info, kRead, 36, 37},  // wants back more than there is room for
      {info, kWrite, 36, 0},
      {typed(std::byte{1}), kRead, 36, 36},
      {typed(std::byte{3}), kRead, 56, 56},
      {typed(std::byte{9}), kRead, 56, 56},
      {cut(open, 263), kRead, 56, 56},
      {open, kRead, 55, 55},
      {open, kRead, 0, 0},
      {open, kRead, 56, 4096},
      {open, kWrite, 56, 0},
      {bad_mode, kRead, 56, 56},
      {unterminated, kRead, 56, 56},
      {empty_name, kRead, 56, 56},
      {cut(close, 7), kWrite, 0, 0},
      {close, kRead, 512, 512},  // would send what lies in the chunk
      {cut(text_of(wire::encode(ExportBench::io(0, wire::IoOp::read, 0, 512))), 23), kRead, 512,
       512},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(
        bench.finish(bench.start(bench.send(session, 0, c.way, c.text, c.data, c.reply))).errno_,
        EINVAL)
        << "case " << &c - cases;
  }
  EXPECT_EQ(bench.opener.opens, 0);
}

TEST(ExportsCases, S03_PassesTheErrorOfTheOpenerOn) {
  ExportBench bench;
  bench.add_disk("vol");
  HandSession& session = bench.session("s");
  EXPECT_EQ(bench.open(session, "other"), -ENOENT);
  for (const int error : {EACCES, ENOTBLK, EINVAL, EBUSY, ENOMEDIUM}) {
    bench.opener.fail_opens(error);
    EXPECT_EQ(bench.open(session, "vol"), -error);
  }
  bench.opener.fail_opens(0);
  EXPECT_GE(bench.open(session, "vol"), 0);
}

TEST(ExportsCases, C22_TheSameNameInASessionIsTheSameDeviceWhateverTheMode) {
  ExportBench bench;
  Disk& disk = bench.add_disk("vol");
  HandSession& session = bench.session("s");
  const auto id = bench.open(session, "vol");
  disk.resize(2 << 20);
  HandRequest& again =
      bench.finish(bench.start(bench.open_message(session, "vol", AccessMode::ro)));
  ASSERT_EQ(again.errno_, 0);
  EXPECT_EQ(wire::parse_open_response(again.reply())->device_id, id);
  EXPECT_EQ(wire::parse_open_response(again.reply())->nsectors, 4096U) << "the geometry is current";
  EXPECT_EQ(bench.opener.opens, 1);
  EXPECT_EQ(bench.run(session, ExportBench::io(id, wire::IoOp::write, 4095, 512)).errno_, 0)
      << "still rw, and grown";
}

TEST(Exports, TwoOpensOfOneNameAtOnceAreOne) {
  ExportBench bench;
  bench.add_disk("vol");
  HandSession& session = bench.session("s");
  HandRequest& first = bench.start(bench.open_message(session, "vol", AccessMode::rw, 0));
  HandRequest& second = bench.start(bench.open_message(session, "vol", AccessMode::rw, 1));
  bench.finish(first);
  bench.finish(second);
  EXPECT_EQ(first.errno_, 0);
  EXPECT_EQ(second.errno_, 0);
  EXPECT_EQ(wire::parse_open_response(first.reply())->device_id,
            wire::parse_open_response(second.reply())->device_id);
  EXPECT_EQ(bench.opener.opens, 1);
}

TEST(ExportsCases, S23_TwoSpellingsOfOneDeviceInASessionAreRefused) {
  ExportBench bench;
  bench.add_disk("vol");
  HandSession& session = bench.session("s");
  EXPECT_GE(bench.open(session, "vol", AccessMode::ro), 0);
  EXPECT_EQ(bench.open(session, "/vol", AccessMode::ro), -EEXIST);
  EXPECT_EQ(bench.opener.open_devices, 1);
}

TEST(Exports, I4_ArbitratesAcrossSessionsByIdentity) {
  ExportBench bench;
  bench.add_disk("vol");
  HandSession& a = bench.session("a");
  HandSession& b = bench.session("b");
  HandSession& c = bench.session("c");
  const auto id = bench.open(a, "vol", AccessMode::rw);
  ASSERT_GE(id, 0);
  EXPECT_EQ(bench.open(b, "/vol", AccessMode::rw), -EPERM);
  const auto moving = bench.open(b, "vol", AccessMode::migration);
  EXPECT_GE(moving, 0);
  EXPECT_EQ(bench.open(c, "vol", AccessMode::migration), -EPERM);
  EXPECT_GE(bench.open(c, "vol", AccessMode::ro), 0);
  EXPECT_EQ(bench.close(a, id), 0);
  EXPECT_EQ(bench.open(a, "vol", AccessMode::rw), -EPERM) << "the migrating writer is there";
  EXPECT_EQ(bench.close(b, moving), 0);
  EXPECT_GE(bench.open(a, "vol", AccessMode::rw), 0);
}

TEST(Exports, S9_OpensReadOnlyDevicesReadOnly) {
  ExportBench bench;
  bench.add_disk("vol");
  HandSession& a = bench.session("a");
  HandSession& b = bench.session("b");
  ASSERT_GE(bench.open(b, "vol", AccessMode::rw), 0);
  const auto id = bench.open(a, "vol", AccessMode::ro);
  EXPECT_EQ(bench.opener.last_mode, AccessMode::ro);
  EXPECT_EQ(bench.opener.open_devices, 2);
  EXPECT_EQ(bench.run(a, ExportBench::io(id, wire::IoOp::write, 0, 512)).errno_, EPERM);
  EXPECT_EQ(bench.run(b, ExportBench::io(0, wire::IoOp::write, 0, 512)).errno_, 0);
}

TEST(Exports, R7_NeverUsesADeviceIdTwiceInASession) {
  ExportBench bench;
  bench.add_disk("a");
  bench.add_disk("b");
  HandSession& session = bench.session("s");
  std::set<std::int64_t> ids;
  for (int i = 0; i < 20; ++i) {
    const auto id = bench.open(session, i % 2 == 0 ? "a" : "b");
    ASSERT_GE(id, 0);
    EXPECT_TRUE(ids.insert(id).second);
    EXPECT_EQ(bench.close(session, id), 0);
    EXPECT_EQ(bench.run(session, ExportBench::io(id, wire::IoOp::read, 0, 512)).errno_, ENOTCONN);
  }
}

TEST(ExportsCases, S36_R7_CloseIsAnsweredWhenEveryLoopIsDone) {
  ExportBench bench;
  Disk& disk = bench.add_disk("vol");
  HandSession& session = bench.session("s");
  const auto id = bench.open(session, "vol");
  disk.hold(true);
  HandRequest& near =
      bench.start(bench.io_message(session, ExportBench::io(id, wire::IoOp::write, 0, 512), 0));
  HandRequest& far =
      bench.start(bench.io_message(session, ExportBench::io(id, wire::IoOp::write, 8, 512), 1));
  bench.world.run_for(1ms);
  HandRequest& close = bench.start_close(session, id);
  HandRequest& twice = bench.start_close(session, id, 1);
  bench.world.run_for(50ms);
  EXPECT_EQ(close.responses + twice.responses, 0) << "writes are still running";
  EXPECT_EQ(bench.run(session, ExportBench::io(id, wire::IoOp::read, 0, 512), 1).errno_, ENOTCONN)
      << "but it is closed";
  disk.hold(false);
  bench.finish(close);
  EXPECT_EQ(near.errno_ + far.errno_, 0);
  EXPECT_EQ(bench.finish(twice).errno_, 0);
  EXPECT_EQ(bench.opener.open_devices, 0);
}

TEST(Exports, R8_AWriterIsRefusedUntilTheLastOnesIoIsGone) {
  ExportBench bench;
  Disk& disk = bench.add_disk("vol");
  HandSession& a = bench.session("a");
  HandSession& b = bench.session("b");
  const auto id = bench.open(a, "vol");
  disk.hold(true);
  HandRequest& write =
      bench.start(bench.io_message(a, ExportBench::io(id, wire::IoOp::write, 0, 512), 1));
  bench.world.run_for(1ms);
  bench.end(a);
  bench.world.run_for(10ms);
  EXPECT_EQ(bench.open(b, "vol"), -EPERM);
  EXPECT_EQ(a.released, 0);
  disk.hold(false);
  bench.finish(write);
  ASSERT_TRUE(bench.world.run_until([&] { return a.released == 1; }, 1s));
  EXPECT_GE(bench.open(b, "vol"), 0);
}

TEST(Exports, ClosesWhatASessionLeavesBehind) {
  ExportBench bench;
  bench.add_disk("a");
  bench.add_disk("b");
  HandSession& session = bench.session("s");
  bench.open(session, "a");
  bench.open(session, "b", AccessMode::ro);
  bench.end(session);
  ASSERT_TRUE(bench.world.run_until([&] { return session.released == 1; }, 1s));
  EXPECT_EQ(bench.opener.open_devices, 0);
}

TEST(ExportsCases, C52_ClosingAnUnknownDeviceSucceeds) {
  ExportBench bench;
  HandSession& session = bench.session("s");
  EXPECT_EQ(bench.close(session, 0), 0);
  EXPECT_EQ(bench.close(session, 0xffffffff), 0);
}

TEST(Exports, S4_BoundsTheDevicesOfASession) {
  ExportBench bench({.max_devices_per_session = 2});
  for (const char* name : {"a", "b", "c"}) bench.add_disk(name);
  HandSession& session = bench.session("s");
  EXPECT_GE(bench.open(session, "a"), 0);
  EXPECT_GE(bench.open(session, "b"), 0);
  EXPECT_EQ(bench.open(session, "c"), -EMFILE);
  EXPECT_GE(bench.open(session, "a"), 0);
}

TEST(Exports, ASlowOpenHoldsUpNothingElse) {
  ExportBench bench;
  bench.add_disk("vol");
  bench.add_disk("slow");
  HandSession& session = bench.session("s");
  const auto id = bench.open(session, "vol");
  bench.opener.hold(true);
  HandRequest& slow = bench.start(bench.open_message(session, "slow", AccessMode::rw));
  bench.world.run_for(5s);
  EXPECT_EQ(slow.responses, 0);
  EXPECT_EQ(bench.run(session, ExportBench::io(id, wire::IoOp::read, 0, 512)).errno_, 0);
  const auto info = text_of(wire::encode(wire::SessionInfo{}));
  EXPECT_EQ(bench.finish(bench.start(bench.send(session, 0, kRead, info, 36, 36))).errno_, 0);
  bench.opener.hold(false);
  EXPECT_EQ(bench.finish(slow).errno_, 0);
}

// ---- R9: what a reboot may have cost ----

ExportsOptions with_identity(std::uint8_t instance, std::uint8_t boot) {
  ExportsOptions options;
  options.identity.instance.fill(instance);
  options.identity.boot.fill(boot);
  return options;
}

// What the answer to OPEN says of a volume that lives so long.
std::uint64_t cache_identity_of(const ExportsOptions& options, CacheLife life,
                                bool volatile_cache = true, bool own = true) {
  ExportBench bench(options);
  auto disk = testing::small_disk();
  disk.cache_life = life;
  disk.limits.volatile_cache = volatile_cache;
  bench.add_disk("vol", disk);
  HandSession& session = bench.session("s");
  session.own = own;
  HandRequest& request =
      bench.finish(bench.start(bench.open_message(session, "vol", AccessMode::rw)));
  EXPECT_EQ(request.errno_, 0);
  return wire::parse_open_response(request.reply())->cache_identity;
}

TEST(Exports, R9_TheCacheIdentityChangesWithWhatTheUnflushedWritesLiveIn) {
  const auto id = [](std::uint8_t instance, std::uint8_t boot, CacheLife life) {
    return cache_identity_of(with_identity(instance, boot), life);
  };
  EXPECT_NE(id(1, 1, CacheLife::host), 0U);
  EXPECT_EQ(id(1, 1, CacheLife::host), id(2, 1, CacheLife::host));  // the page cache is still there
  EXPECT_NE(id(1, 1, CacheLife::host), id(1, 2, CacheLife::host));
  EXPECT_NE(id(1, 1, CacheLife::process), id(2, 1, CacheLife::process));
  EXPECT_EQ(id(1, 1, CacheLife::forever), id(2, 2, CacheLife::forever));
  EXPECT_NE(id(1, 1, CacheLife::forever), 0U);
}

TEST(Exports, R9_ThereIsNoCacheIdentityWithoutACacheOrAnAnnouncementOrForOthersClients) {
  EXPECT_EQ(cache_identity_of(with_identity(1, 1), CacheLife::host, false), 0U);
  EXPECT_NE(cache_identity_of(with_identity(1, 1), CacheLife::process, false), 0U);
  EXPECT_EQ(cache_identity_of({}, CacheLife::host), 0U);
  EXPECT_EQ(cache_identity_of(with_identity(1, 1), CacheLife::host, true, false), 0U);
}

TEST(Exports, R9_AClientFromBeforeARebootIsRefusedAVolumeThatMayHaveLostItsWrites) {
  ExportBench bench;
  bench.add_disk("vol");
  auto safe = testing::small_disk();
  safe.limits.volatile_cache = false;
  bench.add_disk("safe", safe);
  HandSession& session = bench.session("old");
  session.from_before = true;
  EXPECT_EQ(bench.open(session, "vol"), -ENXIO);
  EXPECT_EQ(bench.open(session, "vol", AccessMode::migration), -ENXIO);
  EXPECT_EQ(bench.opener.open_devices, 0);
  EXPECT_GE(bench.open(session, "safe"), 0);
  EXPECT_GE(bench.open(session, "vol", AccessMode::ro), 0);
  HandSession& fresh = bench.session("new");
  EXPECT_GE(bench.open(fresh, "vol"), 0);
}

TEST(Exports, R9_OwnClientsAskThemselvesAndThePolicyMayAllowTheOthers) {
  ExportBench strict;
  strict.add_disk("vol");
  HandSession& own = strict.session("own");
  own.from_before = own.own = true;
  EXPECT_GE(strict.open(own, "vol"), 0);
  ExportsOptions allow;
  allow.refuse_survivors = false;
  ExportBench bench(allow);
  bench.add_disk("vol");
  HandSession& old = bench.session("old");
  old.from_before = true;
  EXPECT_GE(bench.open(old, "vol"), 0);
}

TEST(Exports, ADeviceWithoutAQueueIsNotOpened) {
  ExportBench bench;
  Disk& disk = bench.add_disk("vol");
  HandSession& session = bench.session("s");
  disk.queue_error = EMFILE;
  EXPECT_EQ(bench.open(session, "vol"), -EMFILE);
  EXPECT_EQ(bench.opener.open_devices, 0);
  disk.queue_error = 0;
  EXPECT_GE(bench.open(session, "vol"), 0) << "nothing is left of the attempt";
}

TEST(Exports, K23_ForceCloseRacesCloseInBothOrders) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    ExportBench bench({}, 2, seed);
    bench.add_disk("vol");
    HandSession& session = bench.session("s");
    const auto id = static_cast<std::uint32_t>(bench.open(session, "vol"));
    HandRequest* close = seed % 2 == 0 ? &bench.start_close(session, id) : nullptr;
    if (seed % 4 < 2) bench.world.run_for(bench.world.some(300us));
    std::optional<std::error_code> forced;
    bench.exports->force_close(session.id(), id, [&](std::error_code error) { forced = error; });
    if (close == nullptr) close = &bench.start_close(session, id);
    EXPECT_EQ(bench.finish(*close).errno_, 0);
    ASSERT_TRUE(bench.world.run_until([&] { return forced.has_value(); }, 1s));
    EXPECT_EQ(bench.run(session, ExportBench::io(id, wire::IoOp::read, 0, 512)).errno_, ENOTCONN);
    EXPECT_GT(bench.open(session, "vol"), id) << "a forced id is not given out again";
  }
}

TEST(Exports, ListsWhatIsOpenAndHowMuchItDid) {
  ExportBench bench;
  bench.add_disk("vol");
  HandSession& session = bench.session("blya");
  const auto id = bench.open(session, "/vol", AccessMode::migration);
  for (std::size_t loop : {0U, 1U}) {
    bench.run(session, ExportBench::io(id, wire::IoOp::write, 0, 1024), loop);
    bench.run(session, ExportBench::io(id, wire::IoOp::read, 0, 512), loop);
  }
  bench.run(session, ExportBench::io(id, wire::IoOp::read, 4096, 512));
  std::vector<OpenInfo> all;
  bench.exports->list([&](auto infos) { all = infos; });
  ASSERT_TRUE(bench.world.run_until([&] { return !all.empty(); }, 1s));
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].session, "blya");
  EXPECT_EQ(all[0].name, "/vol");
  EXPECT_EQ(all[0].identity, "disk:vol");
  EXPECT_EQ(all[0].mode, AccessMode::migration);
  EXPECT_EQ(all[0].size, 1U << 20);
  EXPECT_EQ(all[0].writes, 2U);
  EXPECT_EQ(all[0].write_bytes, 2048U);
  EXPECT_EQ(all[0].reads, 2U);
  EXPECT_EQ(all[0].errors, 1U);
}

}  // namespace
}  // namespace rnbd::server
