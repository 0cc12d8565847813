#include "daemon/admin/activation.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>

namespace rnbd::daemon {
namespace {

// In a process of its own, whose descriptor 3 is a socket listening at `path`.
template <class Check>
int with_descriptor_3(const std::string& path, const std::string& pid, const Check& check) {
  const pid_t child = fork();
  if (child == 0) {
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    unlink(path.c_str());
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) _exit(100);
    if (listen(fd, 1) != 0) _exit(101);
    if (fd != 3 && dup2(fd, 3) != 3) _exit(102);
    setenv("LISTEN_FDS", "1", 1);
    setenv("LISTEN_PID", pid.empty() ? std::to_string(getpid()).c_str() : pid.c_str(), 1);
    _exit(check() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  unlink(path.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}

std::string path() { return "/tmp/rnbd-activation-" + std::to_string(getpid()); }

TEST(Activation, TheSocketOfThePathIsTakenOnce) {
  EXPECT_EQ(with_descriptor_3(path(), "",
                              [where = path()] {
                                UniqueFd taken = take_activated_socket(where);
                                const bool right = taken.get() == 3 &&
                                                   (fcntl(3, F_GETFD) & FD_CLOEXEC) != 0 &&
                                                   (fcntl(3, F_GETFL) & O_NONBLOCK) != 0;
                                return right && !take_activated_socket(where);
                              }),
            0);
}

TEST(Activation, AnotherPathIsLeftAlone) {
  EXPECT_EQ(with_descriptor_3(path(), "", [] { return !take_activated_socket("/tmp/other"); }), 0);
}

TEST(Activation, WhatWasMeantForAnotherProcessIsLeftAlone) {
  for (const char* pid : {"1", "x", "-1", "99999999999999"}) {
    EXPECT_EQ(
        with_descriptor_3(path(), pid, [where = path()] { return !take_activated_socket(where); }),
        0)
        << pid;
  }
}

}  // namespace
}  // namespace rnbd::daemon
