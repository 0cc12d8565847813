// What the kernel's RNBD client and server said to each other (tests/golden, captured by
// tests/vm/golden) is read by our parsers, and what our encoders make of it is the same bytes
// again.

#include <gtest/gtest.h>

#include <charconv>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "wire/rnbd.h"
#include "wire/rtrs.h"

namespace rnbd::wire {
namespace {

using Bytes = std::vector<std::byte>;

struct Line {
  std::string text;
  std::string sender;
  unsigned connection = 0;
  std::string operation;
  std::map<std::string, std::string> values;
  Bytes bytes;
};

// "00 ab*3 rkey*4 (01 02)*2": names stand for bytes chosen anew in every session; any will do.
class ByteText {
 public:
  explicit ByteText(const std::string& text) : in_(text) {}
  Bytes expand() {
    Bytes all;
    std::string word;
    while (in_ >> word) {
      const bool opens = word.front() == '(';
      if (opens) word.erase(0, 1);
      const bool closes = word.find(')') != std::string::npos;
      const std::string item = word.substr(0, word.find(')'));
      if (opens) group_.clear();
      Bytes& out = opens || in_group_ ? group_ : all;
      in_group_ = in_group_ || opens;
      append(out, item);
      if (!closes) continue;
      in_group_ = false;
      for (std::size_t i = number(word.substr(word.find(")*") + 2)); i > 0; --i)
        all.insert(all.end(), group_.begin(), group_.end());
    }
    return all;
  }

 private:
  static std::size_t number(const std::string& text) { return std::stoul(text); }
  static void append(Bytes& out, const std::string& item) {
    const std::size_t star = item.find('*');
    const std::size_t count = star == std::string::npos ? 1 : number(item.substr(star + 1));
    const std::string name = item.substr(0, star);
    const bool hex =
        name.size() == 2 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
    const unsigned value = hex ? static_cast<unsigned>(std::stoul(name, nullptr, 16))
                               : 0x40U + static_cast<unsigned>(name.size());
    out.insert(out.end(), count, static_cast<std::byte>(value));
  }
  std::istringstream in_;
  Bytes group_;
  bool in_group_ = false;
};

std::vector<Line> read_trace(const std::string& name) {
  std::ifstream file(std::string(RNBD_SOURCE_DIR "/tests/golden/") + name);
  EXPECT_TRUE(file) << name;
  std::vector<Line> lines;
  for (std::string text; std::getline(file, text);) {
    if (text.empty() || text.front() == '#') continue;
    const std::size_t colon = text.find(" :");
    Line& line = lines.emplace_back();
    line.text = text.substr(0, 120);
    std::istringstream head(text.substr(0, colon));
    head >> line.sender >> line.connection >> line.operation;
    for (std::string word; head >> word;)
      line.values[word.substr(0, word.find('='))] = word.substr(word.find('=') + 1);
    line.bytes = ByteText(text.substr(colon + 2)).expand();
  }
  return lines;
}

Bytes copy(ByteView view) { return {view.begin(), view.end()}; }
template <class Layout>
Bytes encoded(const Layout& layout) {
  return copy(bytes_of(layout));
}

class GoldenTrace : public ::testing::TestWithParam<const char*> {
 protected:
  void check(const Line& line);
  void check_info_response(const Line& line);
  void check_request(const Line& line, std::uint32_t immediate);
  void check_response(const Line& line, std::uint32_t immediate);
  void check_answer(const Line& line);
  ConnectAccept limits_;
  std::map<std::string, int> seen_;
};

void GoldenTrace::check_info_response(const Line& line) {
  const auto chunks = parse_info_response(line.bytes, limits_);
  ASSERT_TRUE(chunks);
  EXPECT_EQ(chunks->size(), limits_.queue_depth);
  const std::size_t count =
      (line.bytes.size() - sizeof(layout::InfoResponse)) / sizeof(layout::Descriptor);
  const std::uint32_t length =
      limits_.chunk_size() * limits_.queue_depth / static_cast<std::uint32_t>(count);
  const std::vector<Descriptor> regions(count,
                                        {chunks->front().address, chunks->front().key, length});
  EXPECT_EQ(encode_info_response(regions), line.bytes);
}

// Data, RNBD message and RTRS message, as far as they are there, end where the immediate says.
void GoldenTrace::check_request(const Line& line, std::uint32_t immediate) {
  const auto place = RequestImmediate(limits_.queue_depth).decode(immediate);
  const std::string& at = line.values.at("at");
  EXPECT_EQ(std::to_string(place.chunk), at.substr(0, at.find('+')));
  const auto begin = static_cast<std::uint32_t>(std::stoul(at.substr(at.find('+') + 1)));
  ASSERT_GE(place.offset, begin);
  const ByteView all(line.bytes);
  const ByteView header = all.subspan(place.offset - begin);
  const auto io = parse_io_request(header, place.offset, limits_.max_hdr_size);
  ASSERT_TRUE(io);
  EXPECT_FALSE(io->bad_target);
  const Bytes again = !io->read ? encoded(encode_write(io->usr_len))
                      : io->has_target
                          ? copy(encode_read(io->usr_len, io->target, io->need_invalidate).view())
                          : copy(encode_read(io->usr_len).view());
  EXPECT_EQ(again, copy(header));
  const ByteView user = all.subspan(io->data_length - begin, io->usr_len);
  const auto message = parse_rnbd_message(user);
  ASSERT_TRUE(message);
  EXPECT_EQ(std::visit([](const auto& m) { return encoded(encode(m)); }, *message), copy(user));
  if (const Io* request = std::get_if<Io>(&*message)) {
    EXPECT_FALSE(check_io(*request, {.read = io->read,
                                     .data_length = io->data_length,
                                     .reply_length = io->has_target ? io->target.length : 0}));
    ++seen_["io " + std::to_string(static_cast<int>(request->op))];
  }
  ++seen_["request"];
}

void GoldenTrace::check_response(const Line& line, std::uint32_t immediate) {
  const auto response = decode_response(immediate);
  EXPECT_LT(response.id, limits_.queue_depth);
  const bool invalidated = immediate_type(immediate) == ImmediateType::io_response_invalidated;
  EXPECT_EQ(encode_response(response.id, response.error, invalidated), immediate);
  ++seen_[response.error == 0 ? "response" : "refusal"];
  EXPECT_EQ(line.bytes.empty(), !limits_.new_rkey);
  if (line.bytes.empty()) return;
  const auto key = parse_rkey_response(line.bytes, response.id);
  ASSERT_TRUE(key);
  EXPECT_EQ(encoded(encode_rkey_response(static_cast<std::uint16_t>(response.id), *key)),
            line.bytes);
}

// What the server writes back on the service connection.
void GoldenTrace::check_answer(const Line& line) {
  if (line.bytes.front() ==
      std::byte{static_cast<unsigned char>(RnbdType::session_info_response)}) {
    const auto version = parse_session_info_response(line.bytes);
    ASSERT_TRUE(version);
    EXPECT_EQ(encoded(encode_session_info_response(*version)), line.bytes);
    ++seen_["session info"];
  } else {
    const auto open = parse_open_response(line.bytes);
    ASSERT_TRUE(open);
    EXPECT_EQ(encoded(encode(*open)), line.bytes);
    ++seen_["open"];
  }
}

void GoldenTrace::check(const Line& line) {
  const auto at = line.values.find("imm");
  const auto immediate = at == line.values.end()
                             ? 0U
                             : static_cast<std::uint32_t>(std::stoul(at->second, nullptr, 16));
  const bool client = line.sender == "client";
  if (line.operation == "request") {
    const auto request = parse_connect_request(line.bytes);
    ASSERT_TRUE(request);
    EXPECT_EQ(request->cid, line.connection);
    EXPECT_EQ(encoded(encode_connect_request(*request)), line.bytes);
  } else if (line.operation == "reply") {
    const auto accept = parse_connect_accept(line.bytes, line.connection == 0);
    ASSERT_TRUE(accept);
    EXPECT_EQ(encoded(encode_connect_accept(*accept)), line.bytes);
    limits_ = *accept;
  } else if (line.operation == "send") {
    if (!client) return check_info_response(line);
    const auto name = parse_info_request(line.bytes);
    ASSERT_TRUE(name);
    EXPECT_EQ(encoded(encode_info_request(*name)), line.bytes);
  } else if (at != line.values.end()) {
    const bool heartbeat = immediate == kHeartbeatImmediate || immediate == kHeartbeatAckImmediate;
    if (heartbeat) return void(++seen_["heartbeat"]);
    client ? check_request(line, immediate) : check_response(line, immediate);
  } else if (line.operation == "write" && line.connection == 0) {
    check_answer(line);
  }
}

TEST_P(GoldenTrace, U02_EveryMessageOfTheKernelsIsReadAndMadeAgain) {
  for (const Line& line : read_trace(GetParam())) {
    SCOPED_TRACE(line.text);
    check(line);
    ASSERT_FALSE(HasFatalFailure());
  }
  for (const char* kind :
       {"io 0", "io 1", "io 2", "io 3", "io 5", "session info", "open", "refusal", "heartbeat"})
    EXPECT_GT(seen_[kind], 0) << kind;
  EXPECT_GE(seen_["request"], 20);
  EXPECT_EQ(seen_["request"], seen_["response"] + seen_["refusal"]);
}

INSTANTIATE_TEST_SUITE_P(Kernel, GoldenTrace,
                         ::testing::Values("kernel-renewed-keys.txt", "kernel-fixed-keys.txt"),
                         [](const auto& name) {
                           return std::string(name.param).find("fixed") != std::string::npos
                                      ? "FixedKeys"
                                      : "RenewedKeys";
                         });

}  // namespace
}  // namespace rnbd::wire
