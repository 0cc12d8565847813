// Conformance of framing (RFC 5044 sections 4 and 6) and of the headers (RFC 5041 section 4, RFC
// 5040 section 4).

#include <cstring>

#include "fabric/iwarp/domain.h"
#include "fabric/iwarp/keys.h"
#include "fabric/iwarp/receiver.h"
#include "fabric/iwarp/scripted_peer.h"
#include "fabric/iwarp/transmitter.h"

namespace rnbd::fabric::iwarp::scripted {
namespace {

namespace terminate = wire::terminate;

struct Sink final : ReceiveSink {
  std::string events;
  void on_receive(const ReceiveEvent& event) override {
    events += event.kind == ReceiveEvent::Kind::send ? "S" : "I";
    events += std::to_string(event.cookie) + ":" + std::to_string(event.immediate) + ":" +
              to_hex(event.bytes) + " ";
  }
};

constexpr std::size_t kGround = 80 * 1024;

// Memory that peers may write, without a socket.
struct Ground {
  SystemRandom random;
  IwarpDomain domain{random};
  std::unique_ptr<Memory> memory = std::move(
      *domain.register_memory({.size = kGround, .access = Access::remote_write, .chunk_size = 0}));
  RemoteSpan span() const { return memory->remote(0, kGround); }
  Bytes contents() const { return {memory->bytes().begin(), memory->bytes().end()}; }
};

// A receiving machine on it.
struct Machine {
  explicit Machine(Ground& ground, const ReceiverOptions& options = {})
      : keys(ground.domain, ground.random, 4), receiver(keys, receives, sink, options) {
    std::memset(ground.memory->bytes().data(), 0, kGround);
    for (std::uint64_t i = 1; i <= 512; ++i)
      receives.push({std::span(buffers).subspan(i * 128, 128), i});
  }
  Keys keys;
  ReceiveQueue receives{512};
  Bytes buffers = Bytes(513 * 128);
  Sink sink;
  Receiver receiver;
};

Bytes gathered(Transmitter& transmitter) {
  Bytes out;
  for (;;) {
    const auto pieces = transmitter.gather();
    if (pieces.empty()) return out;
    std::size_t n = 0;
    for (const iovec& piece : pieces) {
      const auto* bytes = static_cast<const std::byte*>(piece.iov_base);
      out.insert(out.end(), bytes, bytes + piece.iov_len);
      n += piece.iov_len;
    }
    transmitter.taken(n);
  }
}

TEST(IwarpConformance, fpdu_vectors) {
  Transmitter out({.crc = true, .depth = 8, .first_sequence = 1});
  const Bytes zeros(24), hello = from_hex("68656C6C6F");
  const iovec zero_part{const_cast<std::byte*>(zeros.data()), zeros.size()};
  const iovec hello_part{const_cast<std::byte*>(hello.data()), hello.size()};
  out.push({.op = Work::Op::send, .local = {&zero_part, 1}, .remote = {}});
  out.push({.op = Work::Op::write,
            .local = {&hello_part, 1},
            .remote = {.address = 0x1000, .key = 0x7F0FC601}});
  out.push({.op = Work::Op::send, .local = {}, .remote = {}});
  out.push(
      {.op = Work::Op::send_invalidate, .local = {}, .remote = {}, .invalidate_key = 0x4ED01001});
  const std::string sent = to_hex(gathered(out));
  EXPECT_EQ(sent.substr(0, 96),
            "002A414300000000000000000000000100000000" + std::string(48, '0') + "B7243EC3");
  EXPECT_EQ(sent.substr(96, 56), "0013C1407F0FC601000000000000100068656C6C6F000000624549BE");
  EXPECT_EQ(sent.substr(152 + 48), "001241444ED01001000000000000000300000000DDE89D63");
  Transmitter immediate({.crc = true, .depth = 1});
  immediate.push({.op = Work::Op::write_imm, .local = {}, .remote = {}, .immediate = 0x10000007});
  const Bytes one = gathered(immediate);
  EXPECT_EQ(to_hex(one), "001A4148000000000000000000000001000000001000000700000000FD6889E3");
  // And as input.
  Ground ground;
  Machine machine(ground);
  machine.receiver.feed(one);
  EXPECT_EQ(machine.sink.events, "I1:268435463: ");
  Machine second(ground);
  second.receiver.feed(from_hex(sent.substr(0, 96)));
  EXPECT_EQ(second.sink.events, "S1:0:" + std::string(48, '0') + " ");
}

TEST(IwarpConformance, fpdu_pad) {
  Stage stage;
  stage.start();
  stage.post_receives(20);
  Bytes all;
  for (std::uint32_t i = 0; i < 20; ++i) {
    Frame frame = send_frame(i + 1, pattern(i % 10));
    frame.pad = i < 10 ? std::byte{0} : std::byte{0xA5};
    all = std::move(all) + frame.bytes();
  }
  stage.send(all);
  ASSERT_TRUE(stage.run_until([&] { return stage.us().messages.size() == 20; }));
  for (std::uint32_t i = 0; i < 20; ++i) EXPECT_EQ(stage.us().messages[i].bytes, pattern(i % 10));
  Bytes expected;
  for (std::uint32_t i = 0; i < 10; ++i) {
    const Bytes bytes = pattern(i);
    const iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    const Work work{.op = Work::Op::send, .local = {&part, 1}, .remote = {}, .cookie = i + 1};
    ASSERT_FALSE(stage.connection().post({&work, 1}));
    ASSERT_TRUE(stage.run_until([&] { return stage.us().dones.size() == i + 1; }));
    expected = std::move(expected) + send_frame(i + 1, bytes).bytes();
  }
  EXPECT_EQ(to_hex(stage.read(expected.size())), to_hex(expected));
}

TEST(IwarpConformance, fpdu_crc_bad) {
  const Bytes good = send_frame(1, pattern(5)).bytes();  // 2 + 18 + 5, pad 3, CRC 4
  ASSERT_EQ(good.size(), 32U);
  for (const std::size_t at : {1U, 3U, 15U, 22U, 26U, 30U}) {
    Stage stage;
    stage.start();
    stage.post_receives(1);
    Bytes bad = good;
    bad[at] ^= std::byte{1};
    stage.send(bad + immediate_frame(2, 1).bytes());
    stage.expect_dies(terminate::kMpaCrc);
    EXPECT_EQ(stage.us().why, Errc::crc_mismatch);
    EXPECT_TRUE(stage.us().messages.empty());
  }
}

TEST(IwarpConformance, fpdu_crc_bad_in_a_large_frame_delivers_nothing) {
  for (const CrcPolicy policy : {CrcPolicy::on, CrcPolicy::strict}) {
    Options options;
    options.crc = policy;
    Stage stage(options);
    const auto memory = std::move(*stage.domain().register_memory(
        {.size = 1 << 17, .access = Access::remote_write, .chunk_size = 0}));
    stage.start();
    stage.post_receives(1);
    Bytes bad = write_frame(memory->remote(0, 1 << 17), 0, pattern(60000)).bytes();
    bad[40000] ^= std::byte{1};
    stage.send(bad + immediate_frame(1, 1).bytes());
    stage.expect_dies(terminate::kMpaCrc);
    EXPECT_TRUE(stage.us().messages.empty());
    if (policy == CrcPolicy::strict) {
      EXPECT_EQ(Bytes(memory->bytes().begin(), memory->bytes().end()), Bytes(1 << 17));
    }
  }
}

TEST(IwarpConformance, fpdu_short) {
  for (const auto* start : {"0000C140", "0004C140", "000DC140", "00114143", "00004143"}) {
    Stage stage;
    stage.start();
    stage.send(from_hex(start));  // four bytes are enough
    stage.expect_dies(terminate::kMpaFraming);
  }
}

TEST(IwarpConformance, fpdu_large) {
  Stage stage;
  const auto memory = std::move(*stage.domain().register_memory(
      {.size = 1 << 18, .access = Access::remote_write, .chunk_size = 0}));
  const RemoteSpan all = memory->remote(0, 1 << 18);
  stage.start();
  stage.post_receives(2);
  const Bytes legal = pattern(64768 - 14), field = pattern(65535 - 14);
  stage.send(write_frame(all, 0, legal).bytes() + immediate_frame(1, 1).bytes() +
             write_frame(all, 100000, field).bytes() + immediate_frame(2, 2).bytes());
  ASSERT_TRUE(stage.run_until([&] { return stage.us().messages.size() == 2; }));
  EXPECT_TRUE(std::equal(legal.begin(), legal.end(), memory->bytes().begin()));
  EXPECT_TRUE(std::equal(field.begin(), field.end(), memory->bytes().begin() + 100000));
  // What we send keeps the limit.
  const Bytes bytes = pattern(300000);
  const iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  const Work work{
      .op = Work::Op::write, .local = {&part, 1}, .remote = {.address = 0x1000, .key = 7}};
  ASSERT_FALSE(stage.connection().post({&work, 1}));
  const Bytes got = stage.read(300000 + 5 * 20);
  std::size_t at = 0, frames = 0;
  while (at < got.size()) {
    const std::size_t length =
        std::to_integer<std::size_t>(got[at]) << 8 | std::to_integer<std::size_t>(got[at + 1]);
    EXPECT_LE(length, wire::kUlpduMax);
    at += wire::fpdu_size(length);
    ++frames;
  }
  EXPECT_EQ(at, got.size());
  EXPECT_EQ(frames, 5U);
}

// 200 frames: immediates, sends of several segments, small and large writes.
Bytes mixture(const RemoteSpan& memory) {
  Bytes all;
  std::uint32_t sequence = 1;
  for (std::uint32_t i = 0; i < 50; ++i) {
    const std::size_t size = i % 10 == 9 ? 20000 + i : i * 5;
    if (size > 0)
      all = std::move(all) + write_frame(memory, i * 1000, pattern(size), false).bytes();
    all = std::move(all) + write_frame(memory, i * 1000 + size, pattern(i % 7 + 1)).bytes();
    all = std::move(all) + immediate_frame(sequence++, i).bytes();
    all = std::move(all) + send_frame(sequence, pattern(40), 0, false).bytes();
    all = std::move(all) + send_frame(sequence++, pattern(i % 60 + 1), 40).bytes();
  }
  return all;
}

TEST(IwarpConformance, fpdu_cuts) {
  Ground ground;
  const Bytes stream = mixture(ground.span());
  const std::span<const std::byte> bytes(stream);
  for (const bool crc : {true, false}) {
    const ReceiverOptions options{.crc = crc, .verify_first = false};
    Machine whole(ground, options);
    EXPECT_EQ(whole.receiver.feed(stream), stream.size());
    ASSERT_EQ(whole.receiver.status(), Receiver::Status::more);
    EXPECT_TRUE(whole.receiver.between_messages());
    const Bytes contents = ground.contents();
    const auto same = [&](const Machine& machine) {
      return machine.sink.events == whole.sink.events &&
             std::memcmp(contents.data(), ground.memory->bytes().data(), kGround) == 0;
    };
    for (std::size_t step = 1; step < 70; step += step < 8 ? 1 : 9) {
      Machine machine(ground, options);
      for (std::size_t at = 0; at < bytes.size(); at += step) {
        machine.receiver.feed(bytes.subspan(at, std::min(step, bytes.size() - at)));
      }
      EXPECT_TRUE(same(machine)) << "pieces of " << step;
    }
    // Every byte of the first frames, then one in many; where the long frames are the same states
    // come again.
    for (std::size_t cut = 0; cut < bytes.size(); cut += cut < 700 ? 1 : 977) {
      Machine machine(ground, options);
      machine.receiver.feed(bytes.first(cut));
      machine.receiver.feed(bytes.subspan(cut));
      ASSERT_TRUE(same(machine)) << "cut at " << cut;
    }
  }
}

TEST(IwarpConformance, ddp_reserved_bits) {
  Stage stage;
  const auto memory = std::move(*stage.domain().register_memory(
      {.size = 4096, .access = Access::remote_write, .chunk_size = 0}));
  stage.start();
  stage.post_receives(1);
  Frame write = write_frame(memory->remote(0, 4096), 0, pattern(16));
  write.ddp |= 0x3c;
  write.rdmap |= 0x30;
  Frame send = send_frame(1, pattern(8));
  send.ddp |= 0x3c;
  send.rdmap |= 0x30;
  send.stag = 0x12345678;
  stage.send(write.bytes() + send.bytes());
  ASSERT_TRUE(stage.run_until([&] { return stage.us().messages.size() == 1; }));
  EXPECT_EQ(stage.us().messages[0].invalidated_key, 0U);
  EXPECT_TRUE(std::ranges::equal(memory->bytes().first(16), pattern(16)));
}

TEST(IwarpConformance, ddp_versions) {
  for (const unsigned version : {0U, 2U, 3U}) {
    for (const bool tagged : {true, false}) {
      Stage stage;
      stage.start();
      Frame frame = tagged ? write_frame({}, 0, {}) : send_frame(1, {});
      frame.ddp = static_cast<std::uint8_t>(version);
      stage.send(frame.bytes());
      stage.expect_dies(tagged ? terminate::kTaggedVersion : terminate::kUntaggedVersion);
    }
    Stage stage;
    stage.start();
    Frame frame = send_frame(1, {});
    frame.rdmap = static_cast<std::uint8_t>(version << 6);
    stage.send(frame.bytes());
    stage.expect_dies(terminate::kRdmapVersion);
  }
}

}  // namespace
}  // namespace rnbd::fabric::iwarp::scripted
