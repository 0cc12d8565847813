#include "rtrs/server/chunk_gates.h"

#include <gtest/gtest.h>

#include "rtrs/testing/raw.h"

namespace rnbd::rtrs::testing {
namespace {

using server::ChunkGates;
using Taken = ChunkGates::Taken;

TEST(ChunkGates, AChunkIsTheClientsOnlyWhenItsOpeningIsDone) {
  ChunkGates gates(2);
  EXPECT_EQ(gates.take(1, 0, 7), Taken::no);  // never opened
  gates.opening(1);
  EXPECT_FALSE(gates.opened(1));
  EXPECT_EQ(gates.take(1, 0, 7), Taken::now);
  EXPECT_EQ(gates.take(1, 0, 7), Taken::no);  // ours
  EXPECT_EQ(gates.take(0, 0, 7), Taken::no);
}

TEST(ChunkGates, ARequestThatComesWhileItIsOpenedIsNextAndASecondOneBreaksTheProtocol) {
  ChunkGates gates(1);
  gates.opening(0);
  EXPECT_EQ(gates.take(0, 0xfffe, 0xfedcba98), Taken::later);
  EXPECT_EQ(gates.take(0, 1, 2), Taken::no);
  const auto next = gates.opened(0);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->cid, 0xfffe);
  EXPECT_EQ(next->immediate, 0xfedcba98);
  EXPECT_EQ(gates.take(0, 1, 2), Taken::no);  // ours again
}

// A server whose fabric has gates with keys, and a client of raw connections.
class KeyedGates : public ::testing::Test {
 protected:
  KeyedGates() : pair(make_options()), client(pair, 3) {
    set_log_options({.program = "rnbd", .level = LogLevel::off});
    client.establish();
  }
  ~KeyedGates() override { set_log_options({}); }
  static PairOptions make_options() {
    PairOptions options;
    options.server_loops = 2;
    options.server_fabric.keyed_gates = true;
    options.world.check_posted_bytes = false;
    return options;
  }
  // Takes the key the last answer brought.
  void renew(std::uint32_t chunk, const RawEnd& end) {
    const auto key = wire::parse_rkey_response(end.sends.back(), chunk);
    ASSERT_TRUE(key);
    EXPECT_NE(*key, client.chunks[chunk].key);
    client.chunks[chunk].key = *key;
  }
  void scribble(RawEnd& end, const wire::RemoteChunk& chunk) {
    end.post({.op = fabric::Work::Op::write, .remote = {chunk.address, chunk.key, 0}},
             std::array<std::byte, 4>{});
  }
  Pair pair;
  RawClient client;
};

TEST_F(KeyedGates, S10_EveryAnswerBringsANewKeyGoodOnEveryConnection) {
  EXPECT_TRUE(client.limits.new_rkey);
  EXPECT_EQ(client.chunks.size(), client.limits.queue_depth);
  std::vector<std::size_t> answers(client.ends.size());
  for (std::size_t i = 0; i < 30; ++i) {
    const std::size_t which = 1 + i % 2;
    RawEnd& end = *client.ends[which];
    StoreMessage message{};
    message.error = i % 3 == 0 ? 5 : 0;  // failures as well
    client.write_request(end, 4, 10, sizeof(StoreMessage), message);
    ASSERT_TRUE(client.answered(end, ++answers[which])) << i;
    EXPECT_EQ(end.immediates.back(), wire::encode_response(4, i % 3 == 0 ? 5 : 0));
    renew(4, end);
  }
}

TEST_F(KeyedGates, S6_WritingToABusyChunkIsAFaultOfTheWriter) {
  StoreMessage slow{};
  slow.delay_us = 100000;
  client.write_request(*client.ends[1], 3, 10, sizeof(StoreMessage), slow);
  pair.world().run_for(1ms);
  scribble(*client.ends[2], client.chunks[3]);
  EXPECT_TRUE(client.dropped());
}

TEST_F(KeyedGates, S6_TheKeyOfAnAnsweredRequestIsDead) {
  const auto old = client.chunks[3];
  client.write_request(*client.ends[1], 3, 10, sizeof(StoreMessage));
  ASSERT_TRUE(client.answered(*client.ends[1]));
  scribble(*client.ends[1], old);
  EXPECT_TRUE(client.dropped());
}

TEST_F(KeyedGates, R2_ARequestForAChunkThatIsNotTheClientsIsAFault) {
  StoreMessage slow{};
  slow.delay_us = 100000;
  client.write_request(*client.ends[1], 3, 10, sizeof(StoreMessage), slow);
  pair.world().run_for(1ms);
  client.ends[2]->immediate(wire::RequestImmediate(client.limits.queue_depth).encode(3, 100));
  EXPECT_TRUE(client.dropped());
}

// The client has the answer before the server hears that the gate is open.
TEST_F(KeyedGates, ARequestThatIsFasterThanTheCompletionOfTheOpeningIsServed) {
  for (std::size_t i = 0; i < 50; ++i) {
    SCOPED_TRACE(i);
    RawEnd& end = *client.ends[1 + i % 2];
    client.write_request(end, 0, 10, sizeof(StoreMessage));
    ASSERT_TRUE(client.answered(end, 1 + i / 2));
    renew(0, end);
  }
  EXPECT_TRUE(pair.store().mistakes().empty());
}

}  // namespace
}  // namespace rnbd::rtrs::testing
