// Conformance of the start-up (RFC 5044 section 7.1, RFC 6581) against a scripted peer.

#include "fabric/iwarp/scripted_peer.h"

namespace rnbd::fabric::iwarp::scripted {
namespace {

using namespace std::chrono_literals;
using wire::MpaFrame;

Options with_crc(CrcPolicy policy) {
  Options options;
  options.crc = policy;
  return options;
}

const std::string kReplyKey = "4D504120494420526570204672616D65";

TEST(IwarpConformance, mpa_accept_enhanced) {
  Stage stage;
  stage.listen();
  stage.peer_connects();
  const Bytes ours = pattern(56), theirs = pattern(40);
  Bytes seen;
  stage.decide = [&](std::unique_ptr<IncomingConnection> incoming) {
    seen.assign(incoming->private_data().begin(), incoming->private_data().end());
    stage.accept(std::move(incoming), ours);
  };
  stage.send(request({.crc = true, .enhanced = true, .revision = 2, .user_data = theirs}));
  EXPECT_EQ(to_hex(stage.read(80)), kReplyKey + "5002003C" + "00000000" + to_hex(ours));
  EXPECT_EQ(seen, theirs);
}

TEST(IwarpConformance, mpa_accept_plain) {
  Stage stage;
  stage.listen();
  stage.peer_connects();
  const Bytes ours = pattern(56);
  stage.decide = [&](std::unique_ptr<IncomingConnection> incoming) {
    stage.accept(std::move(incoming), ours);
  };
  stage.send(request({.revision = 1, .user_data = pattern(56)}));
  EXPECT_EQ(to_hex(stage.read(76)), kReplyKey + "00010038" + to_hex(ours));
}

TEST(IwarpConformance, mpa_reject_data) {
  for (const bool enhanced : {true, false}) {
    Stage stage;
    stage.listen();
    stage.peer_connects();
    const Bytes ours = pattern(56);
    stage.decide = [&](std::unique_ptr<IncomingConnection> incoming) {
      stage.fabric().reject(std::move(incoming), ours);
    };
    stage.send(request({.enhanced = enhanced, .revision = 2, .user_data = pattern(56)}));
    EXPECT_TRUE(stage.read_end());
    EXPECT_EQ(to_hex(stage.received()),
              kReplyKey + (enhanced ? "3002003C00000000" : "20020038") + to_hex(ours));
    stage.fin();
    stage.settle();
  }
}

TEST(IwarpConformance, mpa_dribble) {
  const Bytes whole = request({.enhanced = true, .user_data = pattern(56)});
  {
    Stage stage;
    stage.listen();
    stage.peer_connects();
    for (const std::byte one : whole) stage.send({one});
    EXPECT_EQ(stage.read(24).size(), 24U);
  }
  Options options;
  options.request_timeout = 100ms;
  Stage stage(options);
  stage.listen();
  stage.peer_connects();
  // One byte every few milliseconds keeps nothing alive: the limit is for the whole.
  for (std::size_t i = 0; i < 10; ++i) {
    stage.send({whole[i]});
    stage.settle(4ms);
  }
  EXPECT_TRUE(stage.run_until([&] { return stage.read_end() || true; }));
  EXPECT_TRUE(stage.received().empty());
  EXPECT_FALSE(stage.connection_made());
}

void expect_refused_silently(const Bytes& bytes) {
  Stage stage;
  stage.listen();
  stage.peer_connects();
  stage.send(bytes);
  stage.read_end();
  EXPECT_TRUE(stage.received().empty());
  EXPECT_FALSE(stage.connection_made());
}

TEST(IwarpConformance, mpa_bad_key) {
  for (const std::size_t at : {0U, 7U, 15U}) {
    Bytes bytes = request({.user_data = pattern(56)});
    bytes[at] ^= std::byte{1};
    expect_refused_silently(bytes);
  }
  expect_refused_silently(reply({.user_data = pattern(56)}));
}

TEST(IwarpConformance, mpa_rev_unknown) {
  expect_refused_silently(request({.revision = 0, .user_data = {}}));
  expect_refused_silently(request({.revision = 3, .user_data = {}}));
}

TEST(IwarpConformance, mpa_pd_limits) {
  {
    Stage stage;
    stage.listen();
    stage.peer_connects();
    stage.send(request({.revision = 2, .user_data = pattern(512)}));
    EXPECT_EQ(stage.read(20).size(), 20U);
    EXPECT_TRUE(stage.connection_made());
  }
  const Bytes key = from_hex("4D504120494420526571204672616D65");
  for (const auto* rest : {"00020201", "0002FFFF", "10020003"}) {
    expect_refused_silently(key + from_hex(rest) + pattern(3));
  }
}

TEST(IwarpConformance, mpa_markers_wanted) {
  Stage stage;
  stage.listen();
  stage.peer_connects();
  stage.send(request({.markers = true, .enhanced = true, .user_data = pattern(56)}));
  EXPECT_TRUE(stage.read_end());
  EXPECT_EQ(to_hex(stage.received()), kReplyKey + "3002000400000000");
  EXPECT_FALSE(stage.connection_made());
}

TEST(IwarpConformance, mpa_p2p) {
  for (const bool write_offered : {true, false}) {
    Stage stage;
    stage.listen();
    stage.peer_connects();
    stage.send(request({.enhanced = true,
                        .peer_to_peer = true,
                        .write_first = write_offered,
                        .read_first = !write_offered,
                        .read_depth_in = 1,
                        .read_depth_out = wire::kMpaDepthMax,
                        .user_data = {}}));
    EXPECT_EQ(to_hex(stage.read(24)), kReplyKey + "10020004" + "BFFF8000");
    ASSERT_TRUE(stage.run_until([&] { return stage.us().connected; }));
    ASSERT_FALSE(
        stage.connection().post(std::array{Work{.local = {}, .remote = {}, .immediate = 7}}));
    stage.settle();
    EXPECT_TRUE(stage.received().empty());
    Frame opening = write_frame({}, 0, {});
    opening.stag = 0xdeadbeef;
    stage.send(opening.bytes());
    EXPECT_EQ(stage.read(32).size(), 32U);
  }
}

TEST(IwarpConformance, mpa_early_bytes) {
  {
    Stage stage;  // behind a Request, before our word
    stage.listen();
    stage.peer_connects();
    std::unique_ptr<IncomingConnection> kept;
    stage.decide = [&](std::unique_ptr<IncomingConnection> incoming) {
      kept = std::move(incoming);
    };
    stage.send(request({.enhanced = true, .user_data = {}}) + send_frame(1, pattern(8)).bytes());
    ASSERT_TRUE(stage.run_until([&] { return kept != nullptr; }));
    stage.accept(std::move(kept));
    stage.read_end();
    EXPECT_TRUE(stage.received().empty());
    EXPECT_FALSE(stage.connection_made());
  }
  Stage stage;  // and we send nothing behind ours
  const Bytes ours = pattern(56);
  EXPECT_EQ(to_hex(stage.we_connect(80, ours)),
            "4D504120494420526571204672616D65"
            "1002003C"
            "00000000" +
                to_hex(ours));
  const Work early{.local = {}, .remote = {}, .immediate = 7};
  EXPECT_TRUE(stage.connection().post({&early, 1}));
  stage.settle();
  EXPECT_TRUE(stage.received().empty());
  stage.send(reply({.enhanced = true, .user_data = pattern(10)}));
  ASSERT_TRUE(stage.run_until([&] { return stage.us().connected; }));
  EXPECT_EQ(stage.us().private_data, pattern(10));
  EXPECT_FALSE(stage.connection().post({&early, 1}));
  EXPECT_EQ(stage.read(32).size(), 32U);
}

TEST(IwarpConformance, mpa_crc_matrix) {
  for (const bool theirs : {false, true}) {
    for (const CrcPolicy ours : {CrcPolicy::off, CrcPolicy::on}) {
      const bool used = theirs || ours == CrcPolicy::on;
      Stage stage(with_crc(ours));
      stage.listen();
      stage.peer_connects();
      stage.send(request({.crc = theirs, .enhanced = true, .user_data = {}}));
      EXPECT_EQ(to_hex(stage.read(24)), kReplyKey + (used ? "50020004" : "10020004") + "00000000");
      ASSERT_TRUE(stage.run_until([&] { return stage.us().connected; }));
      stage.post_receives(1);
      Frame frame = send_frame(1, pattern(5));
      frame.crc = false;  // garbage
      stage.send(frame.bytes());
      if (used) {
        stage.expect_dies(wire::terminate::kMpaCrc);
        EXPECT_TRUE(stage.us().messages.empty());
      } else {
        EXPECT_TRUE(stage.run_until([&] { return stage.us().messages.size() == 1; }));
      }
      // The same as initiator: the peer's reply decides together with our request.
      Stage other(with_crc(ours));
      const Bytes asked = other.we_connect(24);
      EXPECT_EQ(asked[16], ours == CrcPolicy::on ? std::byte{0x50} : std::byte{0x10});
      other.send(reply({.crc = theirs, .enhanced = true, .user_data = {}}));
      ASSERT_TRUE(other.run_until([&] { return other.us().connected; }));
      const Work work{.local = {}, .remote = {}, .immediate = 0x10000007};
      ASSERT_FALSE(other.connection().post({&work, 1}));
      EXPECT_EQ(to_hex(other.read(32)), std::string("001A414800000000000000000000000100000000") +
                                            "1000000700000000" + (used ? "FD6889E3" : "00000000"));
    }
  }
}

TEST(IwarpConformance, responder_silence) {
  Stage stage;
  stage.start();
  const Work work{.local = {}, .remote = {}, .immediate = 7};
  ASSERT_FALSE(stage.connection().post({&work, 1}));
  stage.settle();
  EXPECT_TRUE(stage.received().empty());
  stage.post_receives(1);
  stage.send(immediate_frame(1, 5).bytes());
  EXPECT_EQ(stage.read(32).size(), 32U);
}

TEST(IwarpHandshake, HalfOpenOnesAreCappedPerSourceAndInAll) {
  for (const bool per_source : {true, false}) {
    Options options;
    (per_source ? options.handshakes_per_source_max : options.handshakes_max) = 2;
    Stage stage(options);
    stage.listen();
    UniqueFd held[2];
    for (UniqueFd& fd : held) {
      stage.peer_connects();
      stage.settle(5ms);
      fd = UniqueFd(::dup(stage.fd()));
    }
    stage.peer_connects();
    stage.read_end();  // thrown out
    held[0].reset();
    stage.settle(5ms);
    stage.peer_connects();
    stage.send(request({.enhanced = true, .user_data = {}}));
    EXPECT_EQ(stage.read(24).size(), 24U);
  }
}

TEST(IwarpHandshake, AnInitiatorGivesUpOnASilentPeer) {
  Options options;
  options.reply_timeout = 50ms;
  Stage stage(options);
  stage.we_connect(24);
  EXPECT_TRUE(stage.run_until([&] { return stage.us().closed; }));
  EXPECT_EQ(stage.us().why, Errc::handshake_timeout);
}

TEST(IwarpHandshake, AnInitiatorRefusesAnAnswerThatIsNone) {
  for (const Bytes& answer : {from_hex("4D504120494420526571204672616D65"), pattern(20)}) {
    Stage stage;
    stage.we_connect(24);
    stage.send(answer);
    EXPECT_TRUE(stage.run_until([&] { return stage.us().closed; }));
    EXPECT_EQ(stage.us().why, Errc::framing_error);
  }
  Stage stage;
  stage.we_connect(24);
  stage.fin();
  EXPECT_TRUE(stage.run_until([&] { return stage.us().closed; }));
  EXPECT_EQ(stage.us().why, Errc::handshake_closed);
}

TEST(IwarpHandshake, ADecisionThatCameTooLateIsNone) {
  Options options;
  options.decision_timeout = 1ms;
  Stage stage(options);
  stage.listen();
  stage.peer_connects();
  std::unique_ptr<IncomingConnection> kept;
  stage.decide = [&](std::unique_ptr<IncomingConnection> incoming) { kept = std::move(incoming); };
  stage.send(request({.enhanced = true, .user_data = {}}));
  ASSERT_TRUE(stage.run_until([&] { return kept != nullptr; }));
  stage.settle(5ms);
  stage.accept(std::move(kept));
  EXPECT_FALSE(stage.connection_made());
  stage.read_end();
  EXPECT_TRUE(stage.received().empty());
}

}  // namespace
}  // namespace rnbd::fabric::iwarp::scripted
