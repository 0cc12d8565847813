#pragma once
// For the tests of the NBD server: a server on reactors of its own, and a blocking client speaking
// raw bytes.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <future>
#include <string>
#include <thread>

#include "base/unique_fd.h"
#include "block/testing/fake_device.h"
#include "frontend/nbd/nbd_server.h"
#include "wire/nbd.h"

namespace rnbd::nbd::testing {

constexpr std::chrono::seconds kPatience{20};

class Bench {
 public:
  explicit Bench(unsigned reactors = 2) {
    char pattern[] = "/tmp/rnbd-nbd-test-XXXXXX";
    directory_ = ::mkdtemp(pattern);
    options.socket_path = directory_ + "/nbd.sock";
    for (unsigned i = 0; i < reactors; ++i) {
      auto reactor = Reactor::create({.name = "nbd-test"});
      RNBD_ASSERT(reactor);
      reactors_.push_back(std::move(*reactor));
    }
    for (auto& reactor : reactors_) reactor->start();
  }
  ~Bench() {
    stop();
    for (auto& reactor : reactors_) reactor->stop();
    for (auto& reactor : reactors_) reactor->join();
    ::rmdir(directory_.c_str());
  }

  // Runs `call` on the home thread and hands its result over.
  template <class Call>
  std::invoke_result_t<Call> on_home(Call call) {
    std::packaged_task<decltype(call())()> task(std::move(call));
    auto future = task.get_future();
    home().post([&] { task(); });
    return future.get();
  }
  void start() {
    on_home([&] {
      std::vector<Reactor*> all;
      for (auto& reactor : reactors_) all.push_back(reactor.get());
      auto made = Server::create(all, options);
      RNBD_ASSERT(made);
      server = std::move(*made);
    });
  }
  void stop() {
    if (!server) return;
    std::promise<void> closed;
    home().post([&] {
      server->close([&] {
        server.reset();
        closed.set_value();
      });
    });
    closed.get_future().wait();
  }
  Result<void> add(const std::string& name, block::Device& device, bool read_only = false) {
    return on_home([&] {
      return server->add_export(
          {.name = name, .description = "about " + name, .read_only = read_only}, device);
    });
  }
  std::future<std::error_code> remove(const std::string& name) {
    auto done = std::make_shared<std::promise<std::error_code>>();
    auto future = done->get_future();
    home().post([this, name, done] {
      server->remove_export(name, [done](std::error_code e) { done->set_value(e); });
    });
    return future;
  }
  std::uint32_t connections(const std::string& name) {
    return on_home([&] { return server->connections(name); });
  }

  Reactor& home() { return *reactors_[0]; }
  std::span<const std::unique_ptr<Reactor>> reactors() const { return reactors_; }
  const std::string& directory() const { return directory_; }
  template <class Condition>
  static bool wait_for(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }

  ServerOptions options;
  std::unique_ptr<Server> server;

 private:
  std::string directory_;
  std::vector<std::unique_ptr<Reactor>> reactors_;
};

struct Answer {
  std::uint64_t cookie = 0;
  std::uint32_t error = 0;
  std::vector<std::byte> data;
  bool structured = false;
};

class Client {
 public:
  explicit Client(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    socket_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval limit{.tv_sec = kPatience.count(), .tv_usec = 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    connected_ =
        ::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  bool connected() const { return connected_; }
  int fd() const { return socket_.get(); }
  void hang_up() { socket_.reset(); }

  bool send(const void* data, std::size_t size) {
    const auto* at = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t sent = ::send(socket_.get(), at, size, MSG_NOSIGNAL);
      if (sent <= 0) return false;
      at += sent;
      size -= static_cast<std::size_t>(sent);
    }
    return true;
  }
  bool send(const std::string& text) { return send(text.data(), text.size()); }
  bool receive(void* data, std::size_t size) {
    auto* at = static_cast<char*>(data);
    while (size > 0) {
      const ssize_t got =
          ::recv(socket_.get(), at, size, MSG_WAITALL);  // may be cut short all the same
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      at += got;
      size -= static_cast<std::size_t>(got);
    }
    return true;
  }
  template <class T>
  bool receive(T& value) {
    return receive(&value, sizeof value);
  }
  bool at_end() {
    char byte = 0;
    return ::recv(socket_.get(), &byte, 1, 0) <= 0 && errno != EAGAIN;
  }

  static std::string opening(const std::string& name, bool structured) {
    std::string text = bytes(be32(3));
    if (structured) text += option(wire::NbdOption::structured_reply, "");
    return text + option(wire::NbdOption::go, bytes(be32(static_cast<std::uint32_t>(name.size()))) +
                                                  name + bytes(be16(0)));
  }
  static std::string option(wire::NbdOption option, const std::string& data) {
    return bytes(wire::layout::NbdOptionHeader{wire::kNbdOptionMagic,
                                               static_cast<std::uint32_t>(option),
                                               static_cast<std::uint32_t>(data.size())}) +
           data;
  }
  // Greeting, options, GO. False when refused.
  bool go(const std::string& name, bool structured = false) {
    wire::layout::NbdGreeting greeting;
    if (!receive(greeting) || !send(opening(name, structured))) return false;
    for (;;) {
      wire::layout::NbdOptionReplyHeader header;
      if (!receive(header)) return false;
      std::vector<std::byte> data(header.length);
      if (!receive(data.data(), data.size())) return false;
      if ((header.type & 0x80000000U) != 0) return false;
      if (header.option == static_cast<std::uint32_t>(wire::NbdOption::go) && header.type == 1)
        return true;
      if (data.size() == sizeof info_) std::memcpy(&info_, data.data(), sizeof info_);
    }
  }
  const wire::layout::NbdInfoExport& info() const { return info_; }

  static std::string request(wire::NbdCommand command, std::uint64_t cookie, std::uint64_t offset,
                             std::uint32_t length, std::uint16_t flags = 0) {
    return bytes(wire::layout::NbdRequest{wire::kNbdRequestMagic, flags,
                                          static_cast<std::uint16_t>(command), cookie, offset,
                                          length});
  }
  // The next answer; `length_of(cookie)` is what a read asked for (simple replies do not say).
  template <class LengthOf>
  bool answer(Answer& answer, LengthOf length_of) {
    be32 magic;
    if (!receive(magic)) return false;
    answer = {};
    if (magic == wire::kNbdSimpleReplyMagic) {
      be32 error;
      be64 cookie;
      if (!receive(error) || !receive(cookie)) return false;
      answer.error = error;
      answer.cookie = cookie;
      if (error == 0) answer.data.resize(length_of(answer.cookie));
      return receive(answer.data.data(), answer.data.size());
    }
    if (magic != wire::kNbdStructuredReplyMagic) return false;
    be16 flags;
    be16 type;
    be64 cookie;
    be32 length;
    if (!receive(flags) || !receive(type) || !receive(cookie) || !receive(length)) return false;
    EXPECT_EQ(flags, wire::kNbdChunkDone);
    answer.structured = true;
    answer.cookie = cookie;
    std::vector<std::byte> body(length);
    if (!receive(body.data(), body.size())) return false;
    if (type == static_cast<std::uint16_t>(wire::NbdChunk::offset_data)) {
      answer.data.assign(body.begin() + 8, body.end());
    } else if (type == static_cast<std::uint16_t>(wire::NbdChunk::error)) {
      be32 error;
      std::memcpy(&error, body.data(), sizeof error);
      answer.error = error;
    }
    return true;
  }
  // One request and its answer.
  std::uint32_t ask(wire::NbdCommand command, std::uint64_t offset, std::uint32_t length,
                    std::uint16_t flags = 0, const std::vector<std::byte>& payload = {}) {
    if (!send(request(command, 77, offset, length, flags)) || !send(payload.data(), payload.size()))
      return kLost;
    const std::uint32_t expected = command == wire::NbdCommand::read ? length : 0;
    if (!answer(last, [&](std::uint64_t) { return expected; })) return kLost;
    EXPECT_EQ(last.cookie, 77U);
    return last.error;
  }
  static constexpr std::uint32_t kLost = 0xffffffff;
  Answer last;

 private:
  template <class T>
  static std::string bytes(const T& value) {
    return {reinterpret_cast<const char*>(&value), sizeof value};
  }
  UniqueFd socket_;
  bool connected_ = false;
  wire::layout::NbdInfoExport info_{};
};

inline std::vector<std::byte> pattern(std::size_t size, unsigned seed) {
  std::vector<std::byte> data(size);
  for (std::size_t i = 0; i < size; ++i)
    data[i] = static_cast<std::byte>((i * 31 + i / 512 + seed) & 0xff);
  return data;
}

}  // namespace rnbd::nbd::testing
