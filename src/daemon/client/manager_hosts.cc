// Paths given by a host's name follow it: when one stays lost, the name is looked up anew, and if
// the host is somewhere else now, a path there takes the lost one's place.

#include <algorithm>

#include "base/event.h"
#include "base/log.h"
#include "daemon/client/host_names.h"
#include "daemon/client/manager_state.h"

namespace rnbd::daemon {
namespace {

using namespace std::chrono_literals;
using rtrs::client::PathInfo;
using rtrs::client::PathState;

constexpr Duration kLookInterval = 5s;
constexpr unsigned kPatience = 2;  // looks that find it lost

bool is_lost(const PathInfo& path) {
  const bool by_word = path.state == PathState::closed && path.last_error == Errc::disconnected;
  return path.state != PathState::connected && path.state != PathState::closing && !by_word;
}

std::vector<PathInfo>::const_iterator path_at(const std::vector<PathInfo>& paths,
                                              const fabric::PathAddress& address) {
  return std::find_if(paths.begin(), paths.end(),
                      [&](const PathInfo& path) { return same_path(path.address, address); });
}

}  // namespace

bool same_path(const fabric::PathAddress& one, const fabric::PathAddress& other) {
  return one.to_spec() == other.to_spec() && one.destination.port() == other.destination.port();
}

// `asked` was resolved to `address`.
void Manager::remember_name(Session& session, const PathSpec& asked,
                            const fabric::PathAddress& address) {
  if (!needs_resolving({.paths = {asked}})) return;
  session.names.push_back({.asked = asked, .now = address});
  if (!names_timer_.armed()) names_timer_.arm_after(kLookInterval);
}

void Manager::look_for_moved_hosts() {
  bool any = false;
  for (const auto& [name, session] : sessions_) {
    const auto* rtrs = session->client->session();
    if (rtrs == nullptr || session->closing) continue;
    const auto paths = rtrs->paths();
    for (NamedPath& named : session->names) {
      any = true;
      const auto at = path_at(paths, named.now);
      named.lost = at != paths.end() && is_lost(*at) ? named.lost + 1 : 0;
      if (named.lost >= kPatience) look_up(name, named);
    }
  }
  if (any) names_timer_.arm_after(kLookInterval);
}

void Manager::look_up(const std::string& session, const NamedPath& named) {
  if (std::exchange(looking_up_, true)) return;  // a slow name server is asked once at a time
  resolver_->post([this, alive = std::weak_ptr<int>(alive_), loop = &reactors_.home(), session,
                   named] {
    auto resolved = resolve_host_names({.paths = {named.asked}});
    loop->post([this, alive, session, named, resolved = std::move(resolved)] {
      if (alive.expired()) return;
      looking_up_ = false;
      if (!resolved) return;
      std::vector<fabric::PathAddress> addresses;
      for (const auto& paths : *resolved)
        if (auto parsed = fabric::PathAddress::parse(to_text(paths[0]), paths[0].port))
          addresses.push_back(*parsed);
      const bool there = std::any_of(addresses.begin(), addresses.end(), [&](const auto& address) {
        return same_path(address, named.now);
      });
      if (!there && !addresses.empty()) move_path(session, named, addresses.front());
    });
  });
}

void Manager::move_path(const std::string& name, const NamedPath& named,
                        const fabric::PathAddress& to) {
  auto session = find_session(name);
  if (!session) return;
  log_event({.name = "host_moved", .session = name, .path = to.to_string()},
            "{} is at {} now, no longer at {}", printable(named.asked.destination), to.to_string(),
            named.now.to_string());
  auto added = [this, name, from = named.now, to](std::error_code error) {
    auto at = sessions_.find(name);
    if (error) return log_info("<{}> not connected there: {}", printable(name), error.message());
    if (at == sessions_.end() || at->second->client->session() == nullptr) return;
    for (NamedPath& known : at->second->names)
      if (same_path(known.now, from)) known.now = to;
    path_added(*at->second, to);
    rtrs::client::Session& rtrs = *at->second->client->session();
    const auto paths = rtrs.paths();
    const auto old = path_at(paths, from);
    if (old == paths.end()) return;
    rtrs.remove_path(static_cast<std::size_t>(old - paths.begin()),
                     [this, name, from](std::error_code failed) {
                       auto still = sessions_.find(name);
                       if (!failed && still != sessions_.end()) path_removed(*still->second, from);
                     });
  };
  (*session)->client->session()->add_path(to, std::move(added));
}

}  // namespace rnbd::daemon
