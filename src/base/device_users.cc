#include "base/device_users.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

namespace rnbd {
namespace {

namespace stdfs = std::filesystem;

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "loop3" and its partitions.
std::set<std::string> block_names(const std::string& name) {
  std::set<std::string> names{name};
  std::error_code error;
  for (const auto& entry : stdfs::directory_iterator("/sys/block/" + name, error)) {
    const std::string child = entry.path().filename();
    if (child.rfind(name + "p", 0) == 0) names.insert(child);
  }
  return names;
}

void add_holders(const std::string& name, std::vector<std::string>& users) {
  std::error_code error;
  for (const auto& entry :
       stdfs::directory_iterator("/sys/class/block/" + name + "/holders", error)) {
    users.push_back("held by " + entry.path().filename().string());
  }
}

void add_swap(const std::set<std::string>& names, std::vector<std::string>& users) {
  std::ifstream file("/proc/swaps");
  std::string word, line;
  while (std::getline(file, line)) {
    std::istringstream(line) >> word;
    if (names.contains(stdfs::path(word).filename())) users.push_back("in use as swap");
  }
}

// `devices`: "7:3" and so on. Mount namespaces repeat each other: every place is told once.
void add_mounts(const std::string& process, const std::set<std::string>& devices,
                std::set<std::string>& places) {
  std::ifstream file(process + "/mountinfo");
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string id, parent, device, root, target;
    if (words >> id >> parent >> device >> root >> target && devices.contains(device))
      places.insert(target);
  }
}

bool has_open(const std::string& process, const std::set<std::string>& paths) {
  std::error_code error;
  for (const auto& entry : stdfs::directory_iterator(process + "/fd", error)) {
    const stdfs::path target =
        stdfs::read_symlink(entry.path(), error);  // never touches what it leads to
    if (!error && paths.contains(target)) return true;
    error.clear();
  }
  return false;
}

}  // namespace

std::vector<std::string> device_users(const std::string& node) {
  std::vector<std::string> users;
  const std::set<std::string> names = block_names(node);
  std::set<std::string> devices, paths, places;
  for (const std::string& name : names) {
    devices.insert(first_line("/sys/class/block/" + name + "/dev"));
    paths.insert("/dev/" + name);
    add_holders(name, users);
  }
  devices.erase("");
  add_swap(names, users);
  std::vector<std::string> openers;
  std::error_code error;
  for (const auto& entry : stdfs::directory_iterator("/proc", error)) {
    const std::string pid = entry.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    add_mounts(entry.path(), devices, places);
    if (has_open(entry.path(), paths)) {
      openers.push_back("open by " + pid + " (" + first_line(entry.path().string() + "/comm") +
                        ")");
    }
  }
  for (const std::string& place : places) users.push_back("mounted on " + place);
  users.insert(users.end(), openers.begin(), openers.end());
  return users;
}

std::vector<std::string> wait_for_users(const std::string& node, Duration patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    auto users = device_users(node);
    const bool passing = std::all_of(users.begin(), users.end(), [](const std::string& user) {
      return user.rfind("open by ", 0) == 0;
    });
    if (users.empty() || !passing || std::chrono::steady_clock::now() >= deadline) return users;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace rnbd
