// Moving bytes: sends, writes and immediates, in order and whole, and when a buffer is the poster's
// again.

#include <algorithm>
#include <cerrno>

#include "fabric/conformance/end.h"

namespace rnbd::fabric::conformance {
namespace {

const std::size_t kSizes[] = {0,    1,    3,     4,     5,     511,   512,    513,    4095,
                              4096, 4097, 64511, 64512, 64513, 65536, 131072, 1048576};

std::span<const iovec> one(const iovec& part) { return {&part, 1}; }

}  // namespace

TEST_P(Conformance, ImmediatesArriveInOrder) {
  Pair pair(harness());
  pair.server().post_receives(40);
  for (std::uint32_t i = 0; i < 40; ++i) {
    ASSERT_EQ(pair.client().post(immediate_work(0xfffffff0u + i)), std::error_code());
  }
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 40; }));
  for (std::uint32_t i = 0; i < 40; ++i) {
    EXPECT_EQ(pair.server().received[i].kind, ReceiveEvent::Kind::immediate);
    EXPECT_EQ(pair.server().received[i].immediate, 0xfffffff0u + i);
    EXPECT_EQ(pair.server().received[i].cookie, i + 1);
    EXPECT_TRUE(pair.server().received[i].bytes.empty());
  }
}

TEST_P(Conformance, SendsOfEverySizeArriveWhole) {
  Pair pair(harness());
  for (const std::size_t size : kSizes) {
    SCOPED_TRACE(size);
    const Bytes bytes = pattern(size, size + 1);
    const iovec part = vec(bytes);
    const std::size_t before = pair.server().messages();
    pair.server().post_receives(1, size + 7);
    ASSERT_EQ(pair.client().post(send_work(one(part), 1)), std::error_code());
    ASSERT_TRUE(run_until([&] { return pair.server().messages() == before + 1; }));
    EXPECT_EQ(pair.server().received.back().kind, ReceiveEvent::Kind::send);
    EXPECT_EQ(pair.server().received.back().bytes, bytes);
    ASSERT_TRUE(run_until([&] { return pair.client().dones.size() == before + 1; }));
  }
}

TEST_P(Conformance, WritesOfEverySizeAreVisibleBeforeALaterImmediate) {
  Pair pair(harness());
  constexpr std::size_t kMost = 1048576;
  Memory& memory =
      pair.server_memory({.size = kMost + 16, .access = Access::remote_write, .chunk_size = 0});
  for (const std::size_t size : kSizes) {
    SCOPED_TRACE(size);
    std::ranges::fill(memory.bytes(), std::byte{0xee});
    const Bytes bytes = pattern(size, size + 2);
    const iovec part = vec(bytes);
    pair.server().post_receives(1);
    bool visible = false;
    pair.server().receive_hook = [&](const ReceiveEvent&) {
      visible = std::ranges::equal(memory.bytes().subspan(8, size), bytes);
    };
    const std::size_t before = pair.server().messages();
    const Work batch[] = {write_work(one(part), memory.remote(8, size)), immediate_work(5)};
    ASSERT_EQ(pair.client().post(batch), std::error_code());
    ASSERT_TRUE(run_until([&] { return pair.server().messages() == before + 1; }));
    EXPECT_TRUE(visible);
    EXPECT_EQ(memory.bytes()[7], std::byte{0xee});
    EXPECT_EQ(memory.bytes()[8 + size], std::byte{0xee});
  }
}

TEST_P(Conformance, AWriteWithImmediateIsVisibleWhenTheImmediateIs) {
  Pair pair(harness());
  Memory& memory =
      pair.server_memory({.size = 1048576, .access = Access::remote_write, .chunk_size = 0});
  for (const std::size_t size : kSizes) {
    SCOPED_TRACE(size);
    const Bytes bytes = pattern(size, size + 3);
    const iovec part = vec(bytes);
    pair.server().post_receives(1, 16);
    bool visible = false;
    pair.server().receive_hook = [&](const ReceiveEvent& event) {
      visible = event.immediate == size && std::ranges::equal(memory.bytes().first(size), bytes);
    };
    const std::size_t before = pair.server().messages();
    ASSERT_EQ(pair.client().post(write_imm_work(one(part), memory.remote(0, size),
                                                static_cast<std::uint32_t>(size))),
              std::error_code());
    ASSERT_TRUE(run_until([&] { return pair.server().messages() == before + 1; }));
    EXPECT_TRUE(visible);
  }
}

TEST_P(Conformance, AWriteGathersAndAWindowScatters) {
  Pair pair(harness());
  const Bytes bytes = pattern(70000);
  const std::span all(bytes);
  const iovec gather[] = {vec(all.subspan(0, 1)), vec(all.subspan(1, 0)), vec(all.subspan(1, 4095)),
                          vec(all.subspan(4096, 60000)), vec(all.subspan(64096))};
  Bytes first(3);
  Bytes second(65000);
  Bytes third(10000);
  const iovec scatter[] = {vec(std::span(first)), vec(std::span(second)), vec(std::span(third))};
  const RemoteSpan window = pair.server().expose(0, scatter);
  EXPECT_EQ(window.length, 75003U);
  pair.server().post_receives(1);
  ASSERT_EQ(pair.client().post(write_imm_work(gather, window, 1)), std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 1; }));
  pair.server().hide(0);
  Bytes together = first;
  together.insert(together.end(), second.begin(), second.end());
  together.insert(together.end(), third.begin(), third.end());
  EXPECT_TRUE(std::ranges::equal(std::span(together).first(70000), bytes));
  EXPECT_TRUE(std::ranges::all_of(std::span(together).subspan(70000),
                                  [](std::byte b) { return b == std::byte{0}; }));
}

TEST_P(Conformance, AWriteIntoTheMiddleOfAWindowTouchesNothingElse) {
  Pair pair(harness());
  Bytes first(1000);
  Bytes second(1000);
  const iovec scatter[] = {vec(std::span(first)), vec(std::span(second))};
  const RemoteSpan window = pair.server().expose(3, scatter);
  const Bytes bytes = pattern(100);
  const iovec part = vec(bytes);
  pair.server().post_receives(1);
  ASSERT_EQ(pair.client().post(write_imm_work(one(part), at(window, 950), 1)), std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 1; }));
  pair.server().hide(3);
  EXPECT_TRUE(std::ranges::equal(std::span(first).last(50), std::span(bytes).first(50)));
  EXPECT_TRUE(std::ranges::equal(std::span(second).first(50), std::span(bytes).last(50)));
  EXPECT_EQ(first[949], std::byte{0});
  EXPECT_EQ(second[50], std::byte{0});
}

TEST_P(Conformance, AWriteOfNothingLooksAtNoAddress) {
  Pair pair(harness());
  pair.server().post_receives(2);
  const RemoteSpan nowhere{.address = 0xdead, .key = 0xbeef, .length = 0};
  const Work batch[] = {write_work({}, nowhere, 1), write_imm_work({}, nowhere, 7, 2),
                        immediate_work(8, 3)};
  ASSERT_EQ(pair.client().post(batch), std::error_code());
  ASSERT_TRUE(
      run_until([&] { return pair.server().messages() == 2 && pair.client().dones.size() == 3; }));
  EXPECT_EQ(pair.server().received[0].immediate, 7U);
  EXPECT_EQ(pair.client().failed_dones(), 0U);
}

TEST_P(Conformance, SendWithImmediateCarriesBothWhereItIsOffered) {
  Pair pair(harness());
  const Bytes bytes = pattern(33);
  const iovec part = vec(bytes);
  Work work = send_work(one(part), 1);
  work.op = Work::Op::send_imm;
  work.immediate = 77;
  if (!harness().client(0).capabilities().send_imm) {
    EXPECT_EQ(pair.client().post(work), from_errno(EOPNOTSUPP));
    return;
  }
  pair.server().post_receives(1, 64);
  ASSERT_EQ(pair.client().post(work), std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 1; }));
  EXPECT_EQ(pair.server().received[0].kind, ReceiveEvent::Kind::send_with_immediate);
  EXPECT_EQ(pair.server().received[0].immediate, 77U);
  EXPECT_EQ(pair.server().received[0].bytes, bytes);
}

TEST_P(Conformance, SendsAndImmediatesKeepTheirOrder) {
  Pair pair(harness());
  pair.server().post_receives(60, 64);
  std::vector<Bytes> texts;
  for (std::size_t i = 0; i < 30; ++i) texts.push_back(pattern(i + 1, i));
  for (std::uint32_t i = 0; i < 30; ++i) {
    const iovec part = vec(texts[i]);
    const Work batch[] = {send_work(one(part)), immediate_work(i)};
    ASSERT_EQ(pair.client().post(batch), std::error_code());
  }
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 60; }));
  for (std::size_t i = 0; i < 30; ++i) {
    EXPECT_EQ(pair.server().received[2 * i].bytes, texts[i]);
    EXPECT_EQ(pair.server().received[2 * i + 1].immediate, i);
    EXPECT_EQ(pair.server().received[2 * i].cookie, 2 * i + 1);
  }
}

TEST_P(Conformance, BothDirectionsFlowAtOnce) {
  Pair pair(harness());
  const Bytes bytes = pattern(1048576);
  const iovec part = vec(bytes);
  Memory& up =
      pair.server_memory({.size = bytes.size(), .access = Access::remote_write, .chunk_size = 0});
  Memory& down =
      pair.client_memory({.size = bytes.size(), .access = Access::remote_write, .chunk_size = 0});
  pair.server().post_receives(16);
  pair.client().post_receives(16);
  for (std::uint32_t i = 0; i < 16; ++i) {
    ASSERT_EQ(pair.client().post(write_imm_work(one(part), up.remote(0, bytes.size()), i)),
              std::error_code());
    ASSERT_EQ(pair.server().post(write_imm_work(one(part), down.remote(0, bytes.size()), i)),
              std::error_code());
  }
  ASSERT_TRUE(
      run_until([&] { return pair.server().messages() == 16 && pair.client().messages() == 16; },
                std::chrono::seconds(30)));
  EXPECT_TRUE(std::ranges::equal(up.bytes(), bytes));
  EXPECT_TRUE(std::ranges::equal(down.bytes(), bytes));
}

TEST_P(Conformance, CompletionsComeInOrderOnceAndOnlyToWhomWantsThem) {
  Pair pair(harness());
  pair.server().post_receives(20);
  for (std::uint32_t i = 1; i <= 20; ++i) {
    ASSERT_EQ(pair.client().post(immediate_work(i, i % 3 == 0 ? 0 : i)), std::error_code());
  }
  ASSERT_TRUE(run_until([&] { return pair.client().dones.size() == 14; }));
  settle();
  ASSERT_EQ(pair.client().dones.size(), 14U);
  std::uint64_t last = 0;
  for (const auto& [cookie, error] : pair.client().dones) {
    EXPECT_GT(cookie, last);
    EXPECT_NE(cookie % 3, 0U);
    EXPECT_EQ(error, std::error_code());
    last = cookie;
  }
}

TEST_P(Conformance, ABufferMayBeReusedOnceItIsDone) {
  Pair pair(harness());
  Memory& memory =
      pair.server_memory({.size = 20 * 70000, .access = Access::remote_write, .chunk_size = 0});
  Bytes bytes(70000);
  std::uint32_t next = 0;
  const auto post_next = [&] {
    std::ranges::fill(bytes, std::byte(next + 1));
    iovec part = vec(std::span(bytes));  // the array itself is copied: it dies with this call
    EXPECT_EQ(pair.client().post(
                  write_imm_work(one(part), memory.remote(next * 70000, 70000), next, next + 1)),
              std::error_code());
    ++next;
    part = {};
  };
  pair.client().done_hook = [&](std::uint64_t) {
    if (next < 20) post_next();
  };
  pair.server().post_receives(20);
  post_next();
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 20; }));
  for (std::size_t i = 0; i < 20; ++i) {
    const auto slice = memory.bytes().subspan(i * 70000, 70000);
    EXPECT_TRUE(std::ranges::all_of(slice, [&](std::byte b) { return b == std::byte(i + 1); }))
        << i;
  }
}

TEST_P(Conformance, ABatchThatDoesNotFitIsNotPostedAtAll) {
  Pair pair(harness(), 1, {.send_depth = 8, .receive_depth = 32, .windows = 0});
  pair.server().post_receives(16);
  std::vector<Work> batch(9, immediate_work(1, 1));
  EXPECT_EQ(pair.client().post(batch), from_errno(ENOBUFS));
  batch.assign(8, immediate_work(2, 2));
  EXPECT_EQ(pair.client().post(batch), std::error_code());
  EXPECT_EQ(pair.client().post(immediate_work(3, 3)), from_errno(ENOBUFS));
  ASSERT_TRUE(run_until([&] { return pair.client().dones.size() == 8; }));
  EXPECT_EQ(pair.client().post(batch), std::error_code());  // the depth is free again
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 16; }));
  settle();
  EXPECT_EQ(pair.server().messages(), 16U);
  for (const Received& one_of : pair.server().received) EXPECT_EQ(one_of.immediate, 2U);
}

TEST_P(Conformance, UnannouncedCompletionsFreeTheirDepthToo) {
  Pair pair(harness(), 1, {.send_depth = 2, .receive_depth = 8, .windows = 0});
  pair.server().post_receives(8);
  for (std::uint32_t i = 0; i < 8; ++i) {
    ASSERT_TRUE(run_until([&] { return !pair.client().post(immediate_work(i)); })) << i;
  }
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 8; }));
  EXPECT_TRUE(pair.client().dones.empty());
}

}  // namespace rnbd::fabric::conformance
