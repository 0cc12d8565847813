#include "app/cli/terminal.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "app/cli/render.h"

namespace rnbd::cli {
namespace {

// The other screen, without a cursor; and back.
constexpr char kEnter[] = "\033[?1049h\033[?25l";
constexpr char kLeave[] = "\033[?25h\033[?1049l";

sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) sigaddset(&set, signal);
  return set;
}

void put(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace

std::string cut_to(const std::string& text, std::size_t width, std::size_t height) {
  std::string out;
  std::size_t start = 0;
  for (std::size_t row = 0; row < height && start < text.size(); ++row) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    std::string line = text.substr(start, end - start);
    while (width_of(line) > width) {
      while (!line.empty() && (static_cast<unsigned char>(line.back()) & 0xc0U) == 0x80U)
        line.pop_back();
      line.pop_back();
    }
    out += (row == 0 ? "" : "\n") + line;
    start = end + 1;
  }
  return out;
}

Terminal::Terminal(bool screen)
    : screen_(screen && isatty(STDOUT_FILENO) != 0), keys_(screen_ && isatty(STDIN_FILENO) != 0) {
  const sigset_t set = ending_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signals_ = UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (keys_ && tcgetattr(STDIN_FILENO, &before_) == 0) {
    termios raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  } else {
    keys_ = false;
  }
  if (screen_) put(kEnter);
}

Terminal::~Terminal() {
  if (screen_) put(kLeave);
  if (keys_) tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  const sigset_t set = ending_signals();
  signalfd_siginfo taken;  // a signal that was acted upon must not end us once more
  while (read(signals_.get(), &taken, sizeof taken) > 0) continue;
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void Terminal::draw(const std::string& text) {
  if (!screen_) return put(text);
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0)
    size = {.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
  put("\033[H\033[J" + cut_to(text, size.ws_col, size.ws_row));
}

bool Terminal::wait(Duration time) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + time;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return true;
    pollfd entries[] = {{signals_.get(), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    const int ready = poll(entries, keys_ ? 2 : 1, static_cast<int>(std::min<long>(left, 60000)));
    if (ready <= 0) continue;
    if (entries[0].revents != 0) return false;
    char key = 0;
    if (keys_ && entries[1].revents != 0) {
      if (read(STDIN_FILENO, &key, 1) <= 0) keys_ = false;
      if (key == 'q' || key == 'Q') return false;
    }
  }
}

}  // namespace rnbd::cli
