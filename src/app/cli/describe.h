#pragma once
// Everything known about one thing, for people. What came from a peer is made printable. Pure.

#include <string>
#include <vector>

#include "daemon/admin/protocol.h"

namespace rnbd::cli {

// "name: value" lines of everything known about one thing.
std::string describe(const daemon::DeviceView& device);
std::string describe(const daemon::SessionView& session);
std::string describe(const daemon::OpenView& open);
std::string describe(const daemon::DaemonView& daemon);
// What everybody should know of these sessions; empty when there is nothing.
std::string warnings(const std::vector<daemon::SessionView>& sessions);
// How a mapped volume can be used, after map.
std::string describe_use(const daemon::DeviceView& device, bool already);

}  // namespace rnbd::cli
