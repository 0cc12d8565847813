// Who may write where: memory, windows, gates, and what becomes of a connection that reaches too
// far.

#include <algorithm>
#include <functional>

#include "fabric/conformance/end.h"

namespace rnbd::fabric::conformance {
namespace {

std::span<const iovec> one(const iovec& part) { return {&part, 1}; }

// After a write that is a fault: the receiver knows why, the sender learns that it was thrown out,
// and what came behind the write is not delivered.
void expect_fault(Harness& harness, End& sender, End& receiver, const Work& work) {
  receiver.post_receives(2);
  const std::size_t before = receiver.messages();
  const Work batch[] = {work, immediate_work(99, 98)};
  ASSERT_EQ(sender.post(batch), std::error_code());
  receiver.wait_closed(harness);
  sender.wait_closed(harness);
  EXPECT_EQ(receiver.why, Errc::remote_access) << receiver.why.message();
  EXPECT_EQ(sender.why, Errc::peer_terminated) << sender.why.message();
  EXPECT_EQ(receiver.messages(), before);
}

}  // namespace

TEST_P(Conformance, MemoryMayBeWrittenToItsLastByteAndNotBeyond) {
  struct Case {
    std::uint64_t offset;
    std::size_t length;
  };
  const Bytes bytes = pattern(4097);
  for (const Case reach : {Case{4096, 1}, Case{4095, 2}, Case{0, 4097}, Case{~std::uint64_t{0}, 1},
                           Case{std::uint64_t{1} << 40, 16}, Case{0 - std::uint64_t{8}, 16}}) {
    SCOPED_TRACE(reach.offset);
    Pair pair(harness());
    Memory& memory =
        pair.server_memory({.size = 4096, .access = Access::remote_write, .chunk_size = 0});
    const iovec whole{const_cast<std::byte*>(bytes.data()), 4096};
    pair.server().post_receives(1);
    ASSERT_EQ(pair.client().post(write_imm_work(one(whole), memory.remote(0, 4096), 1)),
              std::error_code());
    ASSERT_TRUE(run_until([&] { return pair.server().messages() == 1; }));
    std::ranges::fill(memory.bytes(), std::byte{0});
    const iovec part{const_cast<std::byte*>(bytes.data()), reach.length};
    expect_fault(harness(), pair.client(), pair.server(),
                 write_work(one(part), at(memory.remote(0, 4096), reach.offset), 1));
  }
}

TEST_P(Conformance, AKeyThatWasNeverGivenIsAFault) {
  for (const std::uint32_t flip : {1u, 0x80u, 0x10000u, 0x80000000u, 0xffffffffu}) {
    SCOPED_TRACE(flip);
    Pair pair(harness());
    Memory& memory =
        pair.server_memory({.size = 4096, .access = Access::remote_write, .chunk_size = 0});
    const Bytes bytes = pattern(16);
    const iovec part = vec(bytes);
    RemoteSpan span = memory.remote(0, 16);
    span.key ^= flip;
    expect_fault(harness(), pair.client(), pair.server(), write_imm_work(one(part), span, 1, 1));
    EXPECT_TRUE(std::ranges::all_of(memory.bytes(), [](std::byte b) { return b == std::byte{0}; }));
  }
}

TEST_P(Conformance, KeyZeroIsNeverValid) {
  Pair pair(harness());
  const Bytes bytes = pattern(16);
  const iovec part = vec(bytes);
  expect_fault(harness(), pair.client(), pair.server(), write_work(one(part), {}, 1));
}

TEST_P(Conformance, LocalMemoryIsNotForPeers) {
  Pair pair(harness());
  Memory& memory =
      pair.server_memory({.size = 4096, .access = Access::local_only, .chunk_size = 0});
  const Bytes bytes = pattern(16);
  const iovec part = vec(bytes);
  expect_fault(harness(), pair.client(), pair.server(),
               write_work(one(part), memory.remote(0, 16), 1));
}

TEST_P(Conformance, MemoryOfAnotherDomainIsNotReached) {
  Pair pair(harness());
  Pair other(harness());
  Memory& memory =
      other.server_memory({.size = 4096, .access = Access::remote_write, .chunk_size = 0});
  const Bytes bytes = pattern(16);
  const iovec part = vec(bytes);
  expect_fault(harness(), pair.client(), pair.server(),
               write_work(one(part), memory.remote(0, 16), 1));
  EXPECT_TRUE(std::ranges::all_of(memory.bytes(), [](std::byte b) { return b == std::byte{0}; }));
  EXPECT_EQ(other.server().closed, 0);
}

TEST_P(Conformance, AllConnectionsOfADomainReachItsMemory) {
  Pair pair(harness(), 3);
  Memory& memory =
      pair.server_memory({.size = 3 * 4096, .access = Access::remote_write, .chunk_size = 0});
  const Bytes bytes = pattern(4096);
  const iovec part = vec(bytes);
  for (std::size_t i = 0; i < 3; ++i) {
    pair.server(i).post_receives(1);
    ASSERT_EQ(pair.client(i).post(write_imm_work(one(part), memory.remote(i * 4096, 4096), 1)),
              std::error_code());
  }
  const auto all = [&] {
    return pair.server(0).messages() == 1 && pair.server(1).messages() == 1 &&
           pair.server(2).messages() == 1;
  };
  ASSERT_TRUE(run_until(all));
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(std::ranges::equal(memory.bytes().subspan(i * 4096, 4096), bytes));
  }
}

TEST_P(Conformance, ConnectionsOfOneDomainMayLiveOnSeveralLoops) {
  if (harness().client_count() < 2) GTEST_SKIP() << "one client loop only";
  Pair pair(harness());
  pair.connect_one(kDefaultOptions, 1);
  Memory& memory =
      pair.client_memory({.size = 8192, .access = Access::remote_write, .chunk_size = 0});
  const Bytes bytes = pattern(4096);
  const iovec part = vec(bytes);
  for (std::size_t i = 0; i < 2; ++i) {
    pair.client(i).post_receives(1);
    pair.client(i).post(write_work({}, {}));  // the initiator speaks first
    ASSERT_EQ(pair.server(i).post(write_imm_work(one(part), memory.remote(i * 4096, 4096), 1)),
              std::error_code());
  }
  ASSERT_TRUE(
      run_until([&] { return pair.client(0).messages() == 1 && pair.client(1).messages() == 1; }));
  EXPECT_TRUE(std::ranges::equal(memory.bytes().first(4096), bytes));
  EXPECT_TRUE(std::ranges::equal(memory.bytes().last(4096), bytes));
}

TEST_P(Conformance, AShutGateIsAFaultAndAnOpenOneIsNot) {
  if (!harness().enforces_gates()) GTEST_SKIP() << "no gates";
  if (harness().server().capabilities().keyed_gates) GTEST_SKIP() << "gates have keys";
  struct Case {
    std::size_t offset;
    std::size_t length;
    bool fault;  // with the gate of chunk 1, bytes 4096 to 8191, shut
  };
  const Bytes bytes = pattern(3 * 4096);
  for (const Case reach : {Case{0, 4096, false}, Case{8192, 4096, false}, Case{4096, 1, true},
                           Case{8191, 1, true}, Case{4095, 2, true}, Case{0, 12288, true}}) {
    SCOPED_TRACE(reach.offset);
    Pair pair(harness());
    Memory& memory =
        pair.server_memory({.size = 12288, .access = Access::remote_write, .chunk_size = 4096});
    memory.set_gate(1, false);
    const iovec part{const_cast<std::byte*>(bytes.data()), reach.length};
    const Work work = write_imm_work(one(part), memory.remote(reach.offset, reach.length), 1, 1);
    if (reach.fault) {
      expect_fault(harness(), pair.client(), pair.server(), work);
      const auto shut = memory.bytes().subspan(4096, 4096);
      EXPECT_TRUE(std::ranges::all_of(shut, [](std::byte b) { return b == std::byte{0}; }));
      continue;
    }
    pair.server().post_receives(2);
    ASSERT_EQ(pair.client().post(work), std::error_code());
    ASSERT_TRUE(run_until([&] { return pair.server().messages() == 1; }));
    memory.set_gate(1, true);
    const iovec all = vec(bytes);
    ASSERT_EQ(pair.client().post(write_imm_work(one(all), memory.remote(0, 12288), 2)),
              std::error_code());
    ASSERT_TRUE(run_until([&] { return pair.server().messages() == 2; }));
    EXPECT_TRUE(std::ranges::equal(memory.bytes(), bytes));
  }
}

TEST_P(Conformance, AWindowEndsWhereItsBuffersEnd) {
  if (!harness().enforces_windows()) GTEST_SKIP() << "no windows";
  for (const bool below : {false, true}) {
    Pair pair(harness());
    Bytes target(3 * 1000);
    const iovec scatter[] = {vec(std::span(target).first(500)),
                             vec(std::span(target).subspan(1000, 500))};
    const RemoteSpan window = pair.server().expose(0, scatter);
    const Bytes bytes = pattern(2);
    const iovec part = vec(bytes);
    const RemoteSpan reach = below ? at(window, 0 - std::uint64_t{1}) : at(window, 999);
    expect_fault(harness(), pair.client(), pair.server(), write_work(one(part), reach, 1));
    EXPECT_EQ(target[1500], std::byte{0});
    EXPECT_EQ(target[500], std::byte{0});
  }
}

TEST_P(Conformance, AHiddenWindowIsAFault) {
  if (!harness().enforces_windows()) GTEST_SKIP() << "no windows";
  Pair pair(harness());
  Bytes target(4096);
  const RemoteSpan window = pair.server().expose(2, std::span(target));
  pair.server().hide(2);
  pair.server().hide(2);  // a no-op
  const Bytes bytes = pattern(16);
  const iovec part = vec(bytes);
  expect_fault(harness(), pair.client(), pair.server(), write_imm_work(one(part), window, 1, 1));
  EXPECT_EQ(target, Bytes(4096));
}

TEST_P(Conformance, HidingStopsWritesThatAreUnderWay) {
  if (!harness().enforces_windows()) GTEST_SKIP() << "no windows";
  Pair pair(harness());
  const Bytes bytes(200000, std::byte{0xff});
  Bytes target(bytes.size());
  const iovec part = vec(bytes);
  const RemoteSpan window = pair.server().expose(0, std::span(target));
  for (int i = 0; i < 20; ++i)
    ASSERT_EQ(pair.client().post(write_work(one(part), window)), std::error_code());
  run_until([&] { return target[0] != std::byte{0}; });  // the first has begun to arrive
  pair.server().hide(0);
  std::ranges::fill(target, std::byte{0x11});
  pair.server().wait_closed(harness());
  EXPECT_EQ(pair.server().why, Errc::remote_access);
  EXPECT_TRUE(std::ranges::all_of(target, [](std::byte b) { return b == std::byte{0x11}; }));
  pair.close_all();
}

TEST_P(Conformance, EachExposureHasAKeyOfItsOwnAndOldOnesAreDead) {
  if (!harness().enforces_windows()) GTEST_SKIP() << "no windows";
  Pair pair(harness());
  Bytes target(64);
  std::vector<std::uint32_t> keys;
  const RemoteSpan old = pair.server().expose(0, std::span(target));
  for (int i = 0; i < 300; ++i) {
    pair.server().hide(0);
    keys.push_back(pair.server().expose(0, std::span(target)).key);
    EXPECT_NE(keys.back(), old.key);
    if (i > 0) {
      EXPECT_NE(keys.back(), keys[keys.size() - 2]);
    }
  }
  const Bytes bytes = pattern(16);
  const iovec part = vec(bytes);
  RemoteSpan stale = old;
  expect_fault(harness(), pair.client(), pair.server(), write_work(one(part), stale, 1));
  EXPECT_EQ(target, Bytes(64));
}

TEST_P(Conformance, AWindowBelongsToItsConnection) {
  if (!harness().enforces_windows()) GTEST_SKIP() << "no windows";
  Pair pair(harness(), 2);
  Bytes target(64);
  const RemoteSpan window = pair.server(0).expose(0, std::span(target));
  const Bytes bytes = pattern(16);
  const iovec part = vec(bytes);
  expect_fault(harness(), pair.client(1), pair.server(1), write_work(one(part), window, 1));
  EXPECT_EQ(target, Bytes(64));
  pair.server(0).post_receives(1);
  ASSERT_EQ(pair.client(0).post(write_imm_work(one(part), window, 1)), std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.server(0).messages() == 1; }));
  pair.server(0).hide(0);
  EXPECT_TRUE(std::ranges::equal(std::span(target).first(16), bytes));
}

TEST_P(Conformance, WhatComesAfterHidingDoesNotReachTheMemory) {
  Pair pair(harness());
  const Bytes first(5000, std::byte{0xaa});
  const Bytes second(5000, std::byte{0xbb});
  Bytes target(5000);
  const RemoteSpan window = pair.server().expose(0, std::span(target));
  const iovec parts[] = {vec(first), vec(second)};
  pair.server().post_receives(2);
  ASSERT_EQ(pair.client().post(write_imm_work(std::span(parts).first(1), window, 1, 1)),
            std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 1; }));
  EXPECT_TRUE((*pair.server()).filled(0));
  pair.server().hide(0);
  EXPECT_EQ(target, first);
  ASSERT_EQ(pair.client().post(write_imm_work(std::span(parts).last(1), window, 2, 2)),
            std::error_code());
  // Either it is a fault, or it goes nowhere.
  ASSERT_TRUE(
      run_until([&] { return pair.server().messages() == 2 || pair.server().closed == 1; }));
  EXPECT_EQ(target, first);
  pair.close_all();
  EXPECT_EQ(target, first);
}

TEST_P(Conformance, WhatComesForAForgottenWindowGoesNowhere) {
  Pair pair(harness());
  const Bytes bytes = pattern(200'000);
  Bytes target(bytes.size(), std::byte{0x11});
  const Bytes before = target;
  const RemoteSpan window = pair.server().expose(0, std::span(target));
  const iovec part = vec(bytes);
  pair.server().post_receives(2);
  pair.server().forget(0);
  ASSERT_EQ(pair.client().post(write_imm_work(one(part), window, 1)), std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 1; }));
  EXPECT_EQ(target, before);
  EXPECT_TRUE((*pair.server()).filled(0));
  pair.server().hide(0);
  EXPECT_EQ(target, before);
  // The window serves again.
  const RemoteSpan next = pair.server().expose(0, std::span(target));
  ASSERT_EQ(pair.client().post(write_imm_work(one(part), next, 2)), std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 2; }));
  pair.server().hide(0);
  EXPECT_EQ(target, bytes);
}

TEST_P(Conformance, ForgettingAWindowThatIsBeingWrittenLetsGoAtOnce) {
  Pair pair(harness());
  const Bytes bytes(200'000, std::byte{0xff});
  Bytes target(bytes.size());
  const RemoteSpan window = pair.server().expose(0, std::span(target));
  const iovec part = vec(bytes);
  pair.server().post_receives(1);
  for (int i = 0; i < 20; ++i)
    ASSERT_EQ(pair.client().post(write_work(one(part), window)), std::error_code());
  ASSERT_EQ(pair.client().post(write_imm_work(one(part), window, 1)), std::error_code());
  run_until([&] { return target[0] != std::byte{0} || pair.server().messages() == 1; });
  pair.server().forget(0);
  std::ranges::fill(target, std::byte{0x11});
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 1; }));
  pair.server().hide(0);
  EXPECT_TRUE(std::ranges::all_of(target, [](std::byte b) { return b == std::byte{0x11}; }));
  EXPECT_EQ(pair.server().closed, 0);
}

TEST_P(Conformance, AnExposedWindowThatNobodyWroteToIsNotFilled) {
  Pair pair(harness());
  if (!harness().knows_what_is_filled()) GTEST_SKIP() << "this fabric cannot tell";
  Bytes target(4096);
  const Bytes bytes = pattern(4096);
  const iovec front = vec(std::span(bytes).first(2048));
  const iovec back = vec(std::span(bytes).last(2048));
  const RemoteSpan window = pair.server().expose(0, std::span(target));
  EXPECT_FALSE((*pair.server()).filled(0));
  pair.server().post_receives(2);
  ASSERT_EQ(pair.client().post(write_imm_work(one(front), window, 1)), std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 1; }));
  EXPECT_FALSE((*pair.server()).filled(0));
  ASSERT_EQ(pair.client().post(write_imm_work(one(back), at(window, 2048), 2)), std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.server().messages() == 2; }));
  EXPECT_TRUE((*pair.server()).filled(0));
}

TEST_P(Conformance, WindowsOfOneConnectionAreIndependent) {
  Pair pair(harness());
  std::vector<Bytes> targets(8, Bytes(1000));
  std::vector<RemoteSpan> windows;
  for (std::uint32_t i = 0; i < 8; ++i)
    windows.push_back(pair.server().expose(i, std::span(targets[i])));
  pair.server().hide(3);
  pair.server().post_receives(7);
  for (std::size_t i = 0; i < 8; ++i) {
    if (i == 3) continue;
    const Bytes bytes = pattern(1000, i);
    const iovec part = vec(bytes);
    const std::size_t before = pair.server().messages();
    ASSERT_EQ(pair.client().post(write_imm_work(one(part), windows[i], 1)), std::error_code());
    ASSERT_TRUE(run_until([&] { return pair.server().messages() == before + 1; }));
    pair.server().hide(static_cast<std::uint32_t>(i));
    EXPECT_EQ(targets[i], bytes);
  }
  EXPECT_EQ(targets[3], Bytes(1000));
}

TEST_P(Conformance, SendInvalidateKillsTheWindowBeforeItIsDelivered) {
  if (!harness().client(0).capabilities().remote_invalidate)
    GTEST_SKIP() << "no remote invalidation";
  Pair pair(harness());
  Bytes target(64);
  const RemoteSpan window = pair.client().expose(1, std::span(target));
  pair.client().post_receives(1, 16);
  const Bytes bytes = pattern(16);
  const iovec part = vec(bytes);
  bool fresh_key = false;
  pair.client().receive_hook = [&](const ReceiveEvent& event) {
    if (event.kind == ReceiveEvent::Kind::flushed) return;
    fresh_key = pair.client().expose(1, std::span(target)).key !=
                window.key;  // hidden: may be exposed again
  };
  Work work = send_work(one(part), 1);
  work.op = Work::Op::send_invalidate;
  work.invalidate_key = window.key;
  ASSERT_EQ(pair.server().post(work), std::error_code());
  ASSERT_TRUE(run_until([&] { return pair.client().messages() == 1; }));
  EXPECT_TRUE(fresh_key);
  EXPECT_EQ(pair.client().received[0].invalidated_key, window.key);
  EXPECT_EQ(pair.client().received[0].bytes, bytes);
  pair.client().receive_hook = nullptr;
  expect_fault(harness(), pair.server(), pair.client(), write_work(one(part), window, 1));
  EXPECT_EQ(target, Bytes(64));
}

TEST_P(Conformance, OnlyAKeyOfAnOpenWindowMayBeInvalidated) {
  if (!harness().client(0).capabilities().remote_invalidate)
    GTEST_SKIP() << "no remote invalidation";
  enum { unknown, hidden, memory_key, another_connection };
  for (const int which : {unknown, hidden, memory_key, another_connection}) {
    SCOPED_TRACE(which);
    Pair pair(harness(), 2);
    Bytes target(64);
    Memory& memory =
        pair.client_memory({.size = 64, .access = Access::remote_write, .chunk_size = 0});
    const RemoteSpan window = pair.client(0).expose(1, std::span(target));
    const RemoteSpan other = pair.client(1).expose(1, std::span(target));
    Work work = send_work({}, 1);
    work.op = Work::Op::send_invalidate;
    work.invalidate_key = window.key;
    if (which == unknown) work.invalidate_key ^= 0x5a0000;
    if (which == hidden) pair.client(0).hide(1);
    if (which == memory_key) work.invalidate_key = memory.remote(0, 64).key;
    if (which == another_connection) work.invalidate_key = other.key;
    expect_fault(harness(), pair.server(0), pair.client(0), work);
  }
}

}  // namespace rnbd::fabric::conformance
