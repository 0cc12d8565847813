// rnbd-client: maps volumes of servers and shows them as block devices, files and NBD exports.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>

#include "base/log.h"
#include "daemon/admin/runtime.h"
#include "daemon/client/client_daemon.h"
#include "daemon/service.h"

namespace {

using namespace rnbd;
using namespace rnbd::daemon;

struct Options {
  std::string config_file, socket, frontend, log_level;
  bool print_config = false, foreground = false;
};

// The files as they are now, with the command line on top.
Outcome<Config> configuration(const Options& options) {
  const bool named = !options.config_file.empty();
  auto config = load_config(named ? options.config_file : default_config_file(),
                            named || !environment("RNBD_CONFIG").empty());
  if (!config) return config;
  std::string socket = options.socket;
  if (socket.empty() && config->client.admin_socket.empty()) socket = environment("RNBD_SOCKET");
  if (!socket.empty()) config->client.admin_socket = std::filesystem::absolute(socket);
  if (!options.frontend.empty()) config->client.frontend = options.frontend;
  if (!environment("RNBD_DEBUG").empty()) config->log_level = "debug";
  if (!options.log_level.empty()) config->log_level = options.log_level;
  return config;
}

int serve(const Config& config, const Options& options) {
  ExitSignals signals;
  start_log("rnbd-client", config.log_level);
  raise_file_limit();
  survive_memory_pressure(config.client.lock_memory);
  auto daemon = ClientDaemon::start(config);
  if (!daemon) return report("rnbd-client", daemon.error());
  log_info("taking commands on {}", (*daemon)->admin_socket());
  notify_service_manager("READY=1");
  const auto reload = [&] {
    if (auto next = configuration(options))
      (*daemon)->reload(*next);
    else
      log_error("the configuration stays as it was: {}", next.error().text());
  };
  std::string_view signal = signals.wait(reload, [&] { (*daemon)->power_down(); });
  log_info("{}: closing volumes", signal);
  notify_service_manager("STOPPING=1");
  daemon->reset();
  log_info("done");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"Keeps the volumes that 'rnbd map' maps.", "rnbd-client"};
  app.add_option("-c,--config", options.config_file,
                 "Configuration file (default /etc/rnbd/rnbd.toml, RNBD_CONFIG)");
  app.add_option("--socket", options.socket,
                 "Admin socket; NBD socket and mount point lie beside it (RNBD_SOCKET)");
  app.add_option("--frontend", options.frontend, "How volumes appear besides the NBD socket")
      ->check(CLI::IsMember({"auto", "nbd", "fuse", "loop", "ublk"}));
  app.add_option("--log-level", options.log_level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  app.add_flag("--print-config", options.print_config,
               "Print the configuration in force, with every default, and exit");
  app.add_flag("-f,--foreground", options.foreground, "Stay in the foreground (always so)");
  app.set_version_flag("-V,--version", "rnbd-client " RNBD_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ProblemCode::usage);
  }
  auto config = configuration(options);
  if (!config) return report("rnbd-client", config.error());
  if (options.print_config) {
    std::fputs(print_config(*config, "client").c_str(), stdout);
    return 0;
  }
  return serve(*config, options);
}
