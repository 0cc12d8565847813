// Receives: each message uses up one, in order, and what happens when there is none or it is too
// small.

#include <cerrno>

#include "fabric/conformance/end.h"

namespace rnbd::fabric::conformance {
namespace {

std::span<const iovec> one(const iovec& part) { return {&part, 1}; }

}  // namespace

TEST_P(Conformance, AReceivePostedLateStillGetsTheMessage) {
  if (harness().receive_grace() == Duration::zero()) GTEST_SKIP() << "this fabric does not wait";
  Pair pair(harness());
  const Bytes bytes = pattern(5000);
  const iovec part = vec(bytes);
  ASSERT_EQ(pair.client().post(send_work(one(part))), std::error_code());
  ASSERT_EQ(pair.client().post(immediate_work(9)), std::error_code());
  settle();
  EXPECT_EQ(pair.server().messages(), 0U);
  pair.server().post_receives(1, 5000);
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 1; }));
  EXPECT_EQ(pair.server().received[0].bytes, bytes);
  settle();
  EXPECT_EQ(pair.server().messages(), 1U);
  pair.server().post_receives(1);
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 2; }));
  EXPECT_EQ(pair.server().received[1].immediate, 9U);
  run_until([] { return false; }, harness().receive_grace() * 3 / 2);
  EXPECT_EQ(pair.server().closed, 0) << "the grace of a message that got its receive ran on";
}

TEST_P(Conformance, AMessageNobodyReceivesClosesTheConnection) {
  Pair pair(harness());
  ASSERT_EQ(pair.client().post(immediate_work(9, 1)), std::error_code());
  pair.server().wait_closed(harness());
  pair.client().wait_closed(harness());
  const bool receiver_knows = harness().receiver_knows_of_missing_receives();
  EXPECT_EQ((receiver_knows ? pair.server() : pair.client()).why, Errc::receive_queue_empty);
  EXPECT_TRUE((receiver_knows ? pair.client() : pair.server()).why);
  EXPECT_EQ(pair.server().messages(), 0U);
}

TEST_P(Conformance, AWriteNeedsNoReceive) {
  Pair pair(harness());
  Memory& memory =
      pair.server_memory({.size = 4096, .access = Access::remote_write, .chunk_size = 0});
  const Bytes bytes = pattern(4096);
  const iovec part = vec(bytes);
  ASSERT_EQ(pair.client().post(write_work(one(part), memory.remote(0, 4096), 1)),
            std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.client().dones.size() == 1; }));
  ASSERT_TRUE(run_until([&] { return memory.bytes()[4095] == bytes[4095]; }));
  EXPECT_EQ(pair.server().closed, 0);
}

TEST_P(Conformance, AnImmediateReturnsItsBufferUntouched) {
  Pair pair(harness());
  Bytes buffer(64, std::byte{0x5a});
  ASSERT_EQ(pair.server().post_receive(buffer, 1), std::error_code());
  ASSERT_EQ(pair.client().post(immediate_work(1)), std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 1; }));
  EXPECT_EQ(buffer, Bytes(64, std::byte{0x5a}));
}

TEST_P(Conformance, ASendLongerThanItsReceiveIsAFault) {
  Pair pair(harness());
  Bytes buffer(64, std::byte{0x5a});
  ASSERT_EQ(pair.server().post_receive(std::span(buffer).first(32), 1), std::error_code());
  const Bytes bytes = pattern(33);
  const iovec part = vec(bytes);
  ASSERT_EQ(pair.client().post(send_work(one(part), 1)), std::error_code());
  pair.server().wait_closed(harness());
  pair.client().wait_closed(harness());
  EXPECT_EQ(pair.server().messages(), 0U);
  EXPECT_EQ(pair.server().flushed_receives(), 1U);
  EXPECT_EQ(buffer[32], std::byte{0x5a});
}

TEST_P(Conformance, AReceiveExactlyAsLongAsItsSendFits) {
  Pair pair(harness());
  pair.server().post_receives(1, 4096);
  pair.server().post_receives(1, 0);
  const Bytes bytes = pattern(4096);
  const iovec part = vec(bytes);
  const Work batch[] = {send_work(one(part)), send_work({})};
  ASSERT_EQ(pair.client().post(batch), std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 2; }));
  EXPECT_EQ(pair.server().received[0].bytes, bytes);
  EXPECT_EQ(pair.server().received[1].kind, ReceiveEvent::Kind::send);
  EXPECT_TRUE(pair.server().received[1].bytes.empty());
}

TEST_P(Conformance, NoMoreReceivesArePostedThanWereAskedFor) {
  Pair pair(harness(), 1, {.send_depth = 8, .receive_depth = 4, .windows = 0});
  pair.server().post_receives(4);
  EXPECT_EQ(pair.server().post_receive({}, 5), from_errno(ENOBUFS));
  ASSERT_EQ(pair.client().post(immediate_work(1)), std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 1; }));
  EXPECT_EQ(pair.server().post_receive({}, 5), std::error_code());
}

TEST_P(Conformance, AHandlerMayPostTheNextReceiveAndAnswer) {
  Pair pair(harness(), 1, {.send_depth = 4, .receive_depth = 1, .windows = 0});
  pair.server().post_receives(1);
  pair.client().post_receives(1);
  pair.server().receive_hook = [&](const ReceiveEvent& event) {
    if (event.kind != ReceiveEvent::Kind::immediate) return;
    EXPECT_EQ(pair.server().post_receive({}, event.cookie + 1), std::error_code());
    EXPECT_EQ(pair.server().post(immediate_work(event.immediate + 1)), std::error_code());
  };
  pair.client().receive_hook = [&](const ReceiveEvent& event) {
    if (event.kind != ReceiveEvent::Kind::immediate || event.immediate >= 200) return;
    EXPECT_EQ(pair.client().post_receive({}, event.cookie + 1), std::error_code());
    EXPECT_EQ(pair.client().post(immediate_work(event.immediate + 1)), std::error_code());
  };
  ASSERT_EQ(pair.client().post(immediate_work(1)), std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.client().messages() == 100; }));
  for (std::size_t i = 0; i < 100; ++i) {
    EXPECT_EQ(pair.client().received[i].immediate, 2 * i + 2);
    EXPECT_EQ(pair.client().received[i].cookie, i + 1);
  }
}

}  // namespace rnbd::fabric::conformance
