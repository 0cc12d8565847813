#include "base/journal.h"

#include <fmt/core.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/endian.h"

namespace rnbd {
namespace {

constexpr const char* kSocket = "/run/systemd/journal/socket";

void append(std::string& entry, const JournalField& field) {
  if (field.value.empty()) return;
  entry += field.name;
  if (field.value.find('\n') == std::string_view::npos) {
    entry += '=';
  } else {  // its length instead, for it has lines of its own
    const le64 length(field.value.size());
    entry += '\n';
    entry.append(reinterpret_cast<const char*>(&length), sizeof length);
  }
  entry += field.value;
  entry += '\n';
}

}  // namespace

bool names_stream(std::string_view stream, int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return false;
  return stream == fmt::format("{}:{}", status.st_dev, status.st_ino);
}

std::optional<Journal> Journal::of_this_process() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  if (stream == nullptr || !names_stream(stream, STDERR_FILENO)) return std::nullopt;
  auto journal = connect(kSocket);
  if (!journal) return std::nullopt;
  return std::move(*journal);
}

Result<Journal> Journal::connect(const std::string& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.size() >= sizeof address.sun_path) return fail_errno(ENAMETOOLONG);
  std::memcpy(address.sun_path, socket.data(), socket.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(errno);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_errno(errno);
  return Journal(std::move(fd));
}

Journal::Sent Journal::send(std::span<const JournalField> fields) const {
  std::string entry;
  for (const JournalField& field : fields) append(entry, field);
  const ssize_t sent = ::send(fd_.get(), entry.data(), entry.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent == static_cast<ssize_t>(entry.size())) return Sent::yes;
  return sent < 0 && (errno == EAGAIN || errno == ENOBUFS) ? Sent::busy : Sent::no;
}

}  // namespace rnbd
