#pragma once
// Opens what clients name: a configured [[export]] of that name first, else what NameResolver
// finds. The blocking part runs on a thread of its own. However many sessions open a volume,
// towards the system it is open once for writing and once for reading, so that its lock holds off
// other programs and not ourselves.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/config/config.h"
#include "daemon/server/name_resolver.h"
#include "daemon/worker.h"
#include "rnbd/server/exports.h"

namespace rnbd::daemon {

class ExportOpener final : public server::DeviceOpener {
 public:
  ExportOpener(const ServerConfig& config, const std::vector<ExportConfig>& exports);

  // For what is opened from now on.
  void configure(const ServerConfig& config, const std::vector<ExportConfig>& exports);

  void open(const std::string& session_name, const std::string& device_name,
            server::AccessMode mode, Loop& loop,
            std::function<void(Result<server::OpenedDevice>)> done) override;
  void look(block::Device& device, Loop& loop,
            std::function<void(Result<std::uint64_t>)> done) override;
  void close(std::unique_ptr<block::Device> device, Loop& loop,
             std::function<void()> done) override;

 private:
  // Shared by the views handed out, one per session that has the volume open; whoever is last
  // closes it.
  using Shared = std::shared_ptr<block::Device>;

  Result<server::OpenedDevice> open_now(const std::string& session, const std::string& name,
                                        server::AccessMode mode);
  Result<server::OpenedDevice> open_file(ResolvedFile file, const std::string& name, bool read_only,
                                         std::uint64_t block_size);
  Result<server::OpenedDevice> open_export(const ExportConfig& entry, server::AccessMode mode);
  Result<Shared> made_device(const ExportConfig& entry);

  // All of it belongs to the worker's thread.
  ServerConfig config_;
  std::vector<ExportConfig> exports_;
  NameResolver resolver_;
  std::map<std::string, std::weak_ptr<block::Device>> files_;  // by identity and direction
  std::map<std::string, Shared> made_;  // memory and null exports: they live as long as we do
  Worker worker_;                       // last: ends before the rest goes
};

}  // namespace rnbd::daemon
