// Gates that have keys: who may write to a chunk, with which key, and from when to when.

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>

#include "fabric/conformance/end.h"

namespace rnbd::fabric::conformance {
namespace {

constexpr std::size_t kChunk = 4096;
constexpr std::uint64_t kMoved = 7;  // cookie

std::span<const iovec> one(const iovec& part) { return {&part, 1}; }

bool keyed(Harness& harness) {
  Pair pair(harness);
  return pair.server_domain().capabilities().keyed_gates;
}

Memory& chunks(Pair& pair) {
  return pair.server_memory(
      {.size = 3 * kChunk, .access = Access::remote_write, .chunk_size = kChunk});
}

// Opens a gate and tells the peer its key by a message behind the opening: returns what came.
RemoteSpan open_and_tell(Harness& harness, End& server, End& client, Memory& memory,
                         std::size_t chunk) {
  client.post_receives(1, sizeof(RemoteSpan));
  const std::size_t before = client.messages();
  const auto opened = (*server).open_gate(memory, chunk, kMoved);
  EXPECT_TRUE(opened.has_value());
  if (!opened) return {};
  const iovec told = vec(std::as_bytes(std::span(&*opened, 1)));
  EXPECT_EQ(server.post(send_work(one(told))), std::error_code());
  EXPECT_TRUE(
      harness.run_until([&] { return client.messages() == before + 1; }, std::chrono::seconds(10)));
  RemoteSpan span;
  if (client.messages() == before + 1)
    std::memcpy(&span, client.received.back().bytes.data(), sizeof span);
  return span;
}

bool shut(Harness& harness, End& server, Memory& memory, std::size_t chunk) {
  const std::size_t before = server.dones.size();
  if ((*server).shut_gate(memory, chunk, kMoved)) return false;
  return harness.run_until([&] { return server.dones.size() > before; },
                           std::chrono::seconds(10)) &&
         server.dones.back() == std::pair(kMoved, std::error_code());
}

}  // namespace

TEST_P(Conformance, AnOpenedGateHasAFreshKeyForEveryConnectionOfTheDomain) {
  if (!keyed(harness())) GTEST_SKIP() << "gates have no keys";
  Pair pair(harness());
  pair.connect_one(kDefaultOptions);
  Memory& memory = chunks(pair);
  // The initiator speaks first.
  for (std::size_t i = 0; i < 2; ++i) {
    pair.server(i).post_receives(1);
    ASSERT_EQ(pair.client(i).post(immediate_work(1)), std::error_code());
    ASSERT_TRUE(run_until([&] { return pair.server(i).messages() == 1; }));
  }
  std::uint32_t last = 0;
  std::deque<Bytes> sent;                  // the sender's until it is done, which may be later
  for (std::size_t i = 0; i < 300; ++i) {  // more than a key has numbers of its own
    SCOPED_TRACE(i);
    const std::size_t opener = i & 1, writer = i >> 1 & 1, shutter = i >> 2 & 1;
    const RemoteSpan span =
        open_and_tell(harness(), pair.server(opener), pair.client(opener), memory, 1);
    ASSERT_EQ(span.length, kChunk);
    EXPECT_NE(span.key, last);
    last = span.key;
    const Bytes& bytes = sent.emplace_back(pattern(kChunk, i + 1));
    const iovec part = vec(bytes);
    pair.server(writer).post_receives(1);
    const std::size_t before = pair.server(writer).messages();
    ASSERT_EQ(pair.client(writer).post(write_imm_work(one(part), span, 1)), std::error_code());
    ASSERT_TRUE(run_until([&] { return pair.server(writer).messages() == before + 1; }));
    ASSERT_TRUE(std::ranges::equal(memory.bytes().subspan(kChunk, kChunk), bytes));
    ASSERT_TRUE(shut(harness(), pair.server(shutter), memory, 1));
  }
}

TEST_P(Conformance, AChunkThatIsShutOrOpenUnderAnotherKeyCannotBeWritten) {
  if (!keyed(harness())) GTEST_SKIP() << "gates have no keys";
  enum class Reach { never_opened, shut, old_key, beyond, before };
  for (const Reach reach :
       {Reach::never_opened, Reach::shut, Reach::old_key, Reach::beyond, Reach::before}) {
    SCOPED_TRACE(static_cast<int>(reach));
    const bool by_key = reach == Reach::shut || reach == Reach::old_key;
    if (!by_key && !harness().enforces_chunk_bounds()) continue;
    Pair pair(harness());
    Memory& memory = chunks(pair);
    pair.server().post_receives(3);
    ASSERT_EQ(pair.client().post(immediate_work(1)), std::error_code());
    ASSERT_TRUE(run_until([&] { return pair.server().messages() == 1; }));
    RemoteSpan span = open_and_tell(harness(), pair.server(), pair.client(), memory, 1);
    if (reach == Reach::never_opened) span.address += kChunk;
    if (reach == Reach::beyond) span.address += kChunk - 1;
    if (reach == Reach::before) span.address -= 1;
    if (by_key) {
      ASSERT_TRUE(shut(harness(), pair.server(), memory, 1));
    }
    if (reach == Reach::old_key) open_and_tell(harness(), pair.server(), pair.client(), memory, 1);
    const Bytes bytes = pattern(2);
    const iovec part = vec(bytes);
    const Work batch[] = {write_work(one(part), span, 1), immediate_work(2, 2)};
    ASSERT_EQ(pair.client().post(batch), std::error_code());
    pair.server().wait_closed(harness());
    pair.client().wait_closed(harness());
    EXPECT_EQ(pair.server().why, Errc::remote_access) << pair.server().why.message();
    EXPECT_EQ(pair.server().messages(), 1U);
    EXPECT_TRUE(std::ranges::all_of(memory.bytes(), [](std::byte b) { return b == std::byte{0}; }));
  }
}

TEST_P(Conformance, AGateThatMovesWhenItsConnectionEndsIsToldOnce) {
  if (!keyed(harness())) GTEST_SKIP() << "gates have no keys";
  Pair pair(harness());
  Memory& memory = chunks(pair);
  pair.server().post_receives(1);
  ASSERT_EQ(pair.client().post(immediate_work(1)), std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 1; }));
  ASSERT_TRUE((*pair.server()).open_gate(memory, 0, kMoved));
  pair.server().close();
  EXPECT_EQ((*pair.server()).shut_gate(memory, 1, kMoved + 1), from_errno(ENOTCONN));
  EXPECT_EQ((*pair.server()).open_gate(memory, 1, kMoved + 1).error(), from_errno(ENOTCONN));
  pair.server().wait_closed(harness());
  ASSERT_EQ(pair.server().dones.size(), 1U);
  EXPECT_EQ(pair.server().dones[0].first, kMoved);
}

}  // namespace rnbd::fabric::conformance
