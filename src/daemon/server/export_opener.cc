#include "daemon/server/export_opener.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "backend/file/file_device.h"
#include "backend/memory/memory_device.h"
#include "backend/null/null_device.h"
#include "base/event.h"

namespace rnbd::daemon {
namespace {

// One session's view of a volume that others may have open too.
class DeviceView final : public block::Device {
 public:
  explicit DeviceView(std::shared_ptr<block::Device> device) : device_(std::move(device)) {}
  const std::string& name() const override { return device_->name(); }
  block::Limits limits() const override { return device_->limits(); }
  Result<std::unique_ptr<block::Queue>> open_queue(Loop& loop) override {
    return device_->open_queue(loop);
  }
  Result<std::uint64_t> refresh_size() override { return device_->refresh_size(); }
  void clear_errors() override { device_->clear_errors(); }

 private:
  std::shared_ptr<block::Device> device_;
};

server::OpenedDevice view_of(std::shared_ptr<block::Device> device, std::string identity,
                             server::CacheLife cache_life, std::string place) {
  return {std::make_unique<DeviceView>(std::move(device)), std::move(identity), cache_life,
          std::move(place)};
}

// Where an open file or device is, as the kernel says.
std::string place_of(const UniqueFd& fd) {
  std::error_code error;
  return std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", fd.get()), error);
}

// As a client may write it: leading and doubled slashes do not count.
std::string plain_name(const std::string& name) {
  std::string plain;
  for (char c : name)
    if (c != '/' || (!plain.empty() && plain.back() != '/')) plain += c;
  return plain;
}

backend::FileOptions::Cache cache_of(const std::string& direct) {
  if (direct == "on") return backend::FileOptions::Cache::direct;
  if (direct == "off") return backend::FileOptions::Cache::buffered;
  return backend::FileOptions::Cache::automatic;
}

}  // namespace

ExportOpener::ExportOpener(const ServerConfig& config, const std::vector<ExportConfig>& exports)
    : config_(config),
      exports_(exports),
      resolver_(
          {.dev_search_path = config.dev_search_path, .follow_symlinks = config.follow_symlinks}) {}

void ExportOpener::configure(const ServerConfig& config, const std::vector<ExportConfig>& exports) {
  worker_.post([this, config, exports] {
    config_ = config;
    exports_ = exports;
    resolver_ = NameResolver(
        {.dev_search_path = config.dev_search_path, .follow_symlinks = config.follow_symlinks});
    std::erase_if(made_, [&](const auto& made) {  // what is open keeps it
      return std::none_of(exports.begin(), exports.end(),
                          [&](const ExportConfig& entry) { return entry.name == made.first; });
    });
  });
}

void ExportOpener::open(const std::string& session_name, const std::string& device_name,
                        server::AccessMode mode, Loop& loop,
                        std::function<void(Result<server::OpenedDevice>)> done) {
  worker_.post([this, session_name, device_name, mode, &loop, done = std::move(done)] {
    // Shared by the lambda's copies only: a std::function must be copyable, an open device is not.
    auto opened =
        std::make_shared<Result<server::OpenedDevice>>(open_now(session_name, device_name, mode));
    if (!*opened)
      log_event({.name = "open_refused",
                 .volume = device_name,
                 .session = session_name,
                 .error = opened->error(),
                 .of_peer = true},
                "not opened: {}", opened->error().message());
    loop.post([opened, done] { done(std::move(*opened)); });
  });
}

void ExportOpener::look(block::Device& device, Loop& loop,
                        std::function<void(Result<std::uint64_t>)> done) {
  worker_.post([&device, &loop, done = std::move(done)] {
    loop.post([done, size = device.refresh_size()] { done(size); });
  });
}

void ExportOpener::close(std::unique_ptr<block::Device> device, Loop& loop,
                         std::function<void()> done) {
  std::shared_ptr<block::Device> last = std::move(device);
  worker_.post([last = std::move(last), &loop, done = std::move(done)]() mutable {
    last.reset();
    loop.post(done);
  });
}

Result<server::OpenedDevice> ExportOpener::open_now(const std::string& session,
                                                    const std::string& name,
                                                    server::AccessMode mode) {
  std::string plain = plain_name(name);
  auto entry = std::find_if(exports_.begin(), exports_.end(),
                            [&](const ExportConfig& e) { return plain_name(e.name) == plain; });
  if (entry != exports_.end()) return open_export(*entry, mode);
  auto file = resolver_.resolve(session, name);
  if (!file) return fail(file.error());
  return open_file(std::move(*file), name, mode == server::AccessMode::ro, config_.block_size);
}

Result<server::OpenedDevice> ExportOpener::open_export(const ExportConfig& entry,
                                                       server::AccessMode mode) {
  if (entry.read_only && mode != server::AccessMode::ro) return fail_errno(EROFS);
  if (entry.backend != "file") {
    auto device = made_device(entry);
    if (!device) return fail(device.error());
    return view_of(
        std::move(*device), entry.backend + ":" + entry.name,
        entry.backend == "memory" ? server::CacheLife::process : server::CacheLife::forever,
        entry.backend + ":" + entry.name);
  }
  auto file = resolve_configured(entry.file);
  if (!file) return fail(file.error());
  return open_file(std::move(*file), entry.name, mode == server::AccessMode::ro,
                   entry.block_size != 0 ? entry.block_size : config_.block_size);
}

Result<server::OpenedDevice> ExportOpener::open_file(ResolvedFile file, const std::string& name,
                                                     bool read_only, std::uint64_t block_size) {
  std::weak_ptr<block::Device>& known = files_[file.identity + (read_only ? " ro" : " rw")];
  Shared device = known.lock();
  std::string place = place_of(file.handle);
  if (device) {
    (void)device->refresh_size();  // where that fails it stays as it was
  } else {
    backend::FileOptions options;
    options.name = name;
    options.read_only = read_only;
    options.write_through = config_.write_through;
    options.cache = cache_of(config_.direct);
    if (block_size != 0) options.logical_block_size = static_cast<std::uint32_t>(block_size);
    auto opened = backend::FileDevice::open(std::move(file.handle), options);
    if (!opened) return fail(opened.error());
    device = std::move(*opened);
    known = device;
  }
  std::erase_if(files_, [](const auto& entry) { return entry.second.expired(); });
  return view_of(std::move(device), file.identity, server::CacheLife::host, std::move(place));
}

// Memory and null exports are made when first opened, and then stay: what was written to memory is
// kept.
Result<ExportOpener::Shared> ExportOpener::made_device(const ExportConfig& entry) {
  if (auto at = made_.find(entry.name); at != made_.end()) return at->second;
  Shared device;
  auto block_size = static_cast<std::uint32_t>(entry.block_size != 0 ? entry.block_size : 512);
  if (entry.backend == "memory") {
    backend::MemoryOptions options;
    options.name = entry.name;
    options.size = entry.size;
    options.logical_block_size = block_size;
    options.read_only = entry.read_only;
    auto made = backend::MemoryDevice::create(options);
    if (!made) return fail(made.error());
    device = std::move(*made);
  } else {
    backend::NullOptions options;
    options.name = entry.name;
    options.size = entry.size;
    options.logical_block_size = block_size;
    options.read_only = entry.read_only;
    auto made = backend::NullDevice::create(options);
    if (!made) return fail(made.error());
    device = std::move(*made);
  }
  made_[entry.name] = device;
  return device;
}

}  // namespace rnbd::daemon
