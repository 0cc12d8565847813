// Mapping: resolve names, find or open the session, open the volume, make it appear.

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "base/event.h"
#include "base/log.h"
#include "daemon/admin/units.h"
#include "daemon/client/host_names.h"
#include "daemon/client/live_settings.h"
#include "daemon/client/manager_state.h"
#include "daemon/client/map_problem.h"

namespace rnbd::daemon {
namespace {

client::ClientOptions client_options(const ClientConfig& config, const MapRequest& request) {
  client::ClientOptions options;
  options.session.name = request.session;
  options.session.heartbeat = {config.network.heartbeat_interval,
                               static_cast<unsigned>(config.network.heartbeat_missed_max)};
  options.session.fast_heartbeat = {
      config.network.fast_heartbeat_interval,
      static_cast<unsigned>(config.network.fast_heartbeat_missed_max)};
  options.session.policy =
      parse_path_policy(config.path_policy).value_or(rtrs::PathPolicy::min_inflight);
  options.session.failover = config.failover == "immediate" ? rtrs::client::Failover::immediate
                                                            : rtrs::client::Failover::fenced;
  options.session.server_patience = config.server_patience;
  options.session.backend_patience = config.backend_patience;
  options.session.packet_lifetime = config.packet_lifetime;
  options.session.connect_timeout = config.connect_timeout;
  options.session.reconnect_delay = config.reconnect_delay;
  options.session.reconnect_delay_max =
      std::max(config.reconnect_delay, config.reconnect_delay_max);
  options.session.max_reconnect_attempts = static_cast<int>(config.max_reconnect_attempts);
  options.session.poll_connections = static_cast<std::uint32_t>(request.nr_poll_queues);
  return options;
}

Problem refused(const MapRequest& request, ProblemCode code, const std::string& why,
                std::string hint, int error) {
  return {code, fmt::format("cannot map '{}': {}", printable(request.device_path), why),
          std::move(hint), error};
}

Outcome<void> add_paths(const MapRequest& request, std::vector<fabric::PathAddress>& paths) {
  for (const PathSpec& path : request.paths) {
    const std::string text = to_text(path);
    auto address = fabric::PathAddress::parse(text, path.port);
    if (!address)
      return problem(refused(request, ProblemCode::usage,
                             fmt::format("cannot use the address '{}': {}", printable(text),
                                         address.error().message()),
                             "ip:10.0.0.1", to_errno(address.error())));
    paths.push_back(*address);
  }
  return {};
}

}  // namespace

void Manager::map(MapRequest request, bool exclusive, bool once, ManagerReply reply) {
  if (on_empty_)
    return reply(
        failure(refused(request, ProblemCode::busy, "the daemon is ending", "", ESHUTDOWN)));
  if (!client::parse_access_mode(request.access_mode))
    return reply(failure(refused(request, ProblemCode::usage, "unknown access_mode",
                                 "ro, rw or migration", EINVAL)));
  if (!request.frontend.empty() && !is_frontend_name(request.frontend))
    return reply(failure(refused(request, ProblemCode::usage, "unknown frontend",
                                 "ublk, loop, fuse, nbd or auto", EINVAL)));
  if (Mapping* there = find(request.session, request.device_path)) {
    if (there->state == State::leaving || there->abandoned)
      return reply(failure(
          refused(request, ProblemCode::busy, "it is just being unmapped", "try again", EALREADY)));
    if (exclusive || there->request.access_mode != request.access_mode)
      return reply(failure(refused(
          request, ProblemCode::busy,
          fmt::format("it is mapped already, with access_mode={}", there->request.access_mode),
          "unmap it first", EEXIST)));
    if (there->once && !once) {
      there->once = false;
      if (there->state == State::ready) remember(*there);
      save();
    }
    if (there->recovering && !there->trouble.empty())
      return reply(failure(refused(request, ProblemCode::unreachable,
                                   "the daemon is at it since it started: " + there->trouble,
                                   "it goes on trying until it is unmapped", EALREADY)));
    if (there->state != State::ready) return there->waiting.push_back(std::move(reply));
    AdminResponse response;
    response.already = true;
    response.devices.push_back(view_of(*there));
    return reply(std::move(response));
  }
  auto mapping = std::make_unique<Mapping>(*this, reactors_.home());
  mapping->number = lowest_free_number();
  while (mapping->ublk_tag == 0) mapping->ublk_tag = random_.next();
  mapping->request = std::move(request);
  mapping->once = once;
  mapping->waiting.push_back(std::move(reply));
  mapping->timeout.arm_after(config_.map_timeout);
  mappings_.push_back(std::move(mapping));
  start(*mappings_.back());
}

void Manager::start(Mapping& mapping) {
  if (mapping.retries == 0)
    log_event({.name = "volume_mapping",
               .volume = mapping.request.device_path,
               .session = mapping.request.session,
               .device = fmt::format("rnbd{}", mapping.number)},
              "mapping, access_mode={}", mapping.request.access_mode);
  if (sessions_.contains(mapping.request.session)) return join_session(mapping);
  if (inherited_.contains(mapping.request.session)) return join_session(mapping);
  if (mapping.request.paths.empty())
    return give_up(mapping,
                   refused(mapping.request, ProblemCode::usage,
                           fmt::format("there is no session '{}' yet, and no path= to open it",
                                       printable(mapping.request.session)),
                           "add path=ip:<address of the server>", ENXIO));
  if (needs_resolving(mapping.request)) return resolve_hosts(mapping);
  join_session(mapping);
}

// getaddrinfo may block for long: it does so on its own thread, and is not waited for beyond
// map_timeout.
void Manager::resolve_hosts(Mapping& mapping) {
  resolver_->post([this, alive = std::weak_ptr<int>(alive_), loop = &reactors_.home(),
                   request = mapping.request] {
    auto resolved = resolve_host_names(request);
    loop->post([this, alive, request, resolved = std::move(resolved)]() mutable {
      if (alive.expired()) return;
      Mapping* found = find(request.session, request.device_path);
      if (found == nullptr || found->state != State::resolving) return;
      if (found->abandoned) return remove(*found);
      if (!resolved)
        return give_up(*found, refused(request, resolved.error().code, resolved.error().what,
                                       resolved.error().hint, resolved.error().error));
      found->asked = request.paths;
      found->alternatives = std::move(*resolved);
      next_alternative(*found);
    });
  });
}

// Tries the next address of a host that has several.
void Manager::next_alternative(Mapping& mapping) {
  mapping.request.paths = std::move(mapping.alternatives.front());
  mapping.alternatives.erase(mapping.alternatives.begin());
  join_session(mapping);
}

void Manager::join_session(Mapping& mapping) {
  auto at = sessions_.find(mapping.request.session);
  if (at != sessions_.end() && at->second->closing) {
    // Its name is free for us when the server has let go of the old one.
    auto again = [this, session = mapping.request.session, path = mapping.request.device_path] {
      if (Mapping* waiting = find(session, path))
        waiting->abandoned ? remove(*waiting) : start(*waiting);
    };
    return at->second->after_close.push_back(again);
  }
  if (at != sessions_.end()) {
    bool poll = mapping.request.nr_poll_queues != 0 || at->second->poll_queues != 0;
    if (poll)
      return give_up(mapping, refused(mapping.request, ProblemCode::usage,
                                      "a session with nr_poll_queues serves one volume only",
                                      "use another sessname", EINVAL));
    // It would come when the server does; who asks now is told now.
    if (!mapping.recovering && view_of(*at->second).state == "disconnected")
      return give_up(mapping, refused(mapping.request, ProblemCode::unreachable,
                                      fmt::format("session '{}' has no path that is up",
                                                  printable(mapping.request.session)),
                                      "'rnbd list paths' tells why; --wait tries until it has one",
                                      ECONNABORTED));
    mapping.session = at->second.get();
  } else {
    auto session = create_session(mapping);
    if (!session) return give_up(mapping, session.error());
    mapping.session = *session;
  }
  ++mapping.session->users;
  open(mapping);
}

Outcome<Manager::Session*> Manager::create_session(const Mapping& mapping) {
  const MapRequest& request = mapping.request;
  client::ClientOptions options = client_options(config_, request);
  auto session = std::make_unique<Session>();
  const auto inherited = inherited_.find(request.session);
  if (inherited != inherited_.end()) {
    const SavedSession& old = inherited->second;
    for (const NamedPath& name : old.names) remember_name(*session, name.asked, name.now);
    session->policy_set = old.policy.has_value();
    session->attempts_set = old.max_reconnect_attempts.has_value();
    options.session.policy = old.policy.value_or(options.session.policy);
    options.session.max_reconnect_attempts =
        old.max_reconnect_attempts.value_or(options.session.max_reconnect_attempts);
    options.session.poll_connections = static_cast<std::uint32_t>(inherited->second.poll_queues);
    options.session.resume = inherited->second.identity;
    for (const auto& path : inherited->second.identity.paths)
      options.session.paths.push_back(path.address);
    inherited_.erase(inherited);
  }
  session->policy_set = session->policy_set || mapping.policy;
  session->attempts_set = session->attempts_set || mapping.max_reconnect_attempts;
  options.session.policy = mapping.policy.value_or(options.session.policy);
  options.session.max_reconnect_attempts =
      mapping.max_reconnect_attempts.value_or(options.session.max_reconnect_attempts);
  if (options.session.paths.empty())
    if (auto added = add_paths(request, options.session.paths); !added)
      return tl::unexpected(added.error());
  options.on_identity = [this,
                         made = session.get()](const rtrs::client::SessionIdentity& identity) {
    made->identity = identity;
    save();
  };
  // A successor knows its names already.
  if (!options.session.resume)
    for (std::size_t i = 0; i < mapping.asked.size(); ++i)
      remember_name(*session, mapping.asked[i], options.session.paths[i]);
  session->policy = options.session.policy;
  session->failover = options.session.failover;
  session->max_reconnect_attempts = options.session.max_reconnect_attempts;
  if (session->failover == rtrs::client::Failover::immediate)
    log_event(
        {.name = "failover_unsafe", .level = LogLevel::warning, .session = request.session},
        "failover=immediate is unsafe: after the loss of a path a delayed copy of a write may "
        "undo a newer one, silently");
  auto created = client::Client::create(reactors_.fabrics(), 0, random_, std::move(options));
  if (!created)
    return problem(refused(request, ProblemCode::usage, created.error().message(),
                           "check sessname and path", to_errno(created.error())));
  session->name = request.session;
  session->client = std::move(*created);
  session->poll_queues = request.nr_poll_queues;
  return (sessions_[request.session] = std::move(session)).get();
}

void Manager::open(Mapping& mapping) {
  mapping.state = State::opening;
  client::DeviceOptions options;
  options.path = mapping.request.device_path;
  options.mode =
      client::parse_access_mode(mapping.request.access_mode).value_or(client::AccessMode::rw);
  options.hold_timeout = mapping.hold.value_or(config_.hold_timeout);
  mapping.session->client->open_device(
      options, [this, &mapping](tl::expected<client::RemoteDevice*, client::Failure> result) {
        opened(mapping, result);
      });
}

void Manager::opened(Mapping& mapping,
                     tl::expected<client::RemoteDevice*, client::Failure> result) {
  bool try_next = !result && result.error().stage == client::Stage::connect &&
                  !mapping.alternatives.empty() && !mapping.abandoned;
  if (try_next) {
    mapping.state = State::resolving;
    release_session(mapping);
    return next_alternative(mapping);
  }
  if (!result) {
    return give_up(mapping, map_problem(mapping.request, result.error(), config_.connect_timeout,
                                        reactors_.rdma()));
  }
  mapping.device = *result;
  if (mapping.abandoned) return leave(mapping, true, nullptr);
  mapping.state = State::appearing;
  save();
  Appearance appearance{mapping.request.device_path,
                        mapping.request.session,
                        mapping.number,
                        mapping.device->limits().read_only,
                        mapping.request.frontend,
                        mapping.ublk_tag,
                        mapping.ublk_id};
  frontends_.attach(appearance, *mapping.device, [this, &mapping](Outcome<Presence> presence) {
    appeared(mapping, std::move(presence));
  });
}

void Manager::appeared(Mapping& mapping, Outcome<Presence> presence) {
  if (!presence) {
    Problem why = presence.error();
    return close_device(mapping, [this, &mapping, why] { give_up(mapping, why); });
  }
  mapping.presence = std::move(*presence);
  mapping.state = State::ready;
  mapping.recovering = false;
  mapping.trouble.clear();
  take_number_of_node(mapping);
  remember(mapping);
  mapping.timeout.disarm();
  mapping.device->set_watcher(&mapping);
  if (mapping.abandoned) return leave(mapping, true, nullptr);
  block::Limits limits = mapping.device->limits();
  log_event(
      {.name = "volume_mapped",
       .volume = mapping.request.device_path,
       .session = mapping.request.session,
       .device = fmt::format("rnbd{}", mapping.number)},
      "mapped as rnbd{} (size: {}, logical_block_size: {}, max_transfer: {}, wc: {:d}, fua: {:d})",
      mapping.number, limits.size, limits.logical_block_size, limits.max_transfer,
      limits.volatile_cache, limits.fua);
  AdminResponse response;
  response.devices.push_back(view_of(mapping));
  auto waiting = std::exchange(mapping.waiting, {});
  for (const ManagerReply& reply : waiting) reply(response);
}

// Another daemon of this machine may have our number: then the device is named as its node is.
void Manager::take_number_of_node(Mapping& mapping) {
  const std::string link = mapping.presence.number_link();
  std::size_t digits = link.find_last_not_of("0123456789") + 1;
  unsigned number = 0;
  if (std::from_chars(link.data() + digits, link.data() + link.size(), number).ec != std::errc())
    return;
  bool taken = std::any_of(mappings_.begin(), mappings_.end(),
                           [&](const auto& m) { return m->number == number; });
  if (!taken) mapping.number = number;
}

void Manager::tell_map_failed(const Mapping& mapping, const Problem& why) {
  log_event({.name = "map_failed",
             .level = LogLevel::error,
             .volume = mapping.request.device_path,
             .session = mapping.request.session,
             .error = why.error == 0 ? std::error_code() : from_errno(why.error)},
            "not mapped: {}", why.text());
}

// The mapping came to nothing: tells who waits, and lets go of the session if nobody else has it.
void Manager::give_up(Mapping& mapping, Problem why) {
  if (recover_later(mapping, why)) return;
  if (!mapping.abandoned) tell_map_failed(mapping, why);
  auto waiting = std::exchange(mapping.waiting, {});
  remove(mapping);
  for (const ManagerReply& reply : waiting) reply(failure(why));
}

void Manager::on_timeout(Mapping& mapping) {
  if (mapping.state == State::leaving) return let_go(mapping);
  Problem why = refused(mapping.request, ProblemCode::unreachable,
                        fmt::format("{} did not bring it within {}", peers_of(mapping.request),
                                    format_duration(config_.map_timeout)),
                        "see the server's log; map_timeout bounds the wait", ETIMEDOUT);
  tell_map_failed(mapping, why);
  mapping.abandoned = true;
  auto waiting = std::exchange(mapping.waiting, {});
  for (const ManagerReply& reply : waiting) reply(failure(why));
  if (mapping.state == State::opening)
    mapping.session->client->cancel_open(mapping.request.device_path, from_errno(ETIMEDOUT));
}

}  // namespace rnbd::daemon
