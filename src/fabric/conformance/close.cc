// Closing: everything posted is handed back exactly once, then on_closed, last and once; and what
// the other side sees of it.

#include <algorithm>
#include <cerrno>
#include <set>

#include "fabric/conformance/end.h"

namespace rnbd::fabric::conformance {
namespace {

using namespace std::chrono_literals;

std::span<const iovec> one(const iovec& part) { return {&part, 1}; }

// Every cookie of `posted` work and of `receives` was handed back once.
void expect_all_handed_back(const End& end, std::size_t posted, std::size_t receives) {
  std::set<std::uint64_t> cookies;
  for (const auto& [cookie, error] : end.dones) {
    EXPECT_TRUE(cookies.insert(cookie).second) << "completed twice: " << cookie;
    EXPECT_TRUE(!error || error == Errc::flushed) << error.message();
  }
  EXPECT_EQ(end.dones.size(), posted);
  cookies.clear();
  for (const Received& one_of : end.received) EXPECT_TRUE(cookies.insert(one_of.cookie).second);
  EXPECT_EQ(end.received.size(), receives);
}

}  // namespace

TEST_P(Conformance, CloseHandsEverythingBackThenClosesOnce) {
  Pair pair(harness());
  pair.client().post_receives(10, 16);
  pair.server().post_receives(3);
  const Bytes bytes = pattern(100000);
  const iovec part = vec(bytes);
  Memory& memory =
      pair.server_memory({.size = bytes.size(), .access = Access::remote_write, .chunk_size = 0});
  pair.client().keep_order = true;
  for (std::uint64_t i = 1; i <= 30; ++i) {
    ASSERT_EQ(pair.client().post(write_work(one(part), memory.remote(0, bytes.size()), i)),
              std::error_code());
  }
  pair.client().close(from_errno(EINTR));
  pair.client().close(from_errno(EIO));  // a no-op
  pair.client().wait_closed(harness());
  pair.server().wait_closed(harness());
  settle();
  EXPECT_EQ(pair.client().why, from_errno(EINTR));
  EXPECT_EQ(pair.client().closed, 1);
  expect_all_handed_back(pair.client(), 30, 10);
  EXPECT_EQ(pair.client().order.back(), "closed");
  expect_all_handed_back(pair.server(), 0, 3);
}

TEST_P(Conformance, FlushedWorkAndReceivesComeInOrder) {
  Pair pair(harness());
  pair.client().post_receives(10);
  for (std::uint32_t i = 1; i <= 30; ++i)
    ASSERT_EQ(pair.client().post(immediate_work(i, i)), std::error_code());
  pair.client().close();
  pair.client().wait_closed(harness());
  for (std::size_t i = 0; i < 30; ++i) EXPECT_EQ(pair.client().dones[i].first, i + 1);
  for (std::size_t i = 0; i < 10; ++i) EXPECT_EQ(pair.client().received[i].cookie, i + 1);
}

TEST_P(Conformance, NothingCanBePostedAfterClose) {
  Pair pair(harness());
  pair.client().close();
  EXPECT_EQ(pair.client().post(immediate_work(1, 1)), from_errno(ENOTCONN));
  EXPECT_EQ(pair.client().post_receive({}, 1), from_errno(ENOTCONN));
  pair.client().hide(0);
  pair.client().wait_closed(harness());
  EXPECT_TRUE(pair.client().dones.empty());
  EXPECT_TRUE(pair.client().received.empty());
}

TEST_P(Conformance, ThePeerOfAClosedConnectionClosesToo) {
  for (const bool graceful : {false, true}) {
    SCOPED_TRACE(graceful);
    Pair pair(harness());
    pair.server().post_receives(5);
    pair.client().close(Errc::session_closed, graceful);
    EXPECT_TRUE(run_until([&] { return pair.server().closed == 1; }, 5s));
    EXPECT_TRUE(pair.server().why);
    if (graceful) {
      EXPECT_EQ(pair.server().why, Errc::peer_closed) << pair.server().why.message();
    }
    expect_all_handed_back(pair.server(), 0, 5);
  }
}

TEST_P(Conformance, AGracefulCloseDeliversWhatWasPosted) {
  Pair pair(harness());
  const Bytes bytes = pattern(100000);
  const iovec part = vec(bytes);
  Memory& memory = pair.server_memory(
      {.size = 20 * bytes.size(), .access = Access::remote_write, .chunk_size = 0});
  pair.server().post_receives(21);
  for (std::uint32_t i = 0; i < 20; ++i) {
    const RemoteSpan target = memory.remote(i * bytes.size(), bytes.size());
    ASSERT_EQ(pair.client().post(write_imm_work(one(part), target, i, i + 1)), std::error_code());
  }
  pair.client().close(Errc::session_closed, true);
  EXPECT_EQ(pair.client().post(immediate_work(1, 1)), from_errno(ENOTCONN));
  pair.client().wait_closed(harness());
  pair.server().wait_closed(harness());
  EXPECT_EQ(pair.server().messages(), 20U);
  for (std::size_t i = 0; i < 20; ++i) {
    EXPECT_TRUE(std::ranges::equal(memory.bytes().subspan(i * bytes.size(), bytes.size()), bytes))
        << i;
  }
  EXPECT_EQ(pair.client().why, Errc::session_closed);
  EXPECT_EQ(pair.server().why, Errc::peer_closed);
}

TEST_P(Conformance, AGracefulCloseOfAStalledConnectionEndsAnyway) {
  Pair pair(harness());
  const Bytes bytes = pattern(1048576);
  const iovec part = vec(bytes);
  Memory& memory =
      pair.server_memory({.size = bytes.size(), .access = Access::remote_write, .chunk_size = 0});
  ASSERT_EQ(pair.client().post(immediate_work(1, 1)), std::error_code());  // nobody receives it
  for (std::uint32_t i = 2; i <= 60; ++i) {
    ASSERT_EQ(pair.client().post(write_work(one(part), memory.remote(0, bytes.size()), i)),
              std::error_code());
  }
  pair.client().close(Errc::session_closed, true);
  EXPECT_TRUE(run_until([&] { return pair.client().closed == 1; }, 5s));
  expect_all_handed_back(pair.client(), 60, 0);
  EXPECT_EQ(pair.client().why, Errc::session_closed);
}

TEST_P(Conformance, BothSidesMayCloseAtOnce) {
  for (const bool graceful : {false, true}) {
    Pair pair(harness());
    pair.client().post_receives(3);
    pair.server().post_receives(3);
    pair.client().close(from_errno(EINTR), graceful);
    pair.server().close(from_errno(EIO), graceful);
    pair.client().wait_closed(harness());
    pair.server().wait_closed(harness());
    EXPECT_EQ(pair.client().why, from_errno(EINTR));
    EXPECT_EQ(pair.server().why, from_errno(EIO));
    expect_all_handed_back(pair.client(), 0, 3);
    expect_all_handed_back(pair.server(), 0, 3);
  }
}

TEST_P(Conformance, AHandlerMayCloseItsConnection) {
  enum Where { in_receive, in_done, in_connected };
  for (const Where where : {in_receive, in_done}) {
    SCOPED_TRACE(where);
    Pair pair(harness());
    pair.server().post_receives(10);
    pair.client().post_receives(2);
    std::size_t after = 0;
    if (where == in_receive) {
      pair.server().receive_hook = [&](const ReceiveEvent& event) {
        if (event.kind == ReceiveEvent::Kind::flushed) return;
        if (++after == 3) pair.server().close(from_errno(EINTR));
      };
    } else {
      pair.client().done_hook = [&](std::uint64_t) {
        if (++after == 3) pair.client().close(from_errno(EINTR));
      };
    }
    for (std::uint32_t i = 1; i <= 10; ++i) {
      const std::error_code posted = pair.client().post(immediate_work(i, i));
      ASSERT_EQ(posted, std::error_code());
    }
    pair.client().wait_closed(harness());
    pair.server().wait_closed(harness());
    EXPECT_EQ((where == in_receive ? pair.server() : pair.client()).why, from_errno(EINTR));
    if (where == in_receive) {
      EXPECT_EQ(pair.server().messages(), 3U);
    }
    expect_all_handed_back(pair.client(), 10, 2);
    expect_all_handed_back(pair.server(), 0, 10);
  }
}

TEST_P(Conformance, TheConnectionMayBeDestroyedInsideOnClosed) {
  Pair pair(harness());
  pair.server().post_receives(5);
  pair.client().post_receives(5);
  pair.client().destroy_when_closed = true;
  pair.server().destroy_when_closed = true;
  ASSERT_EQ(pair.client().post(immediate_work(1, 1)), std::error_code());
  pair.client().close();
  pair.client().wait_closed(harness());
  pair.server().wait_closed(harness());
  settle();
  EXPECT_EQ(pair.client().closed, 1);
}

TEST_P(Conformance, NotAByteOfMemoryIsTouchedAfterOnClosed) {
  for (const bool by_receiver : {true, false}) {
    Pair pair(harness());
    const Bytes bytes(300000, std::byte{0xff});
    const iovec part = vec(bytes);
    Memory& memory =
        pair.server_memory({.size = bytes.size(), .access = Access::remote_write, .chunk_size = 0});
    Bytes target(bytes.size());
    const RemoteSpan window = pair.server().expose(0, std::span(target));
    for (int i = 0; i < 20; ++i) {
      const Work batch[] = {write_work(one(part), memory.remote(0, bytes.size())),
                            write_work(one(part), window)};
      ASSERT_EQ(pair.client().post(batch), std::error_code());
    }
    run_until([&] { return memory.bytes()[0] != std::byte{0}; });
    (by_receiver ? pair.server() : pair.client()).close();
    pair.server().wait_closed(harness());
    std::ranges::fill(memory.bytes(), std::byte{0x11});
    std::ranges::fill(target, std::byte{0x11});
    pair.client().wait_closed(harness());
    settle();
    const auto untouched = [](std::byte b) { return b == std::byte{0x11}; };
    EXPECT_TRUE(std::ranges::all_of(memory.bytes(), untouched));
    EXPECT_TRUE(std::ranges::all_of(target, untouched));
  }
}

TEST_P(Conformance, PostedBytesAreNotReadAfterOnClosed) {
  Pair pair(harness());
  Memory& memory =
      pair.server_memory({.size = 1048576, .access = Access::remote_write, .chunk_size = 0});
  {
    const auto bytes =
        std::make_unique<Bytes>(pattern(1048576));  // gone, for a sanitizer to see, at the brace
    const iovec part = vec(std::span(*bytes));
    for (std::uint64_t i = 1; i <= 40; ++i) {
      ASSERT_EQ(pair.client().post(write_work(one(part), memory.remote(0, 1048576), i)),
                std::error_code());
    }
    run_until([&] { return !pair.client().dones.empty(); });
    pair.client().close();
    pair.client().wait_closed(harness());
  }
  pair.server().wait_closed(harness());
  expect_all_handed_back(pair.client(), 40, 0);
}

}  // namespace rnbd::fabric::conformance
