// What needs no ublk driver: parameters, requests, who holds a tag, words. The rest runs where the
// driver is, see tests/vm.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "frontend/ublk/failure.h"
#include "frontend/ublk/io_request.h"
#include "frontend/ublk/params.h"
#include "frontend/ublk/tag_state.h"
#include "frontend/ublk/ublk_device.h"
#include "frontend/ublk/ublk_list.h"

namespace rnbd::ublk {
namespace {

block::Limits disk() {
  block::Limits limits;
  limits.size = 1 << 30;
  limits.logical_block_size = 512;
  limits.physical_block_size = 4096;
  limits.max_discard = 1ULL << 40;
  limits.discard_granularity = 65536;
  limits.discard_alignment = 4096;
  limits.max_write_zeroes = 4096 * 1000;
  return limits;
}

TEST(UblkParams, SayWhatTheDeviceIs) {
  block::Limits limits = disk();
  limits.volatile_cache = limits.fua = true;
  const auto params = device_params(limits, 126976);
  ASSERT_TRUE(params) << params.error().what;
  EXPECT_EQ(params->len, sizeof(ublk_params));
  EXPECT_EQ(params->types, abi::kParamBasic | abi::kParamDiscard);
  EXPECT_EQ(params->basic.attrs, abi::kAttrVolatileCache | abi::kAttrFua);
  EXPECT_EQ(params->basic.logical_bs_shift, 9);
  EXPECT_EQ(params->basic.physical_bs_shift, 12);
  EXPECT_EQ(params->basic.io_min_shift, 12);
  EXPECT_EQ(params->basic.io_opt_shift, 12);
  EXPECT_EQ(params->basic.max_sectors, 248U);
  EXPECT_EQ(params->basic.dev_sectors, 1U << 21);
  EXPECT_EQ(params->basic.chunk_sectors, 0U);
  EXPECT_EQ(params->basic.virt_boundary_mask, 0U);
  EXPECT_EQ(params->discard.discard_granularity, 65536U);
  EXPECT_EQ(params->discard.discard_alignment, 4096U);
  EXPECT_EQ(params->discard.max_discard_segments, 1);
  EXPECT_EQ(params->discard.max_write_zeroes_sectors, 8000U);
}

TEST(UblkParams, NeverAskForMoreThanTheDriverCounts) {
  const auto params = device_params(disk(), 4096);
  ASSERT_TRUE(params);
  // 2^40 bytes are 2^31 sectors and fit; 2^50 do not, and stay a multiple of the granularity.
  EXPECT_EQ(params->discard.max_discard_sectors, 1U << 31);
  block::Limits limits = disk();
  limits.max_discard = limits.max_write_zeroes = 1ULL << 50;
  const auto huge = device_params(limits, 4096);
  ASSERT_TRUE(huge);
  EXPECT_EQ(huge->discard.max_discard_sectors,
            std::numeric_limits<std::uint32_t>::max() / 128 * 128);
  EXPECT_EQ(huge->discard.max_write_zeroes_sectors, std::numeric_limits<std::uint32_t>::max());
}

TEST(UblkParams, OfferNoFuaWithoutACacheAndNoDiscardWithoutSupport) {
  block::Limits limits = disk();
  limits.fua = true;
  limits.max_discard = limits.max_write_zeroes = 0;
  const auto params = device_params(limits, 4096);
  ASSERT_TRUE(params);
  EXPECT_EQ(params->basic.attrs, 0U);
  EXPECT_EQ(params->types, abi::kParamBasic);
}

TEST(UblkParams, OfferWriteZeroesAloneWithTheGranularityTheDriverWants) {
  block::Limits limits = disk();
  limits.max_discard = 0;
  limits.discard_granularity = 0;
  const auto params = device_params(limits, 4096);
  ASSERT_TRUE(params);
  EXPECT_EQ(params->types, abi::kParamBasic | abi::kParamDiscard);
  EXPECT_EQ(params->discard.max_discard_sectors, 0U);
  EXPECT_EQ(params->discard.discard_granularity, 512U);
  EXPECT_EQ(params->discard.max_write_zeroes_sectors, 8000U);
}

TEST(UblkParams, OfAReadOnlyDeviceOfferNothingThatWrites) {
  block::Limits limits = disk();
  limits.read_only = true;
  const auto params = device_params(limits, 4096);
  ASSERT_TRUE(params);
  EXPECT_EQ(params->basic.attrs, abi::kAttrReadOnly);
  EXPECT_EQ(params->types, abi::kParamBasic);
}

TEST(UblkParams, RefuseInWordsWhatTheDriverCannotBe) {
  block::Limits limits = disk();
  limits.logical_block_size = limits.physical_block_size = 65536;
  const auto blocks = device_params(limits, 65536);
  ASSERT_FALSE(blocks);
  EXPECT_NE(blocks.error().what.find("65536 bytes are larger than a page"), std::string::npos);
  limits = disk();
  limits.max_transfer = 2048;
  EXPECT_EQ(io_buffer_bytes(limits, 1 << 19), 0U);
  const auto transfer = device_params(limits, 0);
  ASSERT_FALSE(transfer);
  EXPECT_NE(transfer.error().what.find("2048 bytes at once"), std::string::npos);
}

TEST(UblkParams, TakeWholePagesOfWhatTheDeviceTakes) {
  block::Limits limits = disk();
  EXPECT_EQ(io_buffer_bytes(limits, 1 << 19), 1U << 19);  // no limit of its own
  limits.max_transfer = 126976;
  EXPECT_EQ(io_buffer_bytes(limits, 1 << 19), 126976U);
  limits.max_transfer = 127488;
  EXPECT_EQ(io_buffer_bytes(limits, 1 << 19), 126976U);
  EXPECT_EQ(io_buffer_bytes(limits, 1), 4096U);
}

TEST(UblkParams, TellWhyARunningDeviceIsNotThisOne) {
  block::Limits limits = disk();
  auto running = device_params(limits, 131072);
  ASSERT_TRUE(running);
  EXPECT_EQ(mismatch(*running, limits), "");
  limits.size *= 2;
  EXPECT_EQ(mismatch(*running, limits), "");
  limits.max_transfer = 65536;
  EXPECT_EQ(mismatch(*running, limits), "it takes 65536 bytes at once, took 131072");
  limits = disk();
  limits.logical_block_size = 4096;
  EXPECT_EQ(mismatch(*running, limits), "its blocks are 4096 bytes, were 512");
  limits = disk();
  limits.read_only = true;
  EXPECT_EQ(mismatch(*running, limits), "it is read-only now");
  limits = disk();
  limits.volatile_cache = true;
  EXPECT_NE(mismatch(*running, limits), "");
}

struct Told {
  std::error_code error;
  block::Request request;
};
void tell(Told& told, std::uint32_t op_flags, std::uint32_t sectors, std::uint64_t start) {
  ublksrv_io_desc io{};
  io.op_flags = op_flags;
  io.nr_sectors = sectors;
  io.start_sector = start;
  told.request.flags = 0xff;  // left over from the tag's last request
  told.error = translate(io, 65536, told.request);
}

TEST(UblkRequest, BecomesABlockRequest) {
  Told t;
  tell(t, UBLK_IO_OP_READ, 8, 1ULL << 33);
  EXPECT_FALSE(t.error);
  EXPECT_EQ(t.request.op, block::Op::read);
  EXPECT_EQ(t.request.offset, 1ULL << 42);
  EXPECT_EQ(t.request.length, 4096U);
  EXPECT_EQ(t.request.flags, block::kNoFlags);
  tell(t, UBLK_IO_OP_WRITE, 128, 1);
  EXPECT_FALSE(t.error);
  EXPECT_EQ(t.request.op, block::Op::write);
  EXPECT_EQ(t.request.length, 65536U);
  EXPECT_EQ(t.request.flags, block::kNoFlags);
  tell(t, UBLK_IO_OP_WRITE | UBLK_IO_F_FUA | UBLK_IO_F_META, 1, 1);
  EXPECT_EQ(t.request.flags, block::kFua);
  tell(t, UBLK_IO_OP_FLUSH, 0, 0xffffffffff);
  EXPECT_EQ(t.request.op, block::Op::flush);
  EXPECT_EQ(t.request.offset, 0U);
  EXPECT_EQ(t.request.length, 0U);
  tell(t, UBLK_IO_OP_DISCARD, 0xffffffff, 8);
  EXPECT_FALSE(t.error);
  EXPECT_EQ(t.request.op, block::Op::discard);
  EXPECT_EQ(t.request.length, 0xffffffffULL << 9);
  tell(t, UBLK_IO_OP_WRITE_ZEROES | UBLK_IO_F_NOUNMAP | UBLK_IO_F_FUA, 8, 8);
  EXPECT_EQ(t.request.op, block::Op::write_zeroes);
  EXPECT_EQ(t.request.flags, block::kNoUnmap | block::kFua);
}

TEST(UblkRequest, IsRefusedWhenItIsUnknownOrLongerThanItsBuffer) {
  Told t;
  tell(t, UBLK_IO_OP_WRITE_SAME, 8, 8);
  EXPECT_EQ(t.error, from_errno(EOPNOTSUPP));
  tell(t, 77, 8, 8);
  EXPECT_EQ(t.error, from_errno(EOPNOTSUPP));
  tell(t, UBLK_IO_OP_READ, 129, 0);
  EXPECT_EQ(t.error, from_errno(EIO));
  tell(t, UBLK_IO_OP_WRITE, 0xffffffff, 0);
  EXPECT_EQ(t.error, from_errno(EIO));
}

TEST(UblkRequest, CommitsBytesMovedOrAnErrno) {
  block::Request request;
  request.op = block::Op::read;
  request.length = 65536;
  EXPECT_EQ(commit_value(request), 65536);
  request.op = block::Op::discard;
  EXPECT_EQ(commit_value(request), 0);
  request.result = from_errno(ENOSPC);
  EXPECT_EQ(commit_value(request), -ENOSPC);
  request.result = make_error_code(Errc::device_failed);
  EXPECT_EQ(commit_value(request), -EIO);
}

TEST(UblkTag, GoesRoundBetweenKernelAndBackend) {
  TagState tag;
  tag.started();
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(tag.fetched(Mode::serving, false), Step::submit);
    EXPECT_FALSE(tag.at_kernel());
    EXPECT_TRUE(tag.at_backend());
    EXPECT_EQ(tag.finished(Mode::serving), Step::commit_result);
    EXPECT_TRUE(tag.at_kernel());
    EXPECT_FALSE(tag.at_backend());
  }
  EXPECT_EQ(tag.fetched(Mode::serving, true), Step::nothing);
  EXPECT_FALSE(tag.at_kernel());
}

TEST(UblkTag, IsAnsweredOnceWhenTheBackendIsGivenUp) {
  TagState tag;
  tag.started();
  EXPECT_EQ(tag.fetched(Mode::serving, false), Step::submit);
  EXPECT_EQ(tag.gave_up(), Step::commit_error);
  EXPECT_TRUE(tag.at_kernel());
  EXPECT_TRUE(tag.at_backend());  // so its buffer is not the driver's to use
  EXPECT_EQ(tag.gave_up(), Step::nothing);
  EXPECT_EQ(tag.fetched(Mode::failing, false), Step::commit_error);  // the next request
  EXPECT_TRUE(tag.at_backend());
  EXPECT_EQ(tag.finished(Mode::failing), Step::nothing);
  EXPECT_TRUE(tag.at_kernel());
  EXPECT_FALSE(tag.at_backend());
  EXPECT_EQ(tag.fetched(Mode::failing, true), Step::nothing);
  EXPECT_FALSE(tag.at_kernel());
}

TEST(UblkTag, GivenUpAndAbortedIsNotAnsweredWhenTheBackendComesBackLate) {
  TagState tag;
  tag.started();
  EXPECT_EQ(tag.fetched(Mode::serving, false), Step::submit);
  EXPECT_EQ(tag.gave_up(), Step::commit_error);
  EXPECT_EQ(tag.fetched(Mode::failing, true), Step::nothing);
  EXPECT_EQ(tag.finished(Mode::failing), Step::nothing);
  EXPECT_FALSE(tag.at_kernel());
  EXPECT_FALSE(tag.at_backend());
}

TEST(UblkTag, LeftToASuccessorIsNeverAnswered) {
  TagState tag;
  tag.started();
  EXPECT_EQ(tag.fetched(Mode::serving, false), Step::submit);
  EXPECT_EQ(tag.finished(Mode::leaving), Step::nothing);
  EXPECT_FALSE(tag.at_kernel());
  TagState idle;
  idle.started();
  EXPECT_EQ(idle.fetched(Mode::leaving, false), Step::nothing);
  EXPECT_FALSE(idle.at_kernel());
}

TEST(UblkFailure, NamesTheCauseAndTheNextStep) {
  const Failure missing = failure("add a ublk device", from_errno(ENOENT));
  EXPECT_EQ(missing.what, "cannot add a ublk device: the ublk driver is not loaded");
  EXPECT_EQ(missing.hint, "modprobe ublk_drv");
  EXPECT_EQ(failure("x", from_errno(EBUSY)).what, "cannot x: the device is in use");
  EXPECT_EQ(failure("x", from_errno(EMLINK)).what, "cannot x: Too many links");
  EXPECT_EQ(failure("x", make_error_code(Errc::device_failed)).error,
            make_error_code(Errc::device_failed));
}

TEST(UblkDriver, ThatIsNotThereIsSaidToBeMissing) {
  if (::access("/dev/ublk-control", F_OK) == 0) GTEST_SKIP() << "the driver is here";
  EXPECT_EQ(driver_usable(), from_errno(ENOENT));
  EXPECT_EQ(list_devices().error(), from_errno(ENOENT));
  EXPECT_EQ(discard_device(0, 1, std::chrono::seconds(1)), from_errno(ENOENT));
}

}  // namespace
}  // namespace rnbd::ublk
