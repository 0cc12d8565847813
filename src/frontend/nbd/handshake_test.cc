#include "frontend/nbd/handshake.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/random.h"

namespace rnbd::nbd {
namespace {

using wire::NbdOption;
using wire::NbdOptionReply;

class Exports final : public ExportDirectory {
 public:
  std::vector<std::string> names() const override { return names_; }
  bool find(std::string_view name, bool structured, ExportInfo& info) const override {
    for (const std::string& known : names_) {
      if (known != name && !(name.empty() && names_.size() == 1)) continue;
      info = describe(known, "words", limits_, {.structured = structured});
      return true;
    }
    return false;
  }
  std::vector<std::string> names_{"disk"};
  block::Limits limits_{.size = 1 << 20, .logical_block_size = 4096, .physical_block_size = 8192};
};

struct Reply {
  NbdOption option{};
  NbdOptionReply type{};
  std::string data;
};

class HandshakeTest : public ::testing::Test {
 protected:
  // Feeds bytes one by one through a buffer, as a slow client would send them.
  void feed(const std::string& text) {
    for (const char c : text) {
      pending_.push_back(static_cast<std::byte>(c));
      const std::size_t used = handshake_.feed(pending_);
      pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(used));
    }
  }
  static std::string number(std::uint64_t value, int bytes) {
    std::string text;
    for (int i = bytes - 1; i >= 0; --i) text.push_back(static_cast<char>(value >> (8 * i)));
    return text;
  }
  static std::string option(NbdOption option, const std::string& data = "") {
    return number(wire::kNbdOptionMagic, 8) + number(static_cast<std::uint32_t>(option), 4) +
           number(data.size(), 4) + data;
  }
  static std::string info(const std::string& name, std::initializer_list<int> wanted = {}) {
    std::string data = number(name.size(), 4) + name + number(wanted.size(), 2);
    for (const int what : wanted) data += number(static_cast<std::uint64_t>(what), 2);
    return data;
  }
  void begin(std::uint32_t flags = 3) {
    handshake_.output().clear();
    feed(number(flags, 4));
  }
  std::vector<Reply> replies() {
    std::vector<Reply> all;
    wire::Reader reader(handshake_.output());
    while (const auto header = reader.take<wire::layout::NbdOptionReplyHeader>()) {
      EXPECT_EQ(header->magic, wire::kNbdOptionReplyMagic);
      const auto data = reader.take_bytes(header->length);
      EXPECT_TRUE(data);
      all.push_back({static_cast<NbdOption>(header->option.value()),
                     static_cast<NbdOptionReply>(header->type.value()),
                     std::string(reinterpret_cast<const char*>(data->data()), data->size())});
    }
    handshake_.output().clear();
    return all;
  }
  Exports exports_;
  Handshake handshake_{exports_};
  std::vector<std::byte> pending_;
};

TEST_F(HandshakeTest, GreetsWithFixedNewstyleAndNoZeroes) {
  EXPECT_EQ(handshake_.output().size(), 18U);
  EXPECT_EQ(std::memcmp(handshake_.output().data(), "NBDMAGICIHAVEOPT\0\3", 18), 0);
}

TEST_F(HandshakeTest, EndsOnClientFlagsItDidNotOffer) {
  begin(0x80000003);
  EXPECT_EQ(handshake_.state(), Handshake::State::ended);
}

TEST_F(HandshakeTest, GoTellsSizeFlagsBlockSizesNameAndDescription) {
  begin();
  feed(option(NbdOption::go, info("disk", {1, 2, 3})));
  const auto all = replies();
  ASSERT_EQ(all.size(), 5U);
  EXPECT_EQ(all[0].data,
            number(0, 2) + number(1 << 20, 8) + number(handshake_.chosen().geometry.flags, 2));
  EXPECT_EQ(all[1].data, number(3, 2) + number(4096, 4) + number(8192, 4) + number(32 << 20, 4));
  EXPECT_EQ(all[2].data, number(1, 2) + "disk");
  EXPECT_EQ(all[3].data, number(2, 2) + "words");
  EXPECT_EQ(all[4].type, NbdOptionReply::ack);
  EXPECT_EQ(handshake_.state(), Handshake::State::transmission);
}

TEST_F(HandshakeTest, InfoLeavesTheClientNegotiating) {
  begin();
  feed(option(NbdOption::info, info("disk")));
  EXPECT_EQ(replies().size(), 3U);
  EXPECT_EQ(handshake_.state(), Handshake::State::negotiating);
}

TEST_F(HandshakeTest, FlagsFollowTheLimitsOfTheDevice) {
  exports_.limits_.read_only = true;
  begin();
  feed(option(NbdOption::structured_reply) + option(NbdOption::go, info("")));
  EXPECT_TRUE(handshake_.structured());
  const unsigned flags = handshake_.chosen().geometry.flags;
  EXPECT_EQ(flags, wire::kNbdHasFlags | wire::kNbdReadOnly | wire::kNbdSendFlush |
                       wire::kNbdSendFua | wire::kNbdCanMultiConn | wire::kNbdSendDf);
  exports_.limits_ = {.size = 512, .max_discard = 512, .max_write_zeroes = 512};
  ExportInfo info;
  ASSERT_TRUE(exports_.find("disk", false, info));
  EXPECT_EQ(info.geometry.flags, wire::kNbdHasFlags | wire::kNbdSendFlush | wire::kNbdSendFua |
                                     wire::kNbdCanMultiConn | wire::kNbdSendTrim |
                                     wire::kNbdSendWriteZeroes);
}

TEST_F(HandshakeTest, TheEmptyNameMeansTheOnlyExportAndNothingWhenThereAreTwo) {
  exports_.names_ = {"a", "b"};
  begin();
  feed(option(NbdOption::go, info("")));
  EXPECT_EQ(replies().back().type, NbdOptionReply::error_unknown);
  exports_.names_ = {"a"};
  feed(option(NbdOption::go, info("")));
  EXPECT_EQ(handshake_.chosen().name, "a");
}

TEST_F(HandshakeTest, ListsEveryExport) {
  exports_.names_ = {"a", "volume"};
  begin();
  feed(option(NbdOption::list));
  const auto all = replies();
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[0].data, number(1, 4) + "a");
  EXPECT_EQ(all[1].data, number(6, 4) + "volume");
  EXPECT_EQ(all[2].type, NbdOptionReply::ack);
}

TEST_F(HandshakeTest, ExportNameAnswersWithZeroesUnlessAgreedAway) {
  begin(1);
  feed(option(NbdOption::export_name, "disk"));
  EXPECT_EQ(handshake_.output().size(), 10U + 124U);
  EXPECT_EQ(handshake_.state(), Handshake::State::transmission);
}

TEST_F(HandshakeTest, ExportNameOfAnUnknownExportCanOnlyClose) {
  begin();
  feed(option(NbdOption::export_name, "nothing"));
  EXPECT_TRUE(handshake_.output().empty());
  EXPECT_EQ(handshake_.state(), Handshake::State::ended);
}

TEST_F(HandshakeTest, AcknowledgesAbortAndEnds) {
  begin();
  feed(option(NbdOption::abort));
  EXPECT_EQ(replies().at(0).type, NbdOptionReply::ack);
  EXPECT_EQ(handshake_.state(), Handshake::State::ended);
}

TEST_F(HandshakeTest, RefusesWhatItDoesNotKnowAndGoesOn) {
  begin();
  for (const int unknown : {5, 9, 10, 11, 4711}) feed(option(static_cast<NbdOption>(unknown), "x"));
  const auto all = replies();
  ASSERT_EQ(all.size(), 5U);
  for (const Reply& reply : all) EXPECT_EQ(reply.type, NbdOptionReply::error_unsupported);
  EXPECT_EQ(handshake_.state(), Handshake::State::negotiating);
}

TEST_F(HandshakeTest, RefusesMalformedOptionsAndGoesOn) {
  begin();
  feed(option(NbdOption::list, "x") + option(NbdOption::structured_reply, "x") +
       option(NbdOption::go, "x") + option(NbdOption::go, number(100, 4) + "short") +
       option(NbdOption::info, info("disk") + "tail"));
  const auto all = replies();
  ASSERT_EQ(all.size(), 5U);
  for (const Reply& reply : all) EXPECT_EQ(reply.type, NbdOptionReply::error_invalid);
  EXPECT_FALSE(handshake_.structured());
}

TEST_F(HandshakeTest, SkipsOptionDataThatIsTooLong) {
  begin();
  const std::string data(wire::kNbdOptionLengthMax + 1, 'x');
  feed(option(NbdOption::info, data) + option(NbdOption::abort));
  const auto all = replies();
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].type, NbdOptionReply::error_too_big);
  EXPECT_EQ(all[1].type, NbdOptionReply::ack);
}

TEST_F(HandshakeTest, EndsOnAWrongMagic) {
  begin();
  feed(std::string(16, 'x'));
  EXPECT_EQ(handshake_.state(), Handshake::State::ended);
}

TEST_F(HandshakeTest, TakesRandomBytesInAnyState) {
  const std::uint64_t seed = 7;
  SCOPED_TRACE(seed);
  SeededRandom random(seed);
  for (int round = 0; round < 300; ++round) {
    Handshake handshake(exports_);
    std::string text = number(3, 4);
    for (int i = 0; i < 8; ++i) {
      std::string data(random.below(40), 'a');
      for (char& c : data) c = static_cast<char>(random.below(6));
      text += option(static_cast<NbdOption>(random.below(12)), data);
    }
    text[4 + random.below(text.size() - 4)] ^= static_cast<char>(random.below(256));
    std::vector<std::byte> bytes;
    for (const char c : text) bytes.push_back(static_cast<std::byte>(c));
    std::size_t at = 0;
    while (at < bytes.size()) {
      const std::size_t used = handshake.feed(std::span(bytes).subspan(at));
      ASSERT_LE(used, bytes.size() - at);
      if (used == 0) break;
      at += used;
    }
  }
}

}  // namespace
}  // namespace rnbd::nbd
