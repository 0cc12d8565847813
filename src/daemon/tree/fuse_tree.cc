#include "daemon/tree/fuse_tree.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "daemon/tree/store.h"

namespace rnbd::daemon {
namespace {

constexpr double kNoCaching = 0.0;    // directories come and go, and with them counts of links
constexpr double kForGood = 86400.0;  // names of those that last
// Room for writes that are too long, so that they come in one piece and are refused as one.
constexpr unsigned kTransferMax = 65536;

std::string below(const std::string& directory, const char* name) {
  return directory.empty() ? name : directory + "/" + name;
}

// `nodes`: a directory with its children.
std::uint32_t links_of(const Nodes& nodes) {
  const auto directories = std::count_if(nodes.begin(), nodes.end(), [](const Node& node) {
    return node.kind == NodeKind::directory;
  });
  return 1 + static_cast<std::uint32_t>(directories);
}

mode_t type_of(NodeKind kind) {
  return kind == NodeKind::attribute ? S_IFREG : kind == NodeKind::link ? S_IFLNK : S_IFDIR;
}

}  // namespace

// ---- requests that wait ----

std::uint64_t FuseTree::wait(fuse_req_t request) {
  const std::uint64_t id = ++last_id_;
  Waiting& waiting = waiting_[id];
  waiting = {id, request, this};
  fuse_req_interrupt_func(request, &FuseTree::on_interrupt, &waiting);
  return id;
}

fuse_req_t FuseTree::take(std::uint64_t id) {
  const auto at = waiting_.find(id);
  if (at == waiting_.end()) return nullptr;
  fuse_req_t request = at->second.request;
  fuse_req_interrupt_func(request, nullptr, nullptr);
  waiting_.erase(at);
  return request;
}

// From inside libfuse, with its locks held: remembered only.
void FuseTree::on_interrupt(fuse_req_t, void* data) {
  auto* waiting = static_cast<Waiting*>(data);
  if (waiting != nullptr) waiting->tree->interrupted_.push_back(waiting->id);
}

void FuseTree::answer_interrupted() {
  for (std::uint64_t id : std::exchange(interrupted_, {}))
    if (fuse_req_t request = take(id)) fuse_reply_err(request, EINTR);
}

void FuseTree::end(int error) {
  std::vector<std::uint64_t> ids;
  for (const auto& [id, waiting] : waiting_) ids.push_back(id);
  for (std::uint64_t id : ids)
    if (fuse_req_t request = take(id)) fuse_reply_err(request, error);
  interrupted_.clear();
  inodes_.clear();
  files_.clear();
}

// ---- answers ----

struct stat FuseTree::attributes(const Inode& inode) const {
  struct stat st {};
  st.st_ino = inode.number;
  st.st_mode = type_of(inode.kind) | inode.mode;
  if (inode.kind == NodeKind::attribute && owner_.group_writes && (inode.mode & 0200U) != 0)
    st.st_mode |= 0020U;
  st.st_nlink = inode.links;
  st.st_uid = owner_.uid;
  st.st_gid = owner_.gid;
  st.st_size = inode.kind == NodeKind::attribute ? off_t{kAttributeSize} : 0;
  st.st_blksize = static_cast<blksize_t>(kAttributeSize);
  st.st_atim = st.st_mtim = st.st_ctim = inode.since;
  return st;
}

// `nodes`: the node at `path`, and its children if it is a directory.
void FuseTree::reply_entry(fuse_req_t request, const Nodes& nodes, const std::string& path) {
  const auto at =
      std::find_if(nodes.begin(), nodes.end(), [&](const Node& node) { return node.path == path; });
  if (at == nodes.end()) {
    fuse_reply_err(request, ENOENT);
    return;
  }
  Inode& inode = inodes_.know(*at);
  if (inode.kind == NodeKind::directory) inode.links = links_of(nodes);
  fuse_entry_param entry{};
  entry.ino = inode.number;
  entry.attr = attributes(inode);
  entry.attr_timeout = kNoCaching;
  entry.entry_timeout = is_lasting(path) ? kForGood : kNoCaching;
  ++inode.lookups;
  if (fuse_reply_entry(request, &entry) != 0) inodes_.forget(entry.ino, 1);
}

void FuseTree::reply_attributes(fuse_req_t request, std::uint64_t number) {
  const Inode* inode = inodes_.find(number);
  if (inode == nullptr) {
    fuse_reply_err(request, ESTALE);
    return;
  }
  const struct stat st = attributes(*inode);
  fuse_reply_attr(request, &st, kNoCaching);
}

// ---- the calls ----

struct TreeOperations {
  static FuseTree& self(fuse_req_t req) { return *static_cast<FuseTree*>(fuse_req_userdata(req)); }

  static void init(void*, fuse_conn_info* conn) {
    conn->want = conn->capable & (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_PARALLEL_DIROPS);
    conn->max_write = kTransferMax;
  }

  static void lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
    FuseTree& tree = self(req);
    const Inode* directory = tree.inodes_.find(parent);
    if (directory == nullptr) {
      fuse_reply_err(req, ENOENT);
      return;
    }
    const std::string path = below(directory->path, name);
    tree.access_.look(path, Depth::children,
                      [&tree, id = tree.wait(req), path](const Nodes& nodes) {
                        if (fuse_req_t waiting = tree.take(id))
                          tree.reply_entry(waiting, nodes, path);
                      });
  }

  static void forget(fuse_req_t req, fuse_ino_t number, std::uint64_t lookups) {
    self(req).inodes_.forget(number, lookups);
    fuse_reply_none(req);
  }

  static void forget_multi(fuse_req_t req, std::size_t count, fuse_forget_data* forgets) {
    for (std::size_t i = 0; i < count; ++i)
      self(req).inodes_.forget(forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
  }

  // As of the look-up just before, except for those the kernel does not look up again.
  static void getattr(fuse_req_t req, fuse_ino_t number, fuse_file_info*) {
    FuseTree& tree = self(req);
    const Inode* inode = tree.inodes_.find(number);
    if (inode == nullptr || !is_lasting(inode->path)) return tree.reply_attributes(req, number);
    tree.access_.look(inode->path, Depth::children,
                      [&tree, id = tree.wait(req), number](const Nodes& nodes) {
                        if (Inode* found = tree.inodes_.find(number))
                          found->links = links_of(nodes);
                        if (fuse_req_t waiting = tree.take(id))
                          tree.reply_attributes(waiting, number);
                      });
  }

  // Writers truncate first, to no effect.
  static void setattr(fuse_req_t req, fuse_ino_t number, struct stat*, int what,
                      fuse_file_info* file) {
    if ((what & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0)
      fuse_reply_err(req, EPERM);
    else
      getattr(req, number, file);
  }

  static void readlink(fuse_req_t req, fuse_ino_t number) {
    const Inode* inode = self(req).inodes_.find(number);
    if (inode == nullptr || inode->kind != NodeKind::link)
      fuse_reply_err(req, inode == nullptr ? ESTALE : EINVAL);
    else
      fuse_reply_readlink(req, inode->target.c_str());
  }

  static void open(fuse_req_t req, fuse_ino_t number, fuse_file_info* info) {
    FuseTree& tree = self(req);
    const Inode* inode = tree.inodes_.find(number);
    int error = 0;
    if (inode == nullptr)
      error = ESTALE;
    else if (inode->kind == NodeKind::directory)
      error = EISDIR;
    // As in sysfs, root is no exception.
    else if ((info->flags & O_ACCMODE) != O_RDONLY && (inode->mode & 0222U) == 0)
      error = EACCES;
    if (error != 0) {
      fuse_reply_err(req, error);
      return;
    }
    info->fh = tree.files_.open({.path = inode->path, .inode = number});
    // FOPEN_PARALLEL_DIRECT_WRITES would be of no use: Linux takes a file that was opened with
    // O_TRUNC for empty, and who writes beyond the end locks out all others.
    info->direct_io = 1;
    if (fuse_reply_open(req, info) != 0) tree.files_.close(info->fh);
  }

  static void release(fuse_req_t req, fuse_ino_t, fuse_file_info* info) {
    self(req).files_.close(info->fh);
    fuse_reply_err(req, 0);
  }

  static void reply_part(fuse_req_t req, const std::string& text, std::size_t size, off_t offset) {
    const auto begin = std::min(static_cast<std::size_t>(offset), text.size());
    fuse_reply_buf(req, text.data() + begin, std::min(size, text.size() - begin));
  }

  // Made anew when it is read from its beginning; what follows is of the same moment.
  static void read(fuse_req_t req, fuse_ino_t, std::size_t size, off_t offset,
                   fuse_file_info* info) {
    FuseTree& tree = self(req);
    const OpenFile* file = tree.files_.find(info->fh);
    if (file == nullptr) {
      fuse_reply_err(req, EBADF);
      return;
    }
    if (offset > 0 && file->filled) return reply_part(req, file->text, size, offset);
    tree.access_.look(
        file->path, Depth::node,
        [&tree, id = tree.wait(req), handle = info->fh, size, offset](const Nodes& nodes) {
          OpenFile* opened = tree.files_.find(handle);
          fuse_req_t waiting = tree.take(id);
          if (waiting == nullptr) return;
          if (opened == nullptr || nodes.empty() || nodes[0].kind != NodeKind::attribute) {
            fuse_reply_err(waiting, ENODEV);
            return;
          }
          opened->text = nodes[0].text;
          opened->filled = true;
          reply_part(waiting, opened->text, size, offset);
        });
  }

  // Each write() is a command of its own, wherever in the file.
  static void write(fuse_req_t req, fuse_ino_t, const char* data, std::size_t size, off_t,
                    fuse_file_info* info) {
    FuseTree& tree = self(req);
    const OpenFile* file = tree.files_.find(info->fh);
    if (file == nullptr || size > kWriteMax) {
      fuse_reply_err(req, file == nullptr ? EBADF : E2BIG);
      return;
    }
    tree.access_.write(file->path, std::string(data, size),
                       [&tree, id = tree.wait(req), size](int error) {
                         fuse_req_t waiting = tree.take(id);
                         if (waiting == nullptr) return;
                         if (error != 0)
                           fuse_reply_err(waiting, error);
                         else
                           fuse_reply_write(waiting, size);
                       });
  }

  static void opendir(fuse_req_t req, fuse_ino_t number, fuse_file_info* info) {
    FuseTree& tree = self(req);
    const Inode* inode = tree.inodes_.find(number);
    if (inode == nullptr) {
      fuse_reply_err(req, ESTALE);
      return;
    }
    tree.access_.look(inode->path, Depth::children,
                      [&tree, id = tree.wait(req), path = inode->path, number,
                       opened = *info](const Nodes& nodes) mutable {
                        fuse_req_t waiting = tree.take(id);
                        if (waiting == nullptr) return;
                        const bool there =
                            std::any_of(nodes.begin(), nodes.end(),
                                        [&](const Node& node) { return node.path == path; });
                        if (!there) {
                          fuse_reply_err(waiting, ENOENT);
                          return;
                        }
                        OpenFile file{.path = path, .inode = number};
                        for (const Node& node : nodes)
                          if (node.path != path) file.children.push_back(node);
                        opened.fh = tree.files_.open(std::move(file));
                        if (fuse_reply_open(waiting, &opened) != 0) tree.files_.close(opened.fh);
                      });
  }

  // Positions: 1 and 2 behind the dots, then the number of the child.
  static void readdir(fuse_req_t req, fuse_ino_t number, std::size_t size, off_t offset,
                      fuse_file_info* info) {
    const OpenFile* file = self(req).files_.find(info->fh);
    if (file == nullptr) {
      fuse_reply_err(req, EBADF);
      return;
    }
    std::vector<char> buffer(std::min<std::size_t>(size, kTransferMax));
    std::size_t used = 0;
    const auto add = [&](const char* name, mode_t type, std::size_t next) {
      struct stat st {};
      st.st_ino = name[0] == '.' ? number : 0xffffffff;
      st.st_mode = type;
      const std::size_t room = buffer.size() - used;
      const std::size_t needed =
          fuse_add_direntry(req, buffer.data() + used, room, name, &st, static_cast<off_t>(next));
      if (needed > room) return false;
      used += needed;
      return true;
    };
    auto position = static_cast<std::size_t>(offset);
    bool more = true;
    for (; more && position < 2; position += more ? 1U : 0U)
      more = add(position == 0 ? "." : "..", S_IFDIR, position + 1);
    for (; more && position - 2 < file->children.size(); ++position) {
      const Node& child = file->children[position - 2];
      const char* name = child.path.c_str() + (file->path.empty() ? 0 : file->path.size() + 1);
      more = add(name, type_of(child.kind), position + 1);
    }
    fuse_reply_buf(req, buffer.data(), used);
  }

  static void statfs(fuse_req_t req, fuse_ino_t) {
    struct statvfs st {};
    st.f_bsize = st.f_frsize = kAttributeSize;
    st.f_namemax = 255;
    fuse_reply_statfs(req, &st);
  }

  static fuse_lowlevel_ops table() {
    fuse_lowlevel_ops ops{};
    ops.init = &init;
    ops.lookup = &lookup;
    ops.forget = &forget;
    ops.forget_multi = &forget_multi;
    ops.getattr = &getattr;
    ops.setattr = &setattr;
    ops.readlink = &readlink;
    ops.open = &open;
    ops.release = &release;
    ops.read = &read;
    ops.write = &write;
    ops.opendir = &opendir;
    ops.readdir = &readdir;
    ops.releasedir = &release;
    ops.statfs = &statfs;
    // Nothing is made or removed by hand; the errnos are those of sysfs.
    ops.create = [](fuse_req_t req, fuse_ino_t, const char*, mode_t, fuse_file_info*) {
      fuse_reply_err(req, EACCES);
    };
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
    return ops;
  }
};

const fuse_lowlevel_ops& FuseTree::operations() {
  static const fuse_lowlevel_ops ops = TreeOperations::table();
  return ops;
}

}  // namespace rnbd::daemon
