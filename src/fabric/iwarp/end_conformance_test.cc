// Conformance of the end of a stream (RFC 5040 section 5.4, RFC 5041 section 6.2), whoever brings
// it about.

#include "fabric/iwarp/scripted_peer.h"

namespace rnbd::fabric::iwarp::scripted {
namespace {

using namespace std::chrono_literals;

Frame terminate_frame(std::string_view payload) {
  Frame frame = send_frame(1, from_hex(payload));
  frame.op = 7;
  frame.queue = wire::kTerminateQueue;
  return frame;
}

void expect_flushed_in_order(Stage& stage, std::size_t receives) {
  ASSERT_TRUE(stage.run_until([&] { return stage.us().closed; }));
  ASSERT_EQ(stage.us().flushed.size(), receives);
  for (std::size_t i = 1; i < receives; ++i)
    EXPECT_LT(stage.us().flushed[i - 1], stage.us().flushed[i]);
}

TEST(IwarpConformance, termination) {
  struct Case {
    const char* payload;
    Errc why;
  };
  for (const Case& c :
       {Case{"1101C000", Errc::peer_terminated}, Case{"02020300", Errc::peer_terminated},
        Case{"20060000", Errc::peer_lacks_immediate}, Case{"", Errc::peer_terminated}}) {
    Stage stage;
    stage.start();
    stage.post_receives(3);
    const Work work{.local = {}, .remote = {}, .immediate = 1, .cookie = 11};
    ASSERT_FALSE(stage.connection().post({&work, 1}));  // held: the peer has not spoken
    stage.send(terminate_frame(c.payload).bytes());
    EXPECT_TRUE(stage.read_end());
    stage.fin();
    expect_flushed_in_order(stage, 3);
    EXPECT_EQ(stage.us().why, c.why);
    EXPECT_EQ(stage.us().dones, (decltype(stage.us().dones){{11, Errc::flushed}}));
    EXPECT_TRUE(stage.received().empty()) << "a Terminate is not answered";
  }
}

TEST(IwarpConformance, termination_fin_inside_a_frame_or_message) {
  const Bytes frame = send_frame(1, pattern(16), 0, false).bytes();
  for (const std::size_t cut : {std::size_t{3}, std::size_t{25}, frame.size()}) {
    Stage stage;
    stage.start();
    stage.post_receives(2);
    stage.send(Bytes(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(cut)));
    stage.fin();
    expect_flushed_in_order(stage, 2);
    EXPECT_EQ(stage.us().why, Errc::framing_error);
  }
}

TEST(IwarpConformance, termination_fin_between_frames) {
  Stage stage;
  stage.start();
  stage.post_receives(2);
  stage.send(send_frame(1, pattern(16)).bytes());
  stage.fin();
  expect_flushed_in_order(stage, 1);
  EXPECT_EQ(stage.us().messages.size(), 1U);
  EXPECT_EQ(stage.us().why, Errc::peer_closed);
  EXPECT_TRUE(stage.read_end());
}

TEST(IwarpConformance, termination_graceful_close) {
  Stage stage;
  stage.start();
  stage.post_receives(1);
  stage.send(immediate_frame(1, 1).bytes());
  ASSERT_TRUE(stage.run_until([&] { return stage.us().messages.size() == 1; }));
  const Work work{.local = {}, .remote = {}, .immediate = 0x10000007, .cookie = 5};
  ASSERT_FALSE(stage.connection().post({&work, 1}));
  stage.connection().close(Errc::session_closed, true);
  EXPECT_TRUE(stage.read_end());
  EXPECT_EQ(stage.received().size(), 32U);
  EXPECT_FALSE(stage.us().closed) << "waits for the peer's FIN";
  stage.fin();
  expect_flushed_in_order(stage, 0);
  EXPECT_EQ(stage.us().why, Errc::session_closed);
  EXPECT_EQ(stage.us().dones, (decltype(stage.us().dones){{5, std::error_code()}}));
}

TEST(IwarpConformance, termination_waits_for_no_fin_for_ever) {
  Options options;
  options.linger_timeout = 50ms;
  Stage stage(options);
  stage.start();
  stage.connection().close(Errc::session_closed, true);
  EXPECT_TRUE(stage.run_until([&] { return stage.us().closed; }));
}

TEST(IwarpConformance, termination_abort_resets) {
  Stage stage;
  stage.start();
  stage.connection().close(Errc::heartbeat_lost);
  EXPECT_FALSE(stage.read_end()) << "a FIN, where a reset should be";
  expect_flushed_in_order(stage, 0);
  EXPECT_EQ(stage.us().why, Errc::heartbeat_lost);
}

TEST(IwarpConformance, termination_reset) {
  Stage stage;
  stage.start();
  stage.post_receives(2);
  stage.reset();
  expect_flushed_in_order(stage, 2);
  EXPECT_EQ(stage.us().why, from_errno(ECONNRESET));
}

TEST(IwarpConformance, termination_while_the_peer_still_sends) {
  Options options;
  options.linger_bytes_max = std::size_t{32} << 20;
  Stage stage(options);
  stage.start();
  Frame bad = send_frame(9, {});
  stage.send(bad.bytes() + pattern(10 << 20));
  stage.expect_dies(wire::terminate::kUntaggedSequence);
}

TEST(IwarpConformance, termination_drops_no_more_than_its_share) {
  Options options;
  options.linger_bytes_max = 4096;
  Stage stage(options);
  stage.start();
  stage.send(send_frame(9, {}).bytes() + pattern(1 << 20));
  EXPECT_TRUE(stage.run_until([&] { return stage.us().closed; }));
}

}  // namespace
}  // namespace rnbd::fabric::iwarp::scripted
