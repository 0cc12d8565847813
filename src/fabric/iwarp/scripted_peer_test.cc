// The scripted peer itself (see scripted_peer.h); in a test file so that it is only in the test
// program.

#include "fabric/iwarp/scripted_peer.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "fabric/iwarp/socket.h"
#include "wire/bytes.h"
#include "wire/crc32c.h"

namespace rnbd::fabric::iwarp::scripted {

Bytes from_hex(std::string_view hex) {
  Bytes out;
  std::string digits;
  for (const char c : hex) {
    if (c == ' ') continue;
    digits += c;
    if (digits.size() < 2) continue;
    out.push_back(static_cast<std::byte>(std::stoi(digits, nullptr, 16)));
    digits.clear();
  }
  return out;
}

std::string to_hex(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const std::byte b : bytes) {
    out += kDigits[std::to_integer<unsigned>(b) >> 4];
    out += kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return out;
}

Bytes pattern(std::size_t size) {
  Bytes out(size);
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<std::byte>(i * 31 + (i >> 8) + 1);
  return out;
}

Bytes operator+(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

Bytes Frame::bytes() const {
  Bytes out(tagged ? sizeof(wire::TaggedHeader) : sizeof(wire::UntaggedHeader));
  const auto length = static_cast<std::uint16_t>(out.size() - 2 + payload.size());
  const auto first = static_cast<std::uint8_t>(ddp | (tagged ? wire::kDdpTagged : 0) |
                                               (last ? wire::kDdpLast : 0));
  const auto second = static_cast<std::uint8_t>(rdmap | op);
  if (tagged) {
    wire::store(out, wire::TaggedHeader{length, first, second, stag, offset});
  } else {
    wire::store(out, wire::UntaggedHeader{length, first, second, stag, queue, sequence,
                                          static_cast<std::uint32_t>(offset)});
  }
  out.insert(out.end(), payload.begin(), payload.end());
  out.resize(out.size() + wire::fpdu_padding(length), pad);
  const wire::FpduCrc sum = crc ? wire::crc32c(out) : 0xdeadbeefU;
  const auto field = wire::bytes_of(sum);
  out.insert(out.end(), field.begin(), field.end());
  return out;
}

Frame write_frame(const RemoteSpan& at, std::uint64_t offset, Bytes payload, bool last) {
  Frame frame;
  frame.tagged = true;
  frame.op = 0;
  frame.stag = at.key;
  frame.offset = at.address + offset;
  frame.payload = std::move(payload);
  frame.last = last;
  return frame;
}

Frame send_frame(std::uint32_t sequence, Bytes payload, std::uint64_t offset, bool last) {
  Frame frame;
  frame.sequence = sequence;
  frame.payload = std::move(payload);
  frame.offset = offset;
  frame.last = last;
  return frame;
}

Frame immediate_frame(std::uint32_t sequence, std::uint32_t immediate, std::uint32_t low) {
  Frame frame;
  frame.op = 8;
  frame.sequence = sequence;
  frame.payload.resize(8);
  wire::store(frame.payload, wire::ImmediatePayload{immediate, low});
  return frame;
}

namespace {

Bytes mpa(wire::MpaFrame frame, wire::MpaKind kind) {
  frame.kind = kind;
  std::array<std::byte, wire::kMpaFrameMax> out;
  const auto size = static_cast<std::ptrdiff_t>(wire::build_mpa_frame(frame, out));
  return {out.begin(), out.begin() + size};
}

std::unique_ptr<Reactor> make_reactor() {
  auto made = Reactor::create({.name = "scripted", .cpu = -1, .spin_max = Duration::zero()});
  EXPECT_TRUE(made.has_value());
  return std::move(*made);
}

}  // namespace

Bytes request(wire::MpaFrame frame) { return mpa(frame, wire::MpaKind::request); }
Bytes reply(wire::MpaFrame frame) { return mpa(frame, wire::MpaKind::reply); }

void Recorder::on_connected(std::span<const std::byte> data) {
  connected = true;
  private_data.assign(data.begin(), data.end());
}
void Recorder::on_rejected(std::span<const std::byte> data) {
  rejected = true;
  private_data.assign(data.begin(), data.end());
}
void Recorder::on_receive(const ReceiveEvent& event) {
  EXPECT_FALSE(closed);
  if (event.kind == ReceiveEvent::Kind::flushed) return flushed.push_back(event.cookie);
  messages.push_back({event.kind, event.cookie, Bytes(event.bytes.begin(), event.bytes.end()),
                      event.immediate, event.invalidated_key});
  if (on_message) on_message(event);
}
void Recorder::on_closed(std::error_code reason) {
  EXPECT_FALSE(closed);
  closed = true;
  why = reason;
}

Stage::Stage(Options options)
    : reactor_(make_reactor()), fabric_(std::make_unique<IwarpFabric>(*reactor_, options)) {
  domain_ = std::move(*fabric_->create_domain(PathAddress{}));
}

Stage::~Stage() {
  if (connection_ != nullptr && !us_.closed) {
    connection_->close(Errc::session_closed);
    EXPECT_TRUE(run_until([&] { return us_.closed; }));
  }
}

bool Stage::run_until(const std::function<bool()>& done, Duration limit) {
  return done() || testing::run_until(*reactor_, done, limit);
}

void Stage::settle(Duration time) {
  testing::run_until(
      *reactor_, [] { return false; }, time);
}

void Stage::listen() {
  listener_ = std::move(*fabric_->listen(Address::parse("ip:127.0.0.1", 0).value(), *this));
}

void Stage::peer_connects() {
  peer_ = std::move(*make_socket(AF_INET));
  const Address to = listener_->local_address();
  const int result = ::connect(peer_.get(), to.data(), to.length());
  ASSERT_TRUE(result == 0 || errno == EINPROGRESS);
  received_.clear();
  ended_ = ended_orderly_ = false;
}

void Stage::accept(std::unique_ptr<IncomingConnection> incoming,
                   std::span<const std::byte> private_data) {
  auto made = fabric_->accept(std::move(incoming), *domain_, private_data, depths, us_);
  if (made) connection_ = std::move(*made);
}

void Stage::on_connect_request(std::unique_ptr<IncomingConnection> incoming) {
  if (decide) return decide(std::move(incoming));
  accept(std::move(incoming));
}

void Stage::start(bool crc) {
  listen();
  peer_connects();
  send(request({.crc = crc, .enhanced = true, .user_data = {}}));
  const Bytes answer = read(24);
  ASSERT_EQ(answer.size(), 24U);
  ASSERT_TRUE(run_until([&] { return us_.connected; }));
  received_.clear();
}

Bytes Stage::we_connect(std::size_t request_size, std::span<const std::byte> private_data) {
  UniqueFd door = std::move(*make_socket(AF_INET));
  const Address any = Address::parse("ip:127.0.0.1", 0).value();
  EXPECT_EQ(::bind(door.get(), any.data(), any.length()), 0);
  EXPECT_EQ(::listen(door.get(), 1), 0);
  ConnectRequest connect;
  connect.address.destination = local_address_of(door.get());
  connect.private_data = private_data;
  auto made = fabric_->connect(connect, *domain_, depths, us_);
  EXPECT_TRUE(made.has_value());
  connection_ = std::move(*made);
  EXPECT_TRUE(run_until([&] {
    peer_ = UniqueFd(::accept4(door.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    return static_cast<bool>(peer_);
  }));
  return read(request_size);
}

void Stage::send(const Bytes& bytes) {
  std::size_t sent = 0;
  EXPECT_TRUE(run_until([&] {
    while (sent < bytes.size()) {
      const ssize_t n = ::send(peer_.get(), bytes.data() + sent, bytes.size() - sent,
                               MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n < 0) return errno != EAGAIN && errno != ENOTCONN;  // our end may have closed already
      sent += static_cast<std::size_t>(n);
    }
    return true;
  }));
}

bool Stage::take_bytes() {
  std::array<std::byte, 65536> buffer;
  while (!ended_) {
    const ssize_t n = ::recv(peer_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) return true;
    if (n > 0) {
      received_.insert(received_.end(), buffer.begin(), buffer.begin() + n);
      continue;
    }
    ended_ = true;
    ended_orderly_ = n == 0;
  }
  return false;
}

Bytes Stage::read(std::size_t bytes) {
  EXPECT_TRUE(run_until([&] { return !take_bytes() || received_.size() >= bytes; }));
  const auto end =
      received_.begin() + static_cast<std::ptrdiff_t>(std::min(bytes, received_.size()));
  Bytes taken(received_.begin(), end);
  received_.erase(received_.begin(), end);
  return taken;
}

bool Stage::read_end() {
  EXPECT_TRUE(run_until([&] { return !take_bytes(); })) << "the stream does not end";
  return ended_orderly_;
}

void Stage::fin() { ::shutdown(peer_.get(), SHUT_WR); }
void Stage::reset() { abort_socket(std::move(peer_)); }

void Stage::expect_dies(const wire::TerminateCause& cause) {
  EXPECT_TRUE(read_end()) << "reset before the Terminate could be read";
  fin();
  EXPECT_TRUE(run_until([&] { return us_.closed; }));
  ASSERT_GE(received_.size(), 28U) << "no Terminate came";
  const auto header = wire::load<wire::UntaggedHeader>(received_);
  EXPECT_EQ(header->rdmap, wire::rdmap_control(wire::RdmapOp::terminate));
  EXPECT_EQ(header->queue, wire::kTerminateQueue);
  EXPECT_EQ(received_.size(), wire::fpdu_size(header->ulpdu_length))
      << "the Terminate is the last frame";
  const std::string said = to_hex(std::span(received_).subspan(20, 2));
  const Bytes wanted{static_cast<std::byte>((cause.layer << 4) | cause.type),
                     static_cast<std::byte>(cause.code)};
  EXPECT_EQ(said, to_hex(wanted)) << wire::terminate_name(cause);
  EXPECT_EQ(received_[22] == std::byte{0xC0}, cause.with_header) << to_hex(received_);
}

void Stage::post_receives(std::size_t count, std::size_t size) {
  for (; count > 0; --count) {
    buffers_.emplace_back(size);
    EXPECT_FALSE(connection_->post_receive(buffers_.back(), ++last_receive_));
  }
}

}  // namespace rnbd::fabric::iwarp::scripted
