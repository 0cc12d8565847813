#include "block/split_request.h"

#include <gtest/gtest.h>

#include <deque>
#include <string>
#include <vector>

namespace rnbd::block {
namespace {

// Keeps what it is given until told to finish it.
class HeldQueue : public Queue {
 public:
  void submit(Request& request) override {
    held.push_back(&request);
    seen.push_back(std::string(op_name(request.op)) + " " + std::to_string(request.offset) + "+" +
                   std::to_string(request.length) + ((request.flags & kFua) != 0 ? " fua" : ""));
    if (!request.segments.empty()) bases.push_back(request.segments[0].iov_base);
  }
  void finish(std::error_code result = {}) {
    Request* request = held.front();
    held.pop_front();
    request->result = result;
    request->done(*request);
  }
  std::deque<Request*> held;
  std::vector<std::string> seen;
  std::vector<void*> bases;
};

struct Counted : SplitRequest {
  int done = 0;
  static void on_done(SplitRequest& request) { ++static_cast<Counted&>(request).done; }
};

Limits small_pieces() {
  Limits limits;
  limits.size = 1 << 20;
  limits.max_transfer = 4096;
  limits.max_discard = 65536 + 100;  // not whole blocks: rounded down
  return limits;
}

TEST(SplitRequest, SendsWhatFitsAsOneRequest) {
  HeldQueue queue;
  Counted request;
  std::byte data[4096];
  request.start(queue, small_pieces(), {.offset = 512, .length = 4096, .data = data},
                &Counted::on_done);
  EXPECT_EQ(queue.seen, std::vector<std::string>{"read 512+4096"});
  EXPECT_EQ(request.done, 0);
  queue.finish();
  EXPECT_EQ(request.done, 1);
  EXPECT_FALSE(request.result());
}

TEST(SplitRequest, SplitsByTheLimitWithFourPiecesUnderWayAndEveryByteOnce) {
  HeldQueue queue;
  Counted request;
  std::vector<std::byte> data(6 * 4096 - 512);
  request.start(queue, small_pieces(),
                {.op = Op::write, .length = data.size(), .data = data.data()}, &Counted::on_done);
  EXPECT_EQ(queue.held.size(), 4U);
  while (!queue.held.empty()) queue.finish();
  EXPECT_EQ(request.done, 1);
  ASSERT_EQ(queue.seen.size(), 6U);
  EXPECT_EQ(queue.seen.back(), "write 20480+3584");
  EXPECT_EQ(queue.bases.back(), data.data() + 20480);
}

TEST(SplitRequest, AnErrorStopsFurtherPiecesAndIsReportedWhenAllCameBack) {
  HeldQueue queue;
  Counted request;
  std::vector<std::byte> data(8 * 4096);
  request.start(queue, small_pieces(), {.length = data.size(), .data = data.data()},
                &Counted::on_done);
  queue.finish(from_errno(EIO));
  queue.finish(from_errno(ENOSPC));
  queue.finish();
  EXPECT_EQ(request.done, 0);
  queue.finish();
  EXPECT_EQ(request.done, 1);
  EXPECT_EQ(queue.seen.size(), 4U);
  EXPECT_EQ(request.result(), from_errno(EIO));
}

TEST(SplitRequest, RoundsDiscardPiecesDownToWholeBlocks) {
  HeldQueue queue;
  Counted request;
  request.start(queue, small_pieces(), {.op = Op::discard, .length = 131072}, &Counted::on_done);
  EXPECT_EQ(queue.seen[0], "discard 0+65536");
}

TEST(SplitRequest, PassesFuaToADeviceThatHasIt) {
  HeldQueue queue;
  Counted request;
  Limits limits = small_pieces();
  limits.volatile_cache = limits.fua = true;
  std::byte data[512];
  request.start(queue, limits, {.op = Op::write, .flags = kFua, .length = 512, .data = data},
                &Counted::on_done);
  queue.finish();
  EXPECT_EQ(queue.seen, std::vector<std::string>{"write 0+512 fua"});
  EXPECT_EQ(request.done, 1);
}

TEST(SplitRequest, FlushesAfterAFuaWriteToADeviceWithoutFua) {
  HeldQueue queue;
  Counted request;
  Limits limits = small_pieces();
  limits.volatile_cache = true;
  std::byte data[512];
  request.start(queue, limits, {.op = Op::write, .flags = kFua, .length = 512, .data = data},
                &Counted::on_done);
  queue.finish();
  EXPECT_EQ(request.done, 0);
  queue.finish(from_errno(EIO));
  EXPECT_EQ(request.done, 1);
  EXPECT_EQ(request.result(), from_errno(EIO));
  EXPECT_EQ(queue.seen, (std::vector<std::string>{"write 0+512", "flush 0+0"}));
}

TEST(SplitRequest, NeedsNoFlushWithoutAVolatileCache) {
  HeldQueue queue;
  Counted request;
  std::byte data[512];
  request.start(queue, small_pieces(),
                {.op = Op::write, .flags = kFua, .length = 512, .data = data}, &Counted::on_done);
  queue.finish();
  EXPECT_EQ(request.done, 1);
  EXPECT_EQ(queue.seen, std::vector<std::string>{"write 0+512"});
}

TEST(SplitRequest, IsReusableFromItsOwnCompletion) {
  HeldQueue queue;
  Counted request;
  request.start(queue, small_pieces(), {.op = Op::flush}, &Counted::on_done);
  queue.finish();
  request.start(queue, small_pieces(), {.op = Op::discard, .length = 512}, &Counted::on_done);
  queue.finish();
  EXPECT_EQ(request.done, 2);
}

}  // namespace
}  // namespace rnbd::block
