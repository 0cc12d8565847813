#include "daemon/admin/admin_server.h"

#include <grp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>
#include <future>

#include "base/event.h"
#include "base/unique_fd.h"
#include "daemon/admin/admin_client.h"

namespace rnbd::daemon {
namespace {

using namespace std::chrono_literals;

class AdminSocket : public testing::Test {
 protected:
  AdminSocket() {
    std::string name = testing::TempDir() + "rnbd-admin-XXXXXX";
    directory_ = mkdtemp(name.data());
    path_ = directory_ + "/a.sock";
  }
  ~AdminSocket() override { rmdir(directory_.c_str()); }
  std::unique_ptr<AdminServer> serve(AdminHandler handler) {
    auto server = AdminServer::create({.path = path_, .group = ""}, std::move(handler));
    EXPECT_TRUE(server) << (server ? "" : server.error().message());
    return server ? std::move(*server) : nullptr;
  }
  UniqueFd dial() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size());
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM, 0));
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  static std::string read_line(int fd) {
    std::string line;
    for (char c = 0; recv(fd, &c, 1, 0) == 1 && c != '\n';) line += c;
    return line;
  }
  std::string directory_, path_;
};

AdminHandler echo() {
  return [](AdminRequest request, const AdminReply& reply) {
    AdminResponse response;
    response.daemon.program = request.target;
    reply(response);
  };
}

TEST_F(AdminSocket, AnswersAndIsForOwnerAndGroupOnly) {
  auto server = serve(echo());
  struct stat status {};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0660U);
  auto answer = ask_daemon(path_, {.command = AdminCommand::unmap, .target = "hello"}, 5s);
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->daemon.program, "hello");
}

TEST_F(AdminSocket, ALateAnswerFromAnotherThreadArrives) {
  std::promise<AdminReply> asked;
  auto server =
      serve([&](const AdminRequest&, AdminReply reply) { asked.set_value(std::move(reply)); });
  auto answer = std::async([&] { return ask_daemon(path_, {.command = AdminCommand::list}, 5s); });
  asked.get_future().get()({});
  EXPECT_TRUE(answer.get());
}

TEST_F(AdminSocket, AnAnswerAfterTheServerIsGoneIsDropped) {
  std::promise<AdminReply> asked;
  auto server =
      serve([&](const AdminRequest&, AdminReply reply) { asked.set_value(std::move(reply)); });
  auto answer = std::async([&] { return ask_daemon(path_, {.command = AdminCommand::list}, 5s); });
  AdminReply reply = asked.get_future().get();
  server.reset();
  reply({});
  EXPECT_FALSE(answer.get());
}

TEST_F(AdminSocket, PipelinedRequestsAreAnsweredInOrder) {
  auto server = serve(echo());
  UniqueFd fd = dial();
  std::string lines;
  for (int i = 0; i < 50; ++i)
    lines +=
        encode(AdminRequest{.command = AdminCommand::unmap, .target = std::to_string(i)}) + "\n";
  ASSERT_EQ(send(fd.get(), lines.data(), lines.size(), 0), static_cast<ssize_t>(lines.size()));
  for (int i = 0; i < 50; ++i)
    EXPECT_EQ(decode_response(read_line(fd.get())).value_or(AdminResponse{}).daemon.program,
              std::to_string(i));
}

TEST_F(AdminSocket, ARequestTooLongIsRefusedAndTheConnectionClosed) {
  auto server = serve(echo());
  UniqueFd fd = dial();
  std::string line(kAdminRequestMax + 100, 'x');
  send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL);
  auto answer = decode_response(read_line(fd.get()));
  ASSERT_TRUE(answer && answer->error);
  EXPECT_EQ(answer->error->error, EMSGSIZE);
  EXPECT_EQ(read_line(fd.get()), "");
}

TEST_F(AdminSocket, GarbageIsAnsweredAndTheNextRequestServed) {
  auto server = serve(echo());
  UniqueFd fd = dial();
  std::string lines = "\x01\xff garbage\n" +
                      encode(AdminRequest{.command = AdminCommand::unmap, .target = "x"}) + "\n";
  ASSERT_GT(send(fd.get(), lines.data(), lines.size(), 0), 0);
  EXPECT_TRUE(decode_response(read_line(fd.get())).value_or(AdminResponse{}).error);
  EXPECT_EQ(decode_response(read_line(fd.get())).value_or(AdminResponse{}).daemon.program, "x");
}

TEST_F(AdminSocket, ASecondDaemonIsRefusedAndADeadOnesSocketReplaced) {
  auto server = serve(echo());
  auto second = AdminServer::create({.path = path_, .group = ""}, echo());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().value(), EADDRINUSE);
  server.reset();
  UniqueFd stale(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.c_str(), path_.size());
  ASSERT_EQ(bind(stale.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  stale.reset();
  EXPECT_TRUE(serve(echo()));
}

// A process of another user in group 12345, which sends a command for each byte it gets and hands
// back the first byte that tells yes from no.
TEST_F(AdminSocket, TheGroupIsCheckedWithEveryCommand) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  constexpr gid_t kGroup = 12345;
  ASSERT_EQ(chmod(directory_.c_str(), 0711), 0);
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  UniqueFd here(pair[0]), there(pair[1]);
  const pid_t child = fork();
  if (child == 0) {
    here.reset();
    if (setgroups(0, nullptr) != 0 || setgid(kGroup) != 0 || setuid(65534) != 0) _exit(1);
    char go = 0;
    UniqueFd fd;
    while (recv(there.get(), &go, 1, 0) == 1) {
      if (!fd) fd = dial();
      const std::string ping = encode(AdminRequest{}) + "\n";
      send(fd.get(), ping.data(), ping.size(), MSG_NOSIGNAL);
      const bool yes = read_line(fd.get()).find("no permission") == std::string::npos;
      send(there.get(), yes ? "y" : "n", 1, MSG_NOSIGNAL);
    }
    _exit(0);
  }
  there.reset();
  auto answer = [&] {
    char said = '?';
    send(here.get(), "!", 1, MSG_NOSIGNAL);
    recv(here.get(), &said, 1, 0);
    return said;
  };
  auto created = AdminServer::create({.path = path_, .group = std::to_string(kGroup)}, echo());
  ASSERT_TRUE(created);
  EXPECT_EQ(answer(), 'y');
  EXPECT_FALSE((*created)->set_group(""));  // of connections that are there, too
  EXPECT_EQ(answer(), 'n');
  struct stat status {};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_gid, getegid());
  EXPECT_FALSE((*created)->set_group(std::to_string(kGroup)));
  EXPECT_EQ(answer(), 'y');
  EXPECT_TRUE((*created)->set_group("no-such-group-anywhere"));
  EXPECT_EQ(answer(), 'y');
  here.reset();
  int ended = 0;
  waitpid(child, &ended, 0);
  EXPECT_EQ(ended, 0);
}

TEST_F(AdminSocket, NobodyListeningIsSaidInWords) {
  auto answer = ask_daemon(path_, {}, 1s);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ProblemCode::unreachable);
  EXPECT_NE(answer.error().text().find("rnbd-client"), std::string::npos);
}

TEST_F(AdminSocket, ADaemonThatDoesNotAnswerIsNotWaitedForForEver) {
  auto server = serve([](const AdminRequest&, const AdminReply&) {});
  auto answer = ask_daemon(path_, {}, 20ms);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ProblemCode::unreachable);
}

// ---- events ----

class AdminEvents : public AdminSocket {
 protected:
  AdminEvents() { set_log_options({.program = "test", .level = LogLevel::off}); }
  ~AdminEvents() override { set_log_options({}); }
};

TEST_F(AdminEvents, AreToldInOrderFromTheAnswerOnWithTheirFields) {
  auto server = serve(echo());
  log_event({.name = "path_lost"}, "before");
  auto stream = EventStream::open(path_, 5s);
  ASSERT_TRUE(stream) << stream.error().text();
  log_event({.name = "path_lost",
             .level = LogLevel::warning,
             .session = "a@b",
             .path = "ip:10.0.0.1",
             .error = from_errno(ENOTCONN)},
            "lost");
  log_event({.name = "volume_open", .volume = "v", .session = "a@b"}, "open");
  auto first = stream->next(5s);
  ASSERT_TRUE(first && *first);
  EXPECT_EQ((*first)->event, "path_lost");
  EXPECT_EQ((*first)->level, "warning");
  EXPECT_EQ((*first)->session, "a@b");
  EXPECT_EQ((*first)->path, "ip:10.0.0.1");
  EXPECT_EQ((*first)->text, "<a@b> lost path=ip:10.0.0.1 err=ENOTCONN errno=107");
  EXPECT_EQ((*first)->time.size(), std::strlen("2026-01-01T00:00:00.000Z"));
  auto second = stream->next(5s);
  ASSERT_TRUE(second && *second);
  EXPECT_EQ((*second)->volume, "v");
  auto none = stream->next(0s);
  EXPECT_TRUE(none && !*none);
}

TEST_F(AdminEvents, ReachEveryReaderAndOthersAreServedMeanwhile) {
  auto server = serve(echo());
  auto one = EventStream::open(path_, 5s);
  auto other = EventStream::open(path_, 5s);
  ASSERT_TRUE(one && other);
  EXPECT_TRUE(ask_daemon(path_, {.command = AdminCommand::unmap, .target = "x"}, 5s));
  log_event({.name = "volume_open"}, "open");
  for (auto* stream : {&*one, &*other}) {
    auto event = stream->next(5s);
    ASSERT_TRUE(event && *event);
    EXPECT_EQ((*event)->event, "volume_open");
  }
}

TEST_F(AdminEvents, AReaderThatSleepsCostsNothingAndIsToldWhatItMissed) {
  auto server = serve(echo());
  auto stream = EventStream::open(path_, 5s);
  ASSERT_TRUE(stream);
  constexpr int kEvents = 20000;
  for (int i = 0; i < kEvents; ++i)
    log_event({.name = "volume_open", .volume = std::to_string(i)}, "{}", std::string(100, 'x'));
  int told = 0, missed = 0;
  while (told + missed < kEvents) {
    auto event = stream->next(5s);
    ASSERT_TRUE(event && *event) << told << " " << missed;
    if ((*event)->event == "events_missed") {
      missed += std::stoi((*event)->text);
    } else {
      ++told;
    }
  }
  EXPECT_GT(missed, 0);
  EXPECT_EQ(told + missed, kEvents);
}

TEST_F(AdminEvents, NobodyListensWhenTheReaderIsGone) {
  auto server = serve(echo());
  {
    auto stream = EventStream::open(path_, 5s);
    ASSERT_TRUE(stream);
    EXPECT_TRUE(event_wanted(LogLevel::debug));
  }
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  while (event_wanted(LogLevel::debug) && std::chrono::steady_clock::now() < deadline)
    EXPECT_TRUE(ask_daemon(path_, {.command = AdminCommand::ping}, 5s));
  EXPECT_FALSE(event_wanted(LogLevel::debug));
}

TEST_F(AdminEvents, EndWithTheDaemon) {
  auto server = serve(echo());
  auto stream = EventStream::open(path_, 5s);
  ASSERT_TRUE(stream);
  server.reset();
  auto event = stream->next(5s);
  ASSERT_FALSE(event);
  EXPECT_EQ(event.error().code, ProblemCode::unreachable);
  EXPECT_FALSE(event_wanted(LogLevel::debug));
}

TEST(AdminPermission, IsForRootTheOwnerAndTheGroup) {
  EXPECT_TRUE(may_administer(0, 9, 1000, 50));
  EXPECT_TRUE(may_administer(1000, 9, 1000, 50));
  EXPECT_TRUE(may_administer(1001, 50, 1000, 50));
  EXPECT_FALSE(may_administer(1001, 9, 1000, 50));
  EXPECT_FALSE(may_administer(1001, static_cast<gid_t>(-1), 1000, static_cast<gid_t>(-1)));
}

}  // namespace
}  // namespace rnbd::daemon
