// The calls of libfuse, one function each. All run on the mount's reactor, inside
// Channel::receive().
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "frontend/fuse/filesystem.h"
#include "frontend/fuse/fuse_api.h"

namespace rnbd::fuse {
namespace {

// Newer than the kernel headers of Debian 12 (linux/fuse.h of Linux 6.2); older kernels ignore it.
constexpr std::uint32_t kOpenParallelDirectWrites = 1U << 6;
constexpr double kNoCaching = 0.0;  // of names and attributes: volumes come, go and grow

}  // namespace

struct Operations {
  static Filesystem& self(fuse_req_t req) {
    return *static_cast<Filesystem*>(fuse_req_userdata(req));
  }

  // Open files hold their volume even after its removal, so the handle is the volume itself.
  static Volume& opened(const fuse_file_info* file) { return *reinterpret_cast<Volume*>(file->fh); }

  static void init(void* userdata, fuse_conn_info* conn) {
    constexpr unsigned kWanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
                                 FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_NO_OPENDIR_SUPPORT;
    conn->want = conn->capable & kWanted;  // no splice, no write-back cache
    conn->max_write = conn->max_read = kTransferMax;
    const std::uint32_t inflight = static_cast<Filesystem*>(userdata)->inflight_max_;
    conn->max_background = inflight;
    conn->congestion_threshold = std::max(1U, inflight * 3 / 4);
    conn->time_gran = 1;
  }

  static struct stat attributes(const Filesystem& fs, Volume* volume) {
    struct stat st {};
    st.st_uid = ::geteuid();
    st.st_gid = ::getegid();
    st.st_atim = st.st_mtim = st.st_ctim = fs.created_;
    if (volume == nullptr) {
      st.st_ino = FUSE_ROOT_ID;
      st.st_mode = S_IFDIR | 0700;
      st.st_nlink = 2;
      return st;
    }
    volume->limits = volume->device->limits();
    st.st_ino = volume->inode;
    st.st_mode = S_IFREG | (volume->read_only ? 0400U : 0600U);
    st.st_nlink = 1;
    st.st_size = static_cast<off_t>(volume->limits.size);
    st.st_blocks = static_cast<blkcnt_t>(volume->limits.size / 512);
    st.st_blksize = static_cast<blksize_t>(std::max(4096U, volume->limits.physical_block_size));
    return st;
  }

  static void lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
    Volume* volume = parent == FUSE_ROOT_ID ? self(req).find(std::string(name)) : nullptr;
    if (volume == nullptr) {
      fuse_reply_err(req, ENOENT);
      return;
    }
    fuse_entry_param entry{};
    entry.ino = volume->inode;
    entry.attr = attributes(self(req), volume);
    entry.attr_timeout = entry.entry_timeout = kNoCaching;
    fuse_reply_entry(req, &entry);
  }

  static void getattr(fuse_req_t req, fuse_ino_t inode, fuse_file_info*) {
    Volume* volume = self(req).find(inode);
    if (volume == nullptr && inode != FUSE_ROOT_ID) {
      fuse_reply_err(req, ESTALE);
      return;
    }
    const struct stat st = attributes(self(req), volume);
    fuse_reply_attr(req, &st, kNoCaching);
  }

  // Times may be set, to no effect; a size only to what it is.
  static void setattr(fuse_req_t req, fuse_ino_t inode, struct stat* wanted, int what,
                      fuse_file_info*) {
    Volume* volume = self(req).find(inode);
    if (volume == nullptr) {
      fuse_reply_err(req, inode == FUSE_ROOT_ID ? EPERM : ESTALE);
      return;
    }
    const struct stat st = attributes(self(req), volume);
    const bool resizes = (what & FUSE_SET_ATTR_SIZE) != 0 && wanted->st_size != st.st_size;
    if (resizes || (what & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0) {
      fuse_reply_err(req, EPERM);
    } else {
      fuse_reply_attr(req, &st, kNoCaching);
    }
  }

  // The answer is made by hand: libfuse has no word for parallel direct writes yet.
  static void open(fuse_req_t req, fuse_ino_t inode, fuse_file_info* file) {
    Volume* volume = self(req).find(inode);
    if (volume == nullptr) {
      fuse_reply_err(req, inode == FUSE_ROOT_ID ? EISDIR : ESTALE);
      return;
    }
    if (volume->read_only && (file->flags & O_ACCMODE) != O_RDONLY) {
      fuse_reply_err(req, EROFS);
      return;
    }
    fuse_open_out answer{};
    answer.fh = reinterpret_cast<std::uint64_t>(volume);
    answer.open_flags = FOPEN_DIRECT_IO | kOpenParallelDirectWrites;
    ++volume->opened;
    // The opener was interrupted and is gone: no release will come.
    if (fuse_reply_buf(req, reinterpret_cast<const char*>(&answer), sizeof answer) == -ENOENT)
      --volume->opened;
  }

  static void release(fuse_req_t req, fuse_ino_t, fuse_file_info* file) {
    Volume& volume = opened(file);
    RNBD_ASSERT(volume.opened > 0);
    --volume.opened;
    Filesystem& fs = self(req);
    fuse_reply_err(req, 0);
    fs.settle(volume);
  }

  static void read(fuse_req_t req, fuse_ino_t, std::size_t size, off_t offset,
                   fuse_file_info* file) {
    Volume& volume = opened(file);
    const auto begin = static_cast<std::uint64_t>(offset);
    if (volume.removed) {
      fuse_reply_err(req, EIO);
      return;
    }
    if (begin >= volume.limits.size || size == 0) {
      fuse_reply_buf(req, nullptr, 0);
      return;
    }
    const std::uint64_t length =
        std::min<std::uint64_t>({size, volume.limits.size - begin, kTransferMax});
    self(req).slots_->claim().start_read(volume, req, {begin, length});
  }

  static void write(fuse_req_t req, fuse_ino_t, const char* data, std::size_t size, off_t offset,
                    fuse_file_info* file) {
    Volume& volume = opened(file);
    const auto begin = static_cast<std::uint64_t>(offset);
    int error = 0;
    if (volume.removed) error = EIO;
    if (error == 0 && volume.read_only) error = EROFS;
    if (error == 0 && size > 0 && begin >= volume.limits.size) error = ENOSPC;
    if (error != 0) {
      fuse_reply_err(req, error);
      return;
    }
    if (size == 0) {
      fuse_reply_write(req, 0);
      return;
    }
    const std::uint64_t length =
        std::min<std::uint64_t>({size, volume.limits.size - begin, kTransferMax});
    IoSlot& slot = self(req).slots_->claim();
    const auto* bytes = reinterpret_cast<const std::byte*>(data);
    if (bytes != slot.payload()) std::memmove(slot.payload(), bytes, length);
    const bool durable = (file->flags & O_DSYNC) != 0;  // O_SYNC contains it
    slot.start_write(volume, req, {begin, length}, durable ? block::kFua : block::kNoFlags);
  }

  static void fsync(fuse_req_t req, fuse_ino_t, int, fuse_file_info* file) {
    Volume& volume = opened(file);
    if (volume.removed) {
      fuse_reply_err(req, EIO);
      return;
    }
    self(req).slots_->claim().start_flush(volume, req);
  }

  // Who punches a hole reads zeroes from it afterwards (the loop driver discards and zeroes this
  // way), which a discard does not promise. So both are write_zeroes: with and without leave to
  // free the blocks.
  static void fallocate(fuse_req_t req, fuse_ino_t, int mode, off_t offset, off_t length,
                        fuse_file_info* file) {
    Volume& volume = opened(file);
    const bool punch = mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    const bool zero = (mode & ~FALLOC_FL_KEEP_SIZE) == FALLOC_FL_ZERO_RANGE;
    const auto begin = static_cast<std::uint64_t>(offset);
    const std::uint64_t size = volume.limits.size;
    const bool beyond = begin > size || static_cast<std::uint64_t>(length) > size - begin;
    int error = 0;
    if (beyond && (mode & FALLOC_FL_KEEP_SIZE) == 0) error = ENOSPC;
    if ((!punch && !zero) || volume.limits.max_write_zeroes == 0) error = EOPNOTSUPP;
    if (volume.read_only) error = EROFS;
    if (volume.removed) error = EIO;
    if (error != 0 || length <= 0 || begin >= size) {
      fuse_reply_err(req, error);
      return;
    }
    const Extent extent{begin, std::min(static_cast<std::uint64_t>(length), size - begin)};
    self(req).slots_->claim().start_zero(volume, req, extent,
                                         zero ? block::kNoUnmap : block::kNoFlags);
  }

  static void statfs(fuse_req_t req, fuse_ino_t inode) {
    const Volume* volume = self(req).find(inode);
    struct statvfs st {};
    // The loop driver takes the block size as the granularity of discards.
    st.f_bsize = st.f_frsize = 4096;
    if (volume != nullptr) {
      st.f_bsize = st.f_frsize =
          std::max(volume->limits.logical_block_size, volume->limits.discard_granularity);
    }
    st.f_namemax = 255;
    fuse_reply_statfs(req, &st);
  }

  // Positions: 1 and 2 behind the dots, then the inode of the entry before.
  static void readdir(fuse_req_t req, fuse_ino_t inode, std::size_t size, off_t offset,
                      fuse_file_info*) {
    if (inode != FUSE_ROOT_ID) {
      fuse_reply_err(req, ENOTDIR);
      return;
    }
    Filesystem& fs = self(req);
    std::vector<char> buffer(size);
    std::size_t used = 0;
    const auto add = [&](const char* name, const struct stat& st, std::uint64_t next) {
      const std::size_t room = size - used;
      const std::size_t needed =
          fuse_add_direntry(req, buffer.data() + used, room, name, &st, static_cast<off_t>(next));
      if (needed > room) return false;
      used += needed;
      return true;
    };
    const struct stat directory = attributes(fs, nullptr);
    bool more = (offset > 0 || add(".", directory, 1)) && (offset > 1 || add("..", directory, 2));
    for (const auto& [number, volume] : fs.volumes_) {
      if (!more) break;
      if (volume->removed || number <= static_cast<std::uint64_t>(offset)) continue;
      more = add(volume->name.c_str(), attributes(fs, volume.get()), number);
    }
    fuse_reply_buf(req, buffer.data(), used);
  }

  static fuse_lowlevel_ops table() {
    fuse_lowlevel_ops ops{};
    ops.init = &init;
    ops.lookup = &lookup;
    ops.getattr = &getattr;
    ops.setattr = &setattr;
    ops.open = &open;
    ops.release = &release;
    ops.read = &read;
    ops.write = &write;
    ops.fsync = &fsync;
    ops.fallocate = &fallocate;
    ops.statfs = &statfs;
    ops.readdir = &readdir;
    // Volumes come and go by mapping, not by hand.
    ops.mknod = [](fuse_req_t req, fuse_ino_t, const char*, mode_t, dev_t) {
      fuse_reply_err(req, EPERM);
    };
    ops.mkdir = [](fuse_req_t req, fuse_ino_t, const char*, mode_t) { fuse_reply_err(req, EPERM); };
    ops.unlink = [](fuse_req_t req, fuse_ino_t, const char*) { fuse_reply_err(req, EPERM); };
    ops.rmdir = ops.unlink;
    ops.symlink = [](fuse_req_t req, const char*, fuse_ino_t, const char*) {
      fuse_reply_err(req, EPERM);
    };
    ops.rename = [](fuse_req_t req, fuse_ino_t, const char*, fuse_ino_t, const char*, unsigned) {
      fuse_reply_err(req, EPERM);
    };
    ops.link = [](fuse_req_t req, fuse_ino_t, fuse_ino_t, const char*) {
      fuse_reply_err(req, EPERM);
    };
    ops.create = [](fuse_req_t req, fuse_ino_t, const char*, mode_t, fuse_file_info*) {
      fuse_reply_err(req, EPERM);
    };
    return ops;
  }
};

const fuse_lowlevel_ops& Filesystem::operations() {
  static const fuse_lowlevel_ops ops = Operations::table();
  return ops;
}

}  // namespace rnbd::fuse
