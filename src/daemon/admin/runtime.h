#pragma once
// Where things lie when nobody says otherwise: /etc/rnbd and /run/rnbd for root,
// $XDG_RUNTIME_DIR/rnbd (else /tmp/rnbd-UID) for everyone else, so that no root is needed.

#include <string>

#include "base/error.h"

namespace rnbd::daemon {

std::string runtime_dir();
std::string default_client_socket();
std::string default_server_socket();
// Where a daemon keeps what outlives a reboot: as configured; else /var/lib/rnbd, or the directory
// of the admin socket where that is another than usual.
std::string state_directory(const std::string& configured, const std::string& admin_socket,
                            const std::string& default_socket);
// $RNBD_CONFIG, else /etc/rnbd/rnbd.toml.
std::string default_config_file();
std::string host_name();
// The value of an environment variable, or "".
std::string environment(const char* name);

// Makes `path` and what is missing above it. A directory under /tmp must be ours alone: EPERM
// otherwise.
std::error_code make_directory(const std::string& path, unsigned mode = 0755);

}  // namespace rnbd::daemon
