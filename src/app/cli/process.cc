#include "app/cli/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <sstream>

#include "base/unique_fd.h"
#include "daemon/admin/runtime.h"

namespace rnbd::cli {
namespace {

// In the child, after fork: only calls that are safe there.
[[noreturn]] void become(char* const* argv, int output) {
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  int null = open("/dev/null", O_RDONLY);
  dup2(null, STDIN_FILENO);
  execvp(argv[0], argv);
  _exit(127);
}

std::string contents(const std::string& file) {
  std::ifstream stream(file);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

}  // namespace

bool have_program(const std::string& name) {
  std::istringstream path(daemon::environment("PATH") + ":/usr/sbin:/sbin");
  for (std::string directory; std::getline(path, directory, ':');)
    if (access((directory + "/" + name).c_str(), X_OK) == 0) return true;
  return false;
}

Finished run_program(const std::vector<std::string>& words, const std::string& output_file,
                     Duration timeout) {
  Finished finished;
  Process process;
  bool ended = process.start(words, output_file) && process.wait(timeout);
  finished.output = contents(output_file);
  if (ended) finished.status = process.status();
  return finished;
}

Process::~Process() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

bool Process::start(const std::vector<std::string>& words, const std::string& output_file,
                    const std::string& environment) {
  UniqueFd output(open(output_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!output) return false;
  std::vector<char*> argv;
  for (const std::string& word : words)
    argv.push_back(const_cast<char*>(word.c_str()));  // execvp does not write
  argv.push_back(nullptr);
  std::size_t equals = environment.find('=');
  if (!environment.empty())
    setenv(environment.substr(0, equals).c_str(), environment.substr(equals + 1).c_str(), 1);
  pid_ = fork();
  if (pid_ == 0) become(argv.data(), output.get());
  if (!environment.empty()) unsetenv(environment.substr(0, equals).c_str());
  return pid_ > 0;
}

bool Process::running() { return pid_ > 0 && !wait(Duration(0)); }

bool Process::wait(Duration timeout) {
  if (pid_ < 0) return true;
  UniqueFd handle(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  pollfd entry{handle.get(), POLLIN, 0};
  auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(timeout).count();
  if (poll(&entry, 1, static_cast<int>(milliseconds)) <= 0) return false;
  int status = 0;
  if (waitpid(pid_, &status, 0) != pid_) return false;
  status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  pid_ = -1;
  return true;
}

bool Process::terminate(Duration timeout) {
  if (pid_ > 0) kill(pid_, SIGTERM);
  return wait(timeout) && status_ == 0;
}

}  // namespace rnbd::cli
