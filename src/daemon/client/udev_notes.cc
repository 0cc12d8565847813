#include "daemon/client/udev_notes.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/device_links.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "daemon/admin/runtime.h"
#include "daemon/whole_file.h"

namespace rnbd::daemon {
namespace {

namespace stdfs = std::filesystem;

constexpr const char* kDirectory = "/run/rnbd/udev";
constexpr const char* kUdevIsHere = "/run/udev/control";

// As udev has it in names of links, "\x2f" for what it would not have there, so that different
// names stay different. `hyphen`: is one kept?
std::string escaped(std::string_view name, bool hyphen) {
  constexpr std::string_view kKept =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789#+-.:=@_";
  const bool directory = name == "." || name == "..";
  std::string out;
  for (const char c : name) {
    const bool kept = !directory && kKept.find(c) != std::string_view::npos && (hyphen || c != '-');
    out += kept ? std::string(1, c) : udev_escape(c);
  }
  return out;
}

// What partitions are called is left to them.
std::string link_of(std::string_view volume) {
  const std::size_t part = std::min(partition_suffix(volume), volume.size());
  return escaped(volume.substr(0, part), true) + escaped(volume.substr(part), false);
}

// Slashes in front say nothing to a server. The last '-' is the one between session and volume, but
// for that of a partition, which "part1" would be taken for.
std::string id_of(std::string_view volume) {
  const std::string_view bare =
      volume.substr(std::min(volume.find_first_not_of('/'), volume.size()));
  if (partition_suffix(fmt::format("-{}", bare)) != 0) return escaped(bare, false);
  return udev_escape(bare[0]) + std::string(bare.substr(1));
}

void say_change(const std::string& uevent) {
  const UniqueFd fd(::open(uevent.c_str(), O_WRONLY | O_CLOEXEC));
  constexpr std::string_view kWord = "change";
  if (!fd || ::write(fd.get(), kWord.data(), kWord.size()) < 0)
    log_debug("udev is not told of {}", uevent);
}

}  // namespace

std::string udev_note(const BlockName& name) {
  const std::string session = escaped(name.session, true);
  return fmt::format(
      "RNBD_DEVICE={}\nRNBD_SESSION={}\nRNBD_VOLUME={}\nRNBD_LINK={}/{}\nRNBD_ID={}-{}\n",
      escaped(name.device, true), session, escaped(name.volume, true), link_of(name.session),
      link_of(name.volume), session, id_of(name.volume));
}

UdevNotes UdevNotes::of_system(const std::string& devices_dir) {
  const bool possible =
      ::geteuid() == 0 && devices_dir == "/dev" && ::access(kUdevIsHere, F_OK) == 0;
  return UdevNotes(possible ? kDirectory : "");
}

void UdevNotes::clean_up() const {
  if (directory_.empty()) return;
  std::error_code error;
  std::vector<stdfs::path> gone;
  for (const auto& entry : stdfs::directory_iterator(directory_, error))
    if (!stdfs::exists(sysfs_ + "/class/block/" + entry.path().filename().string(), error))
      gone.push_back(entry.path());
  for (const stdfs::path& path : gone) stdfs::remove(path, error);
}

void UdevNotes::tell(const BlockName& name) const {
  if (directory_.empty() || name.node.empty()) return;
  std::error_code error = make_directory(directory_);
  if (!error) error = replace_file(directory_ + "/" + name.node, udev_note(name));
  if (error) return log_warning("udev is not told of {}: {}", name.node, error.message());
  const std::string device = sysfs_ + "/class/block/" + name.node;
  say_change(device + "/uevent");
  // The partitions were found before.
  for (const auto& entry : stdfs::directory_iterator(device, error))
    if (stdfs::exists(entry.path() / "partition", error)) say_change(entry.path() / "uevent");
}

void UdevNotes::forget(const std::string& node) const {
  if (directory_.empty() || node.empty()) return;
  ::unlink((directory_ + "/" + node).c_str());
}

}  // namespace rnbd::daemon
