// Conformance of untagged and tagged messages (RFC 5041 sections 5 and 7, RFC 5040, RFC 7306).

#include "fabric/iwarp/domain.h"
#include "fabric/iwarp/scripted_peer.h"

namespace rnbd::fabric::iwarp::scripted {
namespace {

using namespace std::chrono_literals;
namespace terminate = wire::terminate;
using wire::TerminateCause;

constexpr std::size_t kSize = 8192;

// A stage with memory of kSize bytes, guarded on both sides by the rest of a larger registration's
// pattern.
struct Target {
  explicit Target(Stage& stage, Access access = Access::remote_write, std::size_t chunk = 0) {
    memory = std::move(
        *stage.domain().register_memory({.size = kSize, .access = access, .chunk_size = chunk}));
    span = memory->remote(0, kSize);
  }
  bool untouched() const { return std::ranges::equal(memory->bytes(), Bytes(kSize)); }
  std::unique_ptr<Memory> memory;
  RemoteSpan span;
};

void expect_fault(const std::vector<Frame>& frames, const TerminateCause& cause,
                  std::size_t delivered = 0) {
  SCOPED_TRACE(wire::terminate_name(cause));
  Stage stage;
  stage.start();
  stage.post_receives(4);
  Bytes all;
  for (const Frame& frame : frames) all = std::move(all) + frame.bytes();
  stage.send(all);
  stage.expect_dies(cause);
  EXPECT_EQ(stage.us().messages.size(), delivered);
  EXPECT_EQ(stage.us().flushed.size(), 4 - delivered);
}

TEST(IwarpConformance, untagged_sequence) {
  Frame queue = send_frame(1, pattern(4));
  queue.queue = 7;
  expect_fault({queue}, terminate::kUntaggedQueue);
  expect_fault({send_frame(2, {})}, terminate::kUntaggedSequence);
  expect_fault({send_frame(1, {}), send_frame(1, {})}, terminate::kUntaggedSequence, 1);
  expect_fault({immediate_frame(1, 1), send_frame(3, {})}, terminate::kUntaggedSequence, 1);
  expect_fault({send_frame(1, pattern(4), 4)}, terminate::kUntaggedOffset);
  expect_fault({send_frame(1, pattern(4), 0, false), send_frame(1, pattern(4), 5)},
               terminate::kUntaggedOffset);
  expect_fault({send_frame(1, pattern(4), 0, false), send_frame(2, pattern(4))},
               terminate::kUntaggedSequence);
}

TEST(IwarpConformance, untagged_buffer) {
  expect_fault({send_frame(1, pattern(65))}, terminate::kUntaggedTooLong);
  expect_fault({send_frame(1, pattern(60), 0, false), send_frame(1, pattern(5), 60)},
               terminate::kUntaggedTooLong);
  Options options;
  options.receive_grace = 200ms;
  {
    Stage stage(options);  // posted in time
    stage.start();
    stage.send(send_frame(1, pattern(10)).bytes() + immediate_frame(2, 7).bytes());
    stage.settle(50ms);
    stage.post_receives(2);
    ASSERT_TRUE(stage.run_until([&] { return stage.us().messages.size() == 2; }));
    EXPECT_EQ(stage.us().messages[0].bytes, pattern(10));
  }
  Stage stage(options);  // never
  stage.start();
  stage.send(immediate_frame(1, 7).bytes());
  stage.expect_dies(terminate::kUntaggedNoBuffer);
  EXPECT_EQ(stage.us().why, Errc::receive_queue_empty);
}

TEST(IwarpConformance, tagged_bounds) {
  struct Case {
    std::uint64_t offset;
    std::size_t size;
    const TerminateCause* cause;
  };
  const Case cases[] = {{~std::uint64_t{0}, 16, &terminate::kTaggedBounds},
                        {kSize - 15, 16, &terminate::kTaggedBounds},
                        {kSize, 1, &terminate::kTaggedBounds},
                        {0, kSize, nullptr},
                        {kSize - 16, 16, nullptr}};
  for (const bool second : {false, true}) {
    for (const Case& c : cases) {
      Stage stage;
      Target target(stage);
      stage.start();
      stage.post_receives(1);
      // As a second segment it must continue the first, so that one starts as far before.
      const bool possible = second && c.offset >= 4 && c.offset <= kSize;
      const Bytes first =
          possible ? write_frame(target.span, c.offset - 4, pattern(4), false).bytes() : Bytes();
      stage.send(first + write_frame(target.span, c.offset, pattern(c.size)).bytes() +
                 immediate_frame(1, 9).bytes());
      if (c.cause != nullptr) {
        stage.expect_dies(*c.cause);
        if (!possible) {
          EXPECT_TRUE(target.untouched());
        }
        EXPECT_EQ(stage.us().why, Errc::remote_access);
        continue;
      }
      ASSERT_TRUE(stage.run_until([&] { return stage.us().messages.size() == 1; }));
      EXPECT_TRUE(
          std::ranges::equal(target.memory->bytes().subspan(c.offset, c.size), pattern(c.size)));
    }
  }
  Stage stage;
  Target target(stage);
  stage.start();
  Frame wraps = write_frame(target.span, 0, pattern(16));
  wraps.offset = 0xFFFFFFFFFFFFFFF8;
  stage.send(wraps.bytes());
  stage.expect_dies(terminate::kTaggedWrap);
  EXPECT_TRUE(target.untouched());
  // Nothing at the end of the memory is inside it.
  Stage last;
  Target other(last);
  last.start();
  last.post_receives(1);
  last.send(write_frame(other.span, kSize, {}).bytes() + immediate_frame(1, 1).bytes());
  EXPECT_TRUE(last.run_until([&] { return last.us().messages.size() == 1; }));
}

TEST(IwarpConformance, tagged_keys) {
  enum { unknown_index, wrong_key, other_path, dead_window, read_only, shut_gate, zero };
  for (const int which :
       {unknown_index, wrong_key, other_path, dead_window, read_only, shut_gate, zero}) {
    SCOPED_TRACE(which);
    Stage stage;
    Target target(stage, which == read_only ? Access::local_only : Access::remote_write,
                  which == shut_gate ? 4096 : 0);
    const auto other_domain = std::move(*stage.fabric().create_domain(PathAddress{}));
    const auto elsewhere = std::move(*other_domain->register_memory(
        {.size = kSize, .access = Access::remote_write, .chunk_size = 0}));
    stage.start();
    Bytes window(64);
    const iovec part{window.data(), window.size()};
    Frame frame = write_frame(target.span, 4000, pattern(200));
    if (which == unknown_index) frame.stag += 0x31400;
    if (which == wrong_key) frame.stag ^= 1;
    if (which == other_path) frame = write_frame(elsewhere->remote(0, kSize), 0, pattern(16));
    if (which == zero) frame.stag = 0;
    if (which == shut_gate) target.memory->set_gate(1, false);
    if (which == dead_window) {
      const RemoteSpan exposed = *stage.connection().expose(0, {&part, 1});
      stage.connection().hide(0);
      frame = write_frame(exposed, 0, pattern(16));
    }
    stage.send(frame.bytes());
    stage.expect_dies(terminate::kTaggedStag);
    EXPECT_TRUE(target.untouched());
    EXPECT_EQ(window, Bytes(64));
    EXPECT_TRUE(std::ranges::equal(elsewhere->bytes(), Bytes(kSize)));
  }
}

TEST(IwarpConformance, tagged_zero_length) {
  Stage stage;
  stage.start();
  stage.post_receives(1);
  Frame bogus = write_frame({}, 0, {});
  bogus.stag = 0xBADBAD01;
  bogus.offset = ~std::uint64_t{0};
  stage.send(bogus.bytes() + immediate_frame(1, 3).bytes());
  ASSERT_TRUE(stage.run_until([&] { return stage.us().messages.size() == 1; }));
}

TEST(IwarpConformance, message_interleave) {
  enum {
    send_inside,
    immediate_inside,
    goes_back,
    other_stag,
    empty_writes,
    empty_sends,
    write_inside
  };
  for (const int which : {send_inside, immediate_inside, goes_back, other_stag, empty_writes,
                          empty_sends, write_inside}) {
    SCOPED_TRACE(which);
    Stage stage;
    Target target(stage), other(stage);
    stage.start();
    stage.post_receives(2);
    const Bytes open_write = write_frame(target.span, 100, pattern(8), false).bytes();
    Bytes all;
    if (which == send_inside) all = open_write + send_frame(1, pattern(4)).bytes();
    if (which == immediate_inside) all = open_write + immediate_frame(1, 4).bytes();
    if (which == goes_back) all = open_write + write_frame(target.span, 100, pattern(8)).bytes();
    if (which == other_stag) all = open_write + write_frame(other.span, 108, pattern(8)).bytes();
    if (which == empty_writes) all = write_frame(target.span, 0, {}, false).bytes();
    if (which == empty_sends) all = send_frame(1, {}, 0, false).bytes();
    if (which == write_inside)
      all = send_frame(1, pattern(4), 0, false).bytes() +
            write_frame(target.span, 0, pattern(4)).bytes();
    stage.send(all);
    stage.expect_dies(terminate::kRdmapBadMessage);
    EXPECT_TRUE(stage.us().messages.empty());
  }
}

TEST(IwarpConformance, immediate_forms) {
  Stage stage;
  const auto memory = std::move(*stage.domain().register_memory(
      {.size = 1 << 17, .access = Access::remote_write, .chunk_size = 0}));
  const RemoteSpan span = memory->remote(0, 1 << 17);
  stage.start();
  stage.post_receives(5);
  const Bytes data = pattern(1 << 17);
  bool visible = false;
  stage.us().on_message = [&](const ReceiveEvent& event) {
    if (event.immediate == 3) visible = std::ranges::equal(memory->bytes(), data);
  };
  Frame solicited = immediate_frame(5, 5);
  solicited.op = 9;
  const Bytes half(data.begin(), data.begin() + 65000),
      rest(data.begin() + 65000, data.begin() + 130000);
  const Bytes tail(data.begin() + 130000, data.end());
  stage.send(immediate_frame(1, 1).bytes() + write_frame({}, 0, {}).bytes() +
             immediate_frame(2, 2).bytes() + write_frame(span, 0, half, false).bytes() +
             write_frame(span, 65000, rest, false).bytes() +
             write_frame(span, 130000, tail).bytes() + immediate_frame(3, 3).bytes() +
             immediate_frame(4, 4, 0xffffffff).bytes() + solicited.bytes());
  ASSERT_TRUE(stage.run_until([&] { return stage.us().messages.size() == 5; }));
  for (std::uint32_t i = 0; i < 5; ++i) {
    EXPECT_EQ(stage.us().messages[i].kind, ReceiveEvent::Kind::immediate);
    EXPECT_EQ(stage.us().messages[i].immediate, i + 1);
  }
  EXPECT_TRUE(visible);
  for (const std::size_t size : {4U, 12U, 0U}) {
    Frame wrong = immediate_frame(1, 1);
    wrong.payload.resize(size);
    expect_fault({wrong}, terminate::kRdmapBadMessage);
  }
}

TEST(IwarpConformance, send_invalidate) {
  Stage stage;
  stage.start();
  stage.post_receives(2);
  Bytes window(64);
  const iovec part{window.data(), window.size()};
  const RemoteSpan exposed = *stage.connection().expose(2, {&part, 1});
  bool dead = false;
  stage.us().on_message = [&](const ReceiveEvent&) {
    dead = stage.connection().expose(2, {&part, 1}).has_value();
  };
  Frame frame = send_frame(1, {});
  frame.op = 4;
  frame.stag = exposed.key;
  Frame again = frame;
  again.sequence = 2;
  stage.send(write_frame(exposed, 8, pattern(8)).bytes() + frame.bytes() + again.bytes());
  stage.expect_dies(terminate::kRdmapCannotInvalidate);
  ASSERT_EQ(stage.us().messages.size(), 1U);
  EXPECT_TRUE(dead) << "the key lived while the message was delivered";
  EXPECT_EQ(stage.us().messages[0].invalidated_key, exposed.key);

  Frame unknown = send_frame(1, {});
  unknown.op = 6;
  unknown.stag = 0x12345678;
  expect_fault({unknown}, terminate::kRdmapCannotInvalidate);
  Stage server;
  Target target(server);
  server.start();
  server.post_receives(1);
  unknown.stag = target.span.key;
  server.send(unknown.bytes());
  server.expect_dies(terminate::kRdmapStagNotInvalidatable);
}

TEST(IwarpConformance, opcode_refused) {
  const auto with = [](bool tagged, unsigned op, std::uint32_t queue) {
    Frame frame = tagged ? write_frame({}, 0, Bytes(28)) : send_frame(1, Bytes(28));
    frame.op = op;
    frame.queue = queue;
    return frame;
  };
  expect_fault({with(false, 1, 1)}, terminate::kUntaggedNoBuffer);
  expect_fault({with(true, 2, 0)}, terminate::kRdmapUnexpectedOpcode);
  expect_fault({with(false, 10, 1)}, terminate::kRdmapUnexpectedOpcode);
  expect_fault({with(false, 11, 3)}, terminate::kRdmapUnexpectedOpcode);
  for (const unsigned op : {12U, 13U, 14U, 15U}) {
    expect_fault({with(false, op, 0)}, terminate::kRdmapUnexpectedOpcode);
    expect_fault({with(true, op, 0)}, terminate::kRdmapUnexpectedOpcode);
  }
  expect_fault({with(false, 0, 0)}, terminate::kRdmapBadMessage);
  expect_fault({with(false, 2, 0)}, terminate::kRdmapBadMessage);
  for (const unsigned op : {1U, 3U, 4U, 5U, 6U, 7U, 8U, 9U}) {
    expect_fault({with(true, op, 0)}, terminate::kRdmapBadMessage);
  }
}

}  // namespace
}  // namespace rnbd::fabric::iwarp::scripted
