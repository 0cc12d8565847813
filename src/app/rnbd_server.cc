// rnbd-server: serves volumes.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "base/log.h"
#include "daemon/admin/runtime.h"
#include "daemon/server/server_daemon.h"
#include "daemon/service.h"

namespace {

using namespace rnbd;
using namespace rnbd::daemon;

struct Options {
  std::string directory, config_file, socket, unix_listen, log_level;
  std::vector<std::string> listen;
  std::optional<unsigned> port;
  bool print_config = false, foreground = false;
};

void apply(const Options& options, Config& config) {
  if (!options.directory.empty())
    config.server.dev_search_path = std::filesystem::absolute(options.directory).lexically_normal();
  if (!options.socket.empty()) config.server.admin_socket = options.socket;
  if (!environment("RNBD_DEBUG").empty()) config.log_level = "debug";
  if (!options.log_level.empty()) config.log_level = options.log_level;
  if (options.port) config.server.port_nr = *options.port;
  if (!options.unix_listen.empty())
    config.server.unix_listen = std::filesystem::absolute(options.unix_listen);
  if (options.listen.empty()) return;
  config.server.listen.clear();
  for (const std::string& address : options.listen) {
    if (address.starts_with("unix:"))
      config.server.unix_listen = address.substr(5);
    else
      config.server.listen.push_back(address);
  }
}

// The files as they are now, with the command line on top.
Outcome<Config> configuration(const Options& options) {
  const bool named = !options.config_file.empty();
  auto config = load_config(named ? options.config_file : default_config_file(),
                            named || !environment("RNBD_CONFIG").empty());
  if (config) apply(options, *config);
  return config;
}

int serve(const Config& config, const Options& options) {
  ExitSignals signals;
  start_log("rnbd-server", config.log_level);
  raise_file_limit();
  auto daemon = ServerDaemon::start(config);
  if (!daemon) return report("rnbd-server", daemon.error());
  for (const std::string& address : (*daemon)->listening()) log_info("listening on {}", address);
  if (!config.server.dev_search_path.empty())
    log_info("serving volumes in {}", config.server.dev_search_path);
  for (const ExportConfig& entry : config.exports)
    log_info("serving '{}' ({})", printable(entry.name), entry.backend);
  notify_service_manager("READY=1");
  std::string_view signal = signals.wait([&] {
    if (auto next = configuration(options))
      (*daemon)->reload(*next);
    else
      log_error("the configuration stays as it was: {}", next.error().text());
  });
  log_info("{}: closing volumes", signal);
  notify_service_manager("STOPPING=1");
  daemon->reset();
  log_info("done");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"Serves the files and block devices of a directory as RNBD volumes.", "rnbd-server"};
  app.add_option("DIR", options.directory, "Directory of the volumes (dev_search_path)");
  app.add_option(
         "--listen", options.listen,
         "Address to listen on: ip:0.0.0.0 (TCP, and RDMA where there is a device), rdma:10.0.0.1, "
         "tcp:10.0.0.1, ip:::, unix:/path; may be repeated")
      ->type_name("ADDR")
      ->allow_extra_args(false)  // what follows is the directory
      ->take_all();
  app.add_option("--port", options.port, "Port of these addresses (default 1234; 0: any free one)")
      ->check(CLI::Range(0U, 65535U));
  app.add_option("--unix", options.unix_listen, "Unix socket to listen on as well");
  app.add_option("-c,--config", options.config_file,
                 "Configuration file (default /etc/rnbd/rnbd.toml, RNBD_CONFIG)");
  app.add_option("--socket", options.socket, "Admin socket (RNBD_SOCKET does not count here)");
  app.add_option("--log-level", options.log_level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  app.add_flag("--print-config", options.print_config,
               "Print the configuration in force, with every default, and exit");
  app.add_flag("-f,--foreground", options.foreground, "Stay in the foreground (always so)");
  app.set_version_flag("-V,--version", "rnbd-server " RNBD_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ProblemCode::usage);
  }
  auto config = configuration(options);
  if (!config) return report("rnbd-server", config.error());
  if (options.print_config) {
    std::fputs(print_config(*config, "server").c_str(), stdout);
    return 0;
  }
  return serve(*config, options);
}
