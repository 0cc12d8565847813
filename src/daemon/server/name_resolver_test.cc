#include "daemon/server/name_resolver.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <thread>

namespace rnbd::daemon {
namespace {

namespace fs = std::filesystem;

class Names : public testing::Test {
 protected:
  Names() {
    std::string name = testing::TempDir() + "rnbd-names-XXXXXX";
    root_ = mkdtemp(name.data());
    search_ = root_ + "/volumes";
    fs::create_directories(search_ + "/a/b");
    fs::create_directories(search_ + "/client@1");
    write(root_ + "/secret", "secret");
    write(search_ + "/vol0", "vol0");
    write(search_ + "/a/b/vol1", "vol1");
    write(search_ + "/client@1/own", "own");
    write(search_ + "/...", "dots");
  }
  ~Names() override { fs::remove_all(root_); }

  static void write(const std::string& path, const std::string& text) {
    std::ofstream(path) << text;
  }
  NameResolver resolver(bool follow = false) const {
    return NameResolver({.dev_search_path = search_, .follow_symlinks = follow});
  }
  // What is in the file the name leads to, or the errno as text.
  static std::string found(const NameResolver& resolver, const std::string& name,
                           const std::string& session = "client@1") {
    auto file = resolver.resolve(session, name);
    if (!file) return std::to_string(file.error().value());
    auto fd = reopen(*file, O_RDONLY);
    if (!fd) return "reopen";
    char text[32] = {};
    return std::string(
        text, static_cast<std::size_t>(std::max<ssize_t>(0, read(fd->get(), text, sizeof text))));
  }
  static std::string no(int error) { return std::to_string(error); }

  std::string root_, search_;
};

TEST_F(Names, LieBeneathTheSearchPathAlsoWhenAbsolute) {
  EXPECT_EQ(found(resolver(), "vol0"), "vol0");
  EXPECT_EQ(found(resolver(), "/vol0"), "vol0");
  EXPECT_EQ(found(resolver(), "//a//b/./vol1"), "vol1");
  EXPECT_EQ(found(resolver(), "/etc/passwd"), no(ENOENT));
  EXPECT_EQ(found(resolver(), search_ + "/vol0"), no(ENOENT));
}

TEST_F(Names, ThatClimbAreRefusedWhereverTheDotsStand) {
  for (std::string name : {"..", "../secret", "a/../vol0", "a/../../secret", "/..", "/../secret",
                           "a..b", "...", "vol0/..", "./../secret"})
    EXPECT_EQ(found(resolver(), name), no(EINVAL)) << name;
}

TEST_F(Names, ThatAreNoneAreRefused) {
  for (std::string name : {std::string(""), std::string("/"), std::string("////"),
                           std::string(5000, 'x'), std::string("vol0\0x", 6)})
    EXPECT_EQ(found(resolver(), name), no(EINVAL)) << name.size();
  EXPECT_EQ(found(resolver(), std::string(300, 'x')), no(ENAMETOOLONG));
  EXPECT_EQ(found(resolver(), "none"), no(ENOENT));
  EXPECT_EQ(found(resolver(), "vol0/x"), no(ENOTDIR));
}

TEST_F(Names, OfLinksAreRefusedUnlessAllowedAndNeverLeadOut) {
  fs::create_symlink("vol0", search_ + "/inside");
  fs::create_symlink("../volumes/vol0", search_ + "/around");
  fs::create_symlink("../secret", search_ + "/outside");
  fs::create_symlink(root_ + "/secret", search_ + "/absolute");
  fs::create_symlink(root_, search_ + "/directory");
  fs::create_symlink("/proc/self/root", search_ + "/magic");
  for (std::string name :
       {"inside", "around", "outside", "absolute", "directory/secret", "magic/etc/passwd"})
    EXPECT_EQ(found(resolver(), name), no(EACCES)) << name;
  EXPECT_EQ(found(resolver(true), "inside"), "vol0");
  for (std::string name : {"around", "outside", "absolute", "directory/secret", "magic/etc/passwd"})
    EXPECT_EQ(found(resolver(true), name), no(EACCES)) << name;
}

TEST_F(Names, OfMagicLinksAreRefusedEvenWhereLinksAreAllowed) {
  UniqueFd secret(open((root_ + "/secret").c_str(), O_RDONLY));
  NameResolver proc({.dev_search_path = "/proc/self/fd", .follow_symlinks = true});
  EXPECT_EQ(found(proc, std::to_string(secret.get())), no(EACCES));
}

TEST_F(Names, OfAnythingButFilesAndBlockDevicesAreRefusedWithoutOpeningIt) {
  ASSERT_EQ(mkfifo((search_ + "/fifo").c_str(), 0600), 0);
  EXPECT_EQ(found(resolver(), "fifo"), no(ENOTBLK));  // and did not wait for a writer
  EXPECT_EQ(found(resolver(), "a"), no(ENOTBLK));
  EXPECT_EQ(found(resolver(), "."), no(ENOTBLK));
  EXPECT_EQ(found(resolver(), "./"), no(ENOTBLK));
  NameResolver dev({.dev_search_path = "/dev", .follow_symlinks = false});
  EXPECT_EQ(found(dev, "null"), no(ENOTBLK));
  EXPECT_EQ(found(dev, "tty"), no(ENOTBLK));
}

TEST_F(Names, ABlockDeviceIsKnownByItsNumber) {
  std::string node = search_ + "/disk";
  if (mknod(node.c_str(), S_IFBLK | 0600, makedev(7, 99)) != 0)
    GTEST_SKIP() << "needs the right to make device nodes";
  auto file = resolver().resolve("s", "disk");
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_TRUE(file->block_device);
  EXPECT_EQ(file->identity, "block:7:99");
}

TEST_F(Names, TwoNamesOfOneFileHaveOneIdentity) {
  fs::create_hard_link(search_ + "/vol0", search_ + "/same");
  EXPECT_EQ(resolver().resolve("s", "vol0")->identity, resolver().resolve("s", "//same")->identity);
  EXPECT_NE(resolver().resolve("s", "vol0")->identity,
            resolver().resolve("s", "a/b/vol1")->identity);
}

TEST_F(Names, TheSessionsNameStandsInThePathAndWhatFollowsItIsDropped) {
  NameResolver own({.dev_search_path = search_ + "/%SESSNAME%/ignored", .follow_symlinks = false});
  EXPECT_EQ(found(own, "own", "client@1"), "own");
  EXPECT_EQ(found(own, "vol0", "client@1"), no(ENOENT));
  EXPECT_EQ(found(own, "own", "client@2"), no(ENOENT));
}

TEST_F(Names, ASessionsNameThatCouldLeadElsewhereIsRefused) {
  NameResolver own({.dev_search_path = search_ + "/%SESSNAME%", .follow_symlinks = true});
  for (std::string session : {std::string(""), std::string("."), std::string(".."),
                              std::string("a/b"), std::string("../volumes"), std::string("a b"),
                              std::string("a\0b", 3), std::string("x\n"), std::string(256, 'x')})
    EXPECT_EQ(found(own, "own", session), no(EINVAL)) << session;
  fs::create_symlink("client@1", search_ + "/client@2");
  EXPECT_EQ(found(own, "own", "client@2"), no(EACCES));
}

TEST_F(Names, NothingIsFoundWithoutASearchPath) {
  EXPECT_EQ(found(NameResolver({.dev_search_path = "", .follow_symlinks = false}), "vol0"),
            no(ENOENT));
  EXPECT_EQ(
      found(NameResolver({.dev_search_path = root_ + "/none", .follow_symlinks = false}), "vol0"),
      no(ENOENT));
}

TEST_F(Names, ARaceOfRenamesNeverLeadsOut) {
  fs::create_directories(search_ + "/swap");
  write(search_ + "/swap/secret", "harmless");
  fs::create_symlink(root_, search_ + "/link");
  std::atomic<bool> stop{false};
  std::thread renamer([&] {
    while (!stop.load())
      renameat2(AT_FDCWD, (search_ + "/swap").c_str(), AT_FDCWD, (search_ + "/link").c_str(),
                RENAME_EXCHANGE);
  });
  int harmless = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text = found(resolver(true), "swap/secret");
    ASSERT_NE(text, "secret");
    harmless += text == "harmless" ? 1 : 0;
  }
  stop.store(true);
  renamer.join();
  EXPECT_GT(harmless, 0);
}

}  // namespace
}  // namespace rnbd::daemon
