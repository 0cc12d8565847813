// Paths and settings of what is in use.

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "base/event.h"
#include "base/log.h"
#include "daemon/admin/suggest.h"
#include "daemon/client/host_names.h"
#include "daemon/client/manager_state.h"
#include "daemon/client/map_problem.h"
#include "daemon/client/path_words.h"

namespace rnbd::daemon {
namespace {

bool means(const PathSpec& spec, const fabric::PathAddress& address) {
  auto parsed = fabric::PathAddress::parse(to_text(spec), spec.port);
  return parsed && same_path(*parsed, address);
}

std::uint16_t first_port(const std::vector<rtrs::client::PathInfo>& paths) {
  for (const auto& path : paths)
    if (!path.address.destination.is_unix()) return path.address.destination.port();
  return kDefaultPort;
}

const char* change_name(AdminCommand change) {
  return change == AdminCommand::remove_path  ? "remove"
         : change == AdminCommand::disconnect ? "disconnect"
                                              : "reconnect";
}

}  // namespace

// One command for some paths, until each was done.
struct Manager::PathChange {
  AdminCommand change{};
  std::string session;
  std::vector<fabric::PathAddress> paths;
  std::vector<PathView> views;  // of paths that are gone when it is done
  std::size_t left = 0;
  std::string failed;  // which, and why
  std::size_t failures = 0;
  std::error_code error;
  ManagerReply reply;
};

// ---- finding ----

Outcome<Manager::Session*> Manager::find_session(const std::string& name) const {
  auto at = sessions_.find(name);
  if (at != sessions_.end() && at->second->client->session() != nullptr) {
    if (!at->second->closing) return at->second.get();
    return problem({ProblemCode::busy,
                    fmt::format("session '{}' is just being closed", printable(name)), "try again",
                    EALREADY});
  }
  std::vector<std::string_view> names;
  for (const auto& [known, session] : sessions_) names.push_back(known);
  const std::string meant = nearest(name, names);
  return problem({ProblemCode::not_found, fmt::format("there is no session '{}'", printable(name)),
                  meant.empty() ? "see 'rnbd list sessions'"
                                : fmt::format("did you mean '{}'?", printable(meant)),
                  ENOENT});
}

Outcome<Manager::PathsMeant> Manager::find_paths(const std::string& target,
                                                 const std::string& path) const {
  if (!path.empty() || sessions_.contains(target)) {
    auto session = find_session(target);
    if (!session) return tl::unexpected(session.error());
    const auto paths = (*session)->client->session()->paths();
    PathsMeant meant{.session = *session, .indexes = {}, .all = path.empty()};
    for (std::size_t i = 0; meant.all && i < paths.size(); ++i) meant.indexes.push_back(i);
    if (meant.all) return meant;
    auto index = find_path(paths, path, target);
    if (!index) return tl::unexpected(index.error());
    meant.indexes.push_back(*index);
    return meant;
  }
  // A path of whichever session.
  std::vector<PathsMeant> found;
  std::vector<std::string_view> names;
  const bool number = is_path_number(target) && sessions_.size() > 1;
  for (const auto& [name, session] : sessions_) {
    if (session->closing || session->client->session() == nullptr || number) continue;
    const auto paths = session->client->session()->paths();
    auto index = find_path(paths, target, name);
    if (!index && index.error().code == ProblemCode::usage) return tl::unexpected(index.error());
    if (!index) continue;
    found.push_back({.session = session.get(), .indexes = {*index}, .all = false});
    names.push_back(name);
  }
  if (found.size() == 1) return found.front();
  if (found.size() > 1)
    return problem({ProblemCode::usage,
                    fmt::format("'{}' is a path of {} sessions: {}", printable(target),
                                found.size(), printable(join(names))),
                    "name the session before it", EINVAL});
  return problem({ProblemCode::not_found,
                  fmt::format("there is no session and no path '{}'", printable(target)),
                  number ? "a number needs its session before it" : "see 'rnbd list paths'",
                  ENOENT});
}

// ---- adding ----

void Manager::add_path(const std::string& name, const PathSpec& path, const ManagerReply& reply) {
  auto session = find_session(name);
  if (!session) return reply(failure(session.error()));
  MapRequest request{.session = name, .paths = {path}};
  if (request.paths[0].port == 0)
    request.paths[0].port = first_port((*session)->client->session()->paths());
  if (!needs_resolving(request)) return add_resolved_path(name, path, request.paths, reply);
  resolver_->post(
      [this, alive = std::weak_ptr<int>(alive_), loop = &reactors_.home(), request, reply] {
        auto resolved = resolve_host_names(request);
        loop->post([this, alive, request, reply, resolved = std::move(resolved)] {
          if (alive.expired()) return;
          if (!resolved) return reply(failure(resolved.error()));
          std::vector<PathSpec> alternatives;
          for (const auto& paths : *resolved) alternatives.push_back(paths[0]);
          add_resolved_path(request.session, request.paths[0], std::move(alternatives), reply);
        });
      });
}

// Each of the addresses of one path in turn, until one answers.
void Manager::add_resolved_path(const std::string& name, const PathSpec& asked,
                                std::vector<PathSpec> alternatives, const ManagerReply& reply) {
  auto session = find_session(name);
  if (!session) return reply(failure(session.error()));
  const PathSpec spec = alternatives.front();
  alternatives.erase(alternatives.begin());
  auto address = fabric::PathAddress::parse(to_text(spec), spec.port);
  if (!address)
    return reply(failure({ProblemCode::usage,
                          fmt::format("cannot use the address '{}': {}", printable(to_text(spec)),
                                      address.error().message()),
                          "ip:10.0.0.1", to_errno(address.error())}));
  auto done = [this, name, asked, spec, address = *address, alternatives,
               reply](std::error_code error) {
    const bool already = error == from_errno(EEXIST);
    if (error && !already) {
      if (!alternatives.empty()) return add_resolved_path(name, asked, alternatives, reply);
      return reply(failure(path_problem({.session = name, .paths = {spec}}, error,
                                        config_.connect_timeout, reactors_.rdma())));
    }
    AdminResponse response;
    response.already = already;
    auto at = sessions_.find(name);
    if (at == sessions_.end()) return reply(std::move(response));
    if (!already) {
      remember_name(*at->second, asked, address);
      path_added(*at->second, address);
    }
    SessionView& view = response.sessions.emplace_back(view_of(*at->second));
    const auto paths = at->second->client->session()->paths();
    std::erase_if(view.paths, [&](const PathView& path) {
      return !same_path(paths[path.number - 1].address, address);
    });
    reply(std::move(response));
  };
  (*session)->client->session()->add_path(*address, std::move(done));
}

// What would map the volumes again names the paths there are, as far as a map line can.
void Manager::path_added(Session& session, const fabric::PathAddress& address) {
  log_event({.name = "path_added", .session = session.name, .path = address.to_string()},
            "path {} added", address.to_string());
  const std::string text = address.to_spec();
  for (const auto& mapping : mappings_) {
    if (mapping->session != &session) continue;
    mapping->asked.clear();  // the session knows its names
    if (mapping->request.paths.size() >= kPathsMax) continue;
    auto spec = parse_path_spec(text, address.destination.port());
    if (spec) mapping->request.paths.push_back(*spec);
  }
  remember(session);
  save();
}

void Manager::path_removed(Session& session, const fabric::PathAddress& address) {
  log_event({.name = "path_removed", .session = session.name, .path = address.to_string()},
            "path {} removed", address.to_string());
  std::erase_if(session.names,
                [&](const NamedPath& named) { return same_path(named.now, address); });
  for (const auto& mapping : mappings_) {
    if (mapping->session != &session) continue;
    mapping->asked.clear();
    std::erase_if(mapping->request.paths,
                  [&](const PathSpec& path) { return means(path, address); });
  }
  remember(session);
  save();
}

// ---- removing, disconnecting, reconnecting ----

void Manager::change_paths(AdminCommand command, const std::string& target, const std::string& path,
                           const ManagerReply& reply) {
  auto meant = find_paths(target, path);
  if (!meant) return reply(failure(meant.error()));
  Session& session = *meant->session;
  const auto paths = session.client->session()->paths();
  const bool removing = command == AdminCommand::remove_path;
  if (removing && meant->all)
    return reply(
        failure({ProblemCode::usage, fmt::format("which path of '{}'?", printable(session.name)),
                 candidates(paths), EINVAL}));
  if (removing && paths.size() <= session.paths_leaving + 1)
    return reply(failure(
        {ProblemCode::refused,
         fmt::format("cannot remove the last path of session '{}'", printable(session.name)),
         "disconnect it, add another one before, or unmap the session's volumes", EBUSY}));
  if (meant->indexes.empty())
    return reply(failure({ProblemCode::not_found,
                          fmt::format("session '{}' has no path", printable(session.name)),
                          "'rnbd add path' adds one", ENOENT}));
  auto change = std::make_shared<PathChange>();  // shared by the answers to come
  change->change = command;
  change->session = session.name;
  change->left = meant->indexes.size();
  change->reply = reply;
  const SessionView before = view_of(session);
  for (std::size_t index : meant->indexes) {
    change->paths.push_back(paths[index].address);
    change->views.push_back(before.paths[index]);
  }
  if (removing) ++session.paths_leaving;
  for (std::size_t i = 0; i < change->paths.size(); ++i) change_one(change, i);
}

// The path is looked up anew: others may have gone meanwhile.
void Manager::change_one(const std::shared_ptr<PathChange>& change, std::size_t number) {
  auto done = [this, change, number](std::error_code error) {
    const fabric::PathAddress& address = change->paths[number];
    auto at = sessions_.find(change->session);
    if (error) {
      ++change->failures;
      change->error = error;
      change->failed += fmt::format("{}{}: {}", change->failed.empty() ? "" : "; ",
                                    address.to_string(), error.message());
    }
    if (at != sessions_.end() && change->change == AdminCommand::remove_path) {
      --at->second->paths_leaving;
      if (!error) path_removed(*at->second, address);
    }
    if (--change->left != 0) return;
    if (change->failures != 0) {
      const bool partly = change->failures < change->paths.size();
      const bool busy = change->error == from_errno(EBUSY);
      return change->reply(
          failure({partly ? ProblemCode::partly : code_of_errno(to_errno(change->error)),
                   fmt::format("cannot {} {}of session '{}': {}", change_name(change->change),
                               partly ? "every path " : "the path ", printable(change->session),
                               change->failed),
                   busy ? "it is just being changed: try again"
                        : "it goes on trying; see 'rnbd list paths'",
                   to_errno(change->error)}));
    }
    AdminResponse response;
    if (at == sessions_.end()) return change->reply(std::move(response));
    SessionView& view = response.sessions.emplace_back(view_of(*at->second));
    const auto* rtrs = at->second->client->session();
    const auto paths = rtrs != nullptr ? rtrs->paths() : std::vector<rtrs::client::PathInfo>{};
    const std::vector<PathView> now = std::move(view.paths);
    view.paths.clear();
    for (std::size_t i = 0; i < change->paths.size(); ++i) {
      const auto there = std::find_if(paths.begin(), paths.end(), [&](const auto& path) {
        return same_path(path.address, change->paths[i]);
      });
      PathView& path = view.paths.emplace_back(change->views[i]);
      if (there == paths.end()) path.state = "removed";
      if (there != paths.end()) path = now[static_cast<std::size_t>(there - paths.begin())];
    }
    change->reply(std::move(response));
  };
  auto session = find_session(change->session);
  if (!session) return done(Errc::session_closed);
  rtrs::client::Session& rtrs = *(*session)->client->session();
  const auto paths = rtrs.paths();
  const auto at = std::find_if(paths.begin(), paths.end(), [&](const auto& path) {
    return same_path(path.address, change->paths[number]);
  });
  const auto index = static_cast<std::size_t>(at - paths.begin());
  switch (change->change) {
    case AdminCommand::remove_path:
      return rtrs.remove_path(index, done);
    case AdminCommand::disconnect:
      return rtrs.disconnect_path(index, done);
    default:
      return rtrs.reconnect_path(index, done);
  }
}

void Manager::link_changed(const fabric::Address& local, bool up) {
  for (const auto& [name, session] : sessions_)
    if (session->client->session() != nullptr) session->client->session()->link_changed(local, up);
}

}  // namespace rnbd::daemon
