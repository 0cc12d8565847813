// rnbd-faulty: a directory of files whose storage stalls, fails, and forgets what was not flushed
// when its power is cut; on the word of who writes to its file `control`, which reads as the number
// of requests that are kept. The server that uses the files is the one of production. The commands:
//   stall              requests on files are taken and kept
//   pass               what comes from now on is done at once; what was kept stays where it is
//   go                 those kept are done, the last one first: storage owes no order
//   fail WHAT ERRNO    every read, write, zero or flush fails with that number
//   power-cut SEED     what was not flushed is lost, or not; what was kept ends with EIO, undone
//   heal               nothing fails any more
// and what no honest storage does, for tests of the checker:
//   remember           writes are done, and remembered
//   replay             what was remembered is written once more
//
// A server reaches us by direct I/O only, in parallel: then every request of it is one of ours.
#define FUSE_USE_VERSION 35
#include <fcntl.h>
#include <fmt/format.h>
#include <fuse_lowlevel.h>
#include <linux/falloc.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <functional>
#include <sstream>
#include <vector>

#include "base/assert.h"
#include "faulty/store.h"

namespace {

using rnbd::fault::Store;

constexpr fuse_ino_t kControl = 2;
constexpr fuse_ino_t kFirstFile = 3;
constexpr double kTimeout = 3600;  // of attributes and names: they never change

struct File {
  std::string name;
  Store store;
};

struct Faults {
  int read = 0, write = 0, zero = 0, flush = 0;
};

// All there is; the session's loop is the only thread.
struct Directory {
  std::vector<File> files;
  Faults faults;
  bool stalled = false;
  struct Kept {
    fuse_req_t request;
    std::function<void()> act;
  };
  std::vector<Kept> kept;
  bool remembering = false;
  std::vector<std::function<void()>> remembered;

  File* file(fuse_ino_t inode) {
    const bool known = inode >= kFirstFile && inode - kFirstFile < files.size();
    return known ? &files[inode - kFirstFile] : nullptr;
  }
};

Directory& directory_of(fuse_req_t request) {
  return *static_cast<Directory*>(fuse_req_userdata(request));
}

// Does it now, or when it goes on.
void act(fuse_req_t request, std::function<void()> action) {
  Directory& directory = directory_of(request);
  if (directory.stalled)
    directory.kept.push_back({request, std::move(action)});
  else
    action();
}

struct stat attributes(Directory& directory, fuse_ino_t inode) {
  struct stat status {};
  status.st_ino = inode;
  status.st_nlink = 1;
  status.st_mode = inode == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0600;
  status.st_blksize = Store::kPage;
  if (const File* file = directory.file(inode)) {
    status.st_size = static_cast<off_t>(file->store.size());
    status.st_blocks = status.st_size / 512;
  }
  return status;
}

// --- commands -----------------------------------------------------------------------------------

void go(Directory& directory) {
  directory.stalled = false;
  auto kept = std::exchange(directory.kept, {});
  for (auto at = kept.rbegin(); at != kept.rend(); ++at) at->act();
}

void power_cut(Directory& directory, std::uint64_t seed) {
  directory.stalled = false;
  for (const auto& kept : std::exchange(directory.kept, {})) fuse_reply_err(kept.request, EIO);
  for (File& file : directory.files) file.store.power_cut(seed++);
}

bool command(Directory& directory, const std::string& line) {
  std::istringstream words(line);
  std::string word, what;
  words >> word;
  if (word == "stall" || word == "pass") {
    directory.stalled = word == "stall";
  } else if (word == "remember") {
    directory.remembering = true;
  } else if (word == "replay") {
    for (const auto& write : std::exchange(directory.remembered, {})) write();
    directory.remembering = false;
  } else if (word == "go") {
    go(directory);
  } else if (word == "heal") {
    directory.faults = {};
  } else if (word == "power-cut") {
    std::uint64_t seed = 0;
    if (!(words >> seed)) return false;
    power_cut(directory, seed);
  } else if (word == "fail") {
    int number = 0;
    if (!(words >> what >> number)) return false;
    int* fault = what == "read"    ? &directory.faults.read
                 : what == "write" ? &directory.faults.write
                 : what == "zero"  ? &directory.faults.zero
                 : what == "flush" ? &directory.faults.flush
                                   : nullptr;
    if (!fault) return false;
    *fault = number;
  } else {
    return false;
  }
  return true;
}

// --- names --------------------------------------------------------------------------------------

void on_lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  Directory& directory = directory_of(request);
  fuse_entry_param entry{};
  entry.attr_timeout = entry.entry_timeout = kTimeout;
  if (parent == FUSE_ROOT_ID && std::strcmp(name, "control") == 0) entry.ino = kControl;
  for (std::size_t i = 0; i < directory.files.size(); ++i)
    if (parent == FUSE_ROOT_ID && directory.files[i].name == name) entry.ino = kFirstFile + i;
  if (entry.ino == 0) {
    fuse_reply_err(request, ENOENT);
    return;
  }
  entry.attr = attributes(directory, entry.ino);
  fuse_reply_entry(request, &entry);
}

void on_getattr(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
  const struct stat status = attributes(directory_of(request), inode);
  fuse_reply_attr(request, &status, kTimeout);
}

void on_setattr(fuse_req_t request, fuse_ino_t inode, struct stat*, int, fuse_file_info*) {
  on_getattr(request, inode, nullptr);  // a shell truncates `control`: nothing to do
}

void on_open(fuse_req_t request, fuse_ino_t inode, fuse_file_info* info) {
  info->direct_io = inode == kControl ? 1 : 0;
  fuse_reply_open(request, info);
}

// --- bytes --------------------------------------------------------------------------------------

bool within(const Store& store, off_t offset, std::uint64_t length) {
  return offset >= 0 && static_cast<std::uint64_t>(offset) <= store.size() &&
         length <= store.size() - static_cast<std::uint64_t>(offset);
}

void on_read(fuse_req_t request, fuse_ino_t inode, std::size_t size, off_t offset,
             fuse_file_info*) {
  Directory& directory = directory_of(request);
  File* file = directory.file(inode);
  if (!file) {
    const std::string kept = offset == 0 ? fmt::format("{}\n", directory.kept.size()) : "";
    fuse_reply_buf(request, kept.data(), std::min(size, kept.size()));
    return;
  }
  act(request, [&directory, file, request, size, offset] {
    if (directory.faults.read) {
      fuse_reply_err(request, directory.faults.read);
      return;
    }
    const auto start = static_cast<std::uint64_t>(offset);
    const std::uint64_t left = start < file->store.size() ? file->store.size() - start : 0;
    std::vector<std::byte> bytes(std::min<std::uint64_t>(size, left));
    file->store.read(start, bytes);
    fuse_reply_buf(request, reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
}

void on_write(fuse_req_t request, fuse_ino_t inode, const char* data, std::size_t size,
              off_t offset, fuse_file_info* info) {
  Directory& directory = directory_of(request);
  File* file = directory.file(inode);
  if (!file) {
    command(directory, {data, size}) ? fuse_reply_write(request, size)
                                     : fuse_reply_err(request, EINVAL);
    return;
  }
  if (!within(file->store, offset, size)) {
    fuse_reply_err(request, EFBIG);
    return;
  }
  const auto* first = reinterpret_cast<const std::byte*>(data);
  const bool stable = (info->flags & O_DSYNC) != 0;
  act(request, [&directory, file, request, offset, stable,
                bytes = std::vector<std::byte>(first, first + size)] {
    const int error = directory.faults.write ? directory.faults.write
                      : stable               ? directory.faults.flush
                                             : 0;
    if (error) {
      fuse_reply_err(request, error);
      return;
    }
    const auto at = static_cast<std::uint64_t>(offset);
    file->store.write(at, bytes);
    if (directory.remembering)
      directory.remembered.push_back([file, at, bytes] { file->store.write(at, bytes); });
    if (stable) file->store.flush_range(at, bytes.size());
    fuse_reply_write(request, bytes.size());
  });
}

void on_fallocate(fuse_req_t request, fuse_ino_t inode, int mode, off_t offset, off_t length,
                  fuse_file_info*) {
  Directory& directory = directory_of(request);
  File* file = directory.file(inode);
  const bool zeroes = (mode & (FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE)) != 0;
  if (!file || !zeroes || offset < 0 || length <= 0) {
    fuse_reply_err(request, EOPNOTSUPP);
    return;
  }
  if (static_cast<std::uint64_t>(offset) >= file->store.size()) {
    fuse_reply_err(request, 0);  // there is nothing behind the end
    return;
  }
  length = std::min(length, static_cast<off_t>(file->store.size()) - offset);
  act(request, [&directory, file, request, offset, length] {
    if (!directory.faults.zero)
      file->store.zero(static_cast<std::uint64_t>(offset), static_cast<std::uint64_t>(length));
    fuse_reply_err(request, directory.faults.zero);
  });
}

void on_fsync(fuse_req_t request, fuse_ino_t inode, int, fuse_file_info*) {
  Directory& directory = directory_of(request);
  File* file = directory.file(inode);
  if (!file) {
    fuse_reply_err(request, 0);
    return;
  }
  act(request, [&directory, file, request] {
    directory.faults.flush ? file->store.flush_failed() : file->store.flush();
    fuse_reply_err(request, directory.faults.flush);
  });
}

const fuse_lowlevel_ops kOperations = [] {
  fuse_lowlevel_ops operations{};
  operations.lookup = on_lookup;
  operations.getattr = on_getattr;
  operations.setattr = on_setattr;
  operations.open = on_open;
  operations.read = on_read;
  operations.write = on_write;
  operations.fallocate = on_fallocate;
  operations.fsync = on_fsync;
  return operations;
}();

int serve(Directory& directory, const std::string& mountpoint) {
  std::vector<std::string> words{"rnbd-faulty", "-o", "fsname=rnbd-faulty"};
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  fuse_args arguments = FUSE_ARGS_INIT(static_cast<int>(pointers.size()), pointers.data());
  fuse_session* session =
      fuse_session_new(&arguments, &kOperations, sizeof(kOperations), &directory);
  if (!session) return 1;
  int status = 1;
  if (fuse_set_signal_handlers(session) == 0) {
    if (fuse_session_mount(session, mountpoint.c_str()) == 0) {
      status = fuse_session_loop(session) < 0 ? 1 : 0;
      power_cut(directory, 0);  // nobody waits for ever
      fuse_session_unmount(session);
    }
    fuse_remove_signal_handlers(session);
  }
  fuse_session_destroy(session);
  fuse_opt_free_args(&arguments);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  std::string mountpoint;
  std::vector<std::string> names;
  std::uint64_t size = 0;
  CLI::App app{"Serves files whose storage fails on command, in memory, until SIGTERM.",
               "rnbd-faulty"};
  app.add_option("mountpoint", mountpoint, "where they appear, beside `control`")->required();
  app.add_option("name", names, "of each file")->required();
  app.add_option("--size", size, "of each file, in bytes")
      ->required()
      ->check(CLI::Range(4096, 1 << 30));
  CLI11_PARSE(app, argc, argv);
  Directory directory;
  for (const std::string& name : names)
    directory.files.push_back({.name = name, .store = Store(size / Store::kPage * Store::kPage)});
  return serve(directory, mountpoint);
}
