#include "base/device_links.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <vector>

namespace rnbd {
namespace {

namespace stdfs = std::filesystem;

// The node a symbolic link of ours names; nothing for links of others.
std::optional<std::string> leads_to(const std::string& link) {
  std::error_code error;
  const stdfs::path target = stdfs::read_symlink(link, error);
  const std::string node = target.filename();
  const bool ours = node.rfind("loop", 0) == 0 || node.rfind("ublkb", 0) == 0;
  if (error || !ours) return std::nullopt;
  return node;
}

// A link of a daemon that is gone: its device is no disk any more, or newly made by us.
bool is_stale(const std::string& link, const std::string& ours) {
  const auto node = leads_to(link);
  return node && (*node == ours || !node_in_use(*node));
}

std::error_code link_to(const std::string& target, const std::string& link,
                        const std::string& ours) {
  if (::symlink(target.c_str(), link.c_str()) == 0) return {};
  if (errno != EEXIST) return from_errno(errno);
  if (!is_stale(link, ours)) return from_errno(EEXIST);
  ::unlink(link.c_str());
  return ::symlink(target.c_str(), link.c_str()) == 0 ? std::error_code{} : from_errno(errno);
}

Result<std::string> make_number_link(const std::string& directory, const std::string& target,
                                     const std::string& ours, unsigned wanted) {
  constexpr unsigned kNumbers = 1U << 20;
  for (unsigned attempt = 0; attempt < kNumbers; ++attempt) {
    const unsigned number = attempt == 0 ? wanted : attempt - 1;
    std::string link = directory + "/rnbd" + std::to_string(number);
    const std::error_code error = link_to(target, link, ours);
    if (!error) return link;
    if (error != from_errno(EEXIST)) return fail(error);
  }
  return fail_errno(ENOSPC);
}

Result<std::string> make_name_link(const std::string& directory, const std::string& target,
                                   const std::string& ours, const std::string& session,
                                   const std::string& volume) {
  const std::string base = directory + "/rnbd";
  const std::string folder = base + "/" + link_name(session);
  for (const std::string& made : {base, folder}) {
    if (::mkdir(made.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno(errno);
  }
  std::string link = folder + "/" + link_name(volume);
  if (const auto error = link_to(target, link, ours)) return fail(error);
  return link;
}

bool sound(const std::string& name) { return !name.empty() && name != "." && name != ".."; }

}  // namespace

std::string file_name(std::string_view volume_path) {
  std::string name(volume_path);
  std::replace(name.begin(), name.end(), '/', '!');
  return name;
}

std::size_t partition_suffix(std::string_view name) {
  constexpr std::string_view kPart = "-part";
  const std::size_t digits = name.find_last_not_of("0123456789") + 1;
  const bool is_one = digits != name.size() && name.substr(0, digits).ends_with(kPart);
  return is_one ? digits - kPart.size() : std::string_view::npos;
}

std::string udev_escape(char byte) {
  return fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
}

std::string link_name(std::string_view name) {
  std::string link;
  const std::size_t part = partition_suffix(name);
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '!' || name[i] == '\\' || i == part)
      link += udev_escape(name[i]);
    else
      link += name[i] == '/' ? '!' : name[i];
  }
  return link;
}

bool node_in_use(const std::string& node) {
  const std::string disk = "/sys/block/" + node;
  const bool loop = node.rfind("loop", 0) == 0;  // stays a node when it is free
  return ::access((loop ? disk + "/loop/backing_file" : disk).c_str(), F_OK) == 0;
}

Result<DeviceLinks> make_links(const LinkPlace& place, const std::string& node,
                               const std::string& session, const std::string& volume,
                               unsigned wanted) {
  if (!sound(session) || !sound(volume)) return fail_errno(EINVAL);
  const bool together = place.directory == place.device_directory;
  const std::string target = together ? node : place.device_directory + "/" + node;
  const std::string target_from_folder = together ? "../../" + node : target;
  auto name_link = make_name_link(place.directory, target_from_folder, node, session, volume);
  if (!name_link) return fail(name_link.error());
  auto number_link = make_number_link(place.directory, target, node, wanted);
  if (!number_link) {
    remove_links({"", *name_link}, node);
    return fail(number_link.error());
  }
  return DeviceLinks{std::move(*number_link), std::move(*name_link)};
}

void remove_links(const DeviceLinks& links, const std::string& node) {
  for (const std::string& link : {links.number_link, links.name_link}) {
    if (!link.empty() && leads_to(link) == node) ::unlink(link.c_str());
  }
  if (links.name_link.empty()) return;
  const stdfs::path folder = stdfs::path(links.name_link).parent_path();
  if (::rmdir(folder.c_str()) == 0) ::rmdir(folder.parent_path().c_str());
}

void remove_dead_links(const std::string& link_directory) {
  std::vector<std::string> dead;
  std::error_code error;
  for (const auto& entry : stdfs::directory_iterator(link_directory, error)) {
    const std::string name = entry.path().filename();
    if (name.rfind("rnbd", 0) == 0 && is_stale(entry.path(), "")) dead.push_back(entry.path());
  }
  for (const auto& entry : stdfs::recursive_directory_iterator(link_directory + "/rnbd", error)) {
    if (entry.is_symlink() && is_stale(entry.path(), "")) dead.push_back(entry.path());
  }
  for (const std::string& link : dead) {
    ::unlink(link.c_str());
    const stdfs::path folder = stdfs::path(link).parent_path();
    if (folder != stdfs::path(link_directory)) ::rmdir(folder.c_str());
  }
  ::rmdir((link_directory + "/rnbd").c_str());  // unless it is in use
}

}  // namespace rnbd
