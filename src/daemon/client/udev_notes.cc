#include "daemon/client/udev_notes.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/unique_fd.h"
#include "daemon/admin/runtime.h"
#include "daemon/whole_file.h"

namespace rnbd::daemon {
namespace {

namespace stdfs = std::filesystem;

constexpr const char* kDirectory = "/run/rnbd/udev";
constexpr const char* kUdevIsHere = "/run/udev/control";

// As udev has it in names of links: everything else becomes '_'.
std::string plain(std::string_view name) {
  std::string out;
  for (char c : name) {
    const bool kept = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      std::string_view("#+-.:=@_").find(c) != std::string_view::npos;
    out += kept ? c : '_';
  }
  return out == "." || out == ".." ? "_" : out;
}

void say_change(const std::string& uevent) {
  const UniqueFd fd(::open(uevent.c_str(), O_WRONLY | O_CLOEXEC));
  constexpr std::string_view kWord = "change";
  if (!fd || ::write(fd.get(), kWord.data(), kWord.size()) < 0)
    log_debug("udev is not told of {}", uevent);
}

}  // namespace

std::string udev_note(const BlockName& name) {
  const std::string_view volume = name.volume;
  const std::string link = plain(volume);
  const std::string bare =
      plain(volume.substr(std::min(volume.find_first_not_of('/'), volume.size())));
  return fmt::format(
      "RNBD_DEVICE={}\nRNBD_SESSION={}\nRNBD_VOLUME={}\nRNBD_LINK={}/{}\nRNBD_ID={}-{}\n",
      plain(name.device), plain(name.session), link, plain(name.session), link, plain(name.session),
      bare);
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
