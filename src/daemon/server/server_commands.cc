// What an administrator changes on a server: volumes and paths of clients, counters.

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "base/event.h"
#include "base/log.h"
#include "daemon/admin/suggest.h"
#include "daemon/server/server_admin.h"

namespace rnbd::daemon {
namespace {

using rtrs::server::SessionInfo;
using server::OpenInfo;

std::string plain(std::string_view name) {
  return std::string(name.substr(std::min(name.find_first_not_of('/'), name.size())));
}

// A volume is named as its client does, with or without "/" before it, or by what is behind it.
bool names_volume(const OpenInfo& open, const std::string& word) {
  return open.name == word || open.place == word || open.identity == word ||
         (plain(open.name) == plain(word) && !plain(word).empty());
}

Problem no_such_volume(const std::string& word, const std::vector<OpenInfo>& opens) {
  std::vector<std::string_view> names;
  for (const OpenInfo& open : opens) names.push_back(open.name);
  const std::string meant = nearest(word, names);
  return {ProblemCode::not_found, fmt::format("no client has '{}' open", printable(word)),
          meant.empty() ? "see 'rnbd server list'"
                        : fmt::format("did you mean '{}'?", printable(meant)),
          ENOENT};
}

// By its name, its number, or the client's address in it; "a,b" is "a@b".
std::string find_path(const SessionInfo& session, std::string word) {
  std::replace(word.begin(), word.end(), ',', '@');
  for (std::size_t i = 0; i < session.paths.size(); ++i) {
    const auto& path = session.paths[i];
    for (const std::string& name : {path.name, std::to_string(i + 1), path.client.to_string(),
                                    path.name.substr(0, path.name.find('@'))})
      if (name == word || name == "ip:" + word) return path.name;
  }
  return {};
}

}  // namespace

void ServerAdmin::fail(const AdminReply& reply, Problem why) const {
  AdminResponse response;
  response.daemon = daemon_view();
  response.error = std::move(why);
  reply(std::move(response));
}

void ServerAdmin::resize(const AdminRequest& request, const AdminReply& reply) {
  if (request.size != 0)
    return fail(reply, {ProblemCode::usage, "a server serves the size its storage has",
                        fmt::format("make it bigger there, then: rnbd server resize {}",
                                    printable(request.target)),
                        EINVAL});
  exports_.look_at_sizes([this, target = request.target, reply] {
    exports_.list([this, target, reply](const std::vector<OpenInfo>& opens) {
      reply_with_opens(target, "", opens, reply);
    });
  });
}

// The opens of that volume as they are now; a problem where there are none.
void ServerAdmin::reply_with_opens(const std::string& volume, const std::string& session,
                                   const std::vector<OpenInfo>& opens,
                                   const AdminReply& reply) const {
  AdminResponse response;
  response.daemon = daemon_view();
  for (const OpenInfo& open : opens) {
    if (names_volume(open, volume) && (session.empty() || open.session == session))
      response.opens.push_back(view_of(open));
  }
  if (response.opens.empty()) return fail(reply, no_such_volume(volume, opens));
  reply(std::move(response));
}

// A volume that nobody has open may have to be forgiven as well.
void ServerAdmin::recover(const AdminRequest& request, const AdminReply& reply) {
  exports_.list([this, target = request.target, reply](const std::vector<OpenInfo>& opens) {
    const auto open = std::find_if(opens.begin(), opens.end(),
                                   [&](const OpenInfo& one) { return names_volume(one, target); });
    const std::string volume = open == opens.end() ? target : open->identity;
    exports_.forgive(
        volume, [this, target, known = open != opens.end(), reply](std::error_code error) {
          if (error)
            return fail(reply, {known ? ProblemCode::busy : ProblemCode::not_found,
                                fmt::format("no flush of '{}' has failed", printable(target)), "",
                                known ? EALREADY : ENOENT});
          log_event({.name = "flush_forgiven", .level = LogLevel::warning, .volume = target},
                    "flushes are believed in again, at an administrator's word");
          AdminResponse response;
          response.daemon = daemon_view();
          reply(std::move(response));
        });
  });
}

// Takes a volume from all its clients, or from one; or all volumes from a client.
void ServerAdmin::close(const AdminRequest& request, const AdminReply& reply) {
  exports_.list([this, request, reply](const std::vector<OpenInfo>& opens) {
    std::vector<OpenInfo> meant;
    const auto take = [&](const auto& means) {
      std::copy_if(opens.begin(), opens.end(), std::back_inserter(meant), means);
    };
    take([&](const OpenInfo& open) {
      return names_volume(open, request.target) &&
             (request.session.empty() || open.session == request.session);
    });
    if (meant.empty() && request.session.empty())
      take([&](const OpenInfo& open) { return open.session == request.target; });
    if (meant.empty()) return fail(reply, no_such_volume(request.target, opens));
    auto response = std::make_shared<AdminResponse>();  // shared by the closes under way
    response->daemon = daemon_view();
    auto left = std::make_shared<std::size_t>(meant.size());
    for (const OpenInfo& open : meant) {
      response->opens.push_back(view_of(open));
      exports_.force_close(
          open.session_id, open.device_id, [response, left, reply](std::error_code) {
            if (--*left == 0)
              reply(std::move(*response));  // one that was just closed is closed too
          });
    }
  });
}

void ServerAdmin::find_paths(
    const AdminRequest& request, const AdminReply& reply,
    std::function<void(const SessionInfo& session, const std::string& path)> use) {
  server_.list_sessions(
      [this, request, reply, use = std::move(use)](const std::vector<SessionInfo>& sessions) {
        for (const SessionInfo& session : sessions) {
          const bool named = session.name == request.target;
          if (named && request.path.empty()) return use(session, "");
          if (!named && !request.path.empty()) continue;
          const std::string path = find_path(session, named ? request.path : request.target);
          if (!path.empty()) return use(session, path);
        }
        fail(reply,
             {ProblemCode::not_found,
              request.path.empty()
                  ? fmt::format("there is no session and no path '{}'", printable(request.target))
                  : fmt::format("session '{}' has no path '{}'", printable(request.target),
                                printable(request.path)),
              "see 'rnbd server list paths'", ENOENT});
      });
}

// Soon after, in order; clients connect anew by themselves.
void ServerAdmin::disconnect(const AdminRequest& request, const AdminReply& reply) {
  find_paths(request, reply, [this, reply](const SessionInfo& session, const std::string& path) {
    (void)server_.disconnect(session.id, path);
    reply_with_session(session, path, reply);
  });
}

void ServerAdmin::reset(const AdminRequest& request, const AdminReply& reply) {
  const std::string& counters = request.counters;
  if (!counters.empty() && counters != "all" && counters != "rdma")
    return fail(reply, {ProblemCode::usage,
                        fmt::format("a server has no counters '{}'", printable(counters)),
                        "rdma, or all", EINVAL});
  find_paths(request, reply, [this, reply](const SessionInfo& session, const std::string& path) {
    for (const auto& one : session.paths)
      if (path.empty() || one.name == path)
        (void)server_.reset_counters(session.name, one.name, rtrs::CounterGroup::all);
    reply_with_session(session, path, reply);
  });
}

void ServerAdmin::reply_with_session(const SessionInfo& session, const std::string& path,
                                     const AdminReply& reply) const {
  AdminResponse response;
  response.daemon = daemon_view();
  SessionView& view = response.sessions.emplace_back(view_of(session, config_));
  std::erase_if(view.paths, [&](const PathView& one) { return !path.empty() && one.name != path; });
  reply(std::move(response));
}

}  // namespace rnbd::daemon
