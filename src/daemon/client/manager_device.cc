// What is done to one device in use: another size, another chance; and counters.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/log.h"
#include "daemon/admin/suggest.h"
#include "daemon/admin/units.h"
#include "daemon/client/manager_state.h"

namespace rnbd::daemon {
namespace {

struct GroupName {
  std::string_view name;
  rtrs::CounterGroup group;
};
constexpr std::array<GroupName, 5> kGroups{
    GroupName{"all", rtrs::CounterGroup::all}, GroupName{"rdma", rtrs::CounterGroup::rdma},
    GroupName{"reconnects", rtrs::CounterGroup::reconnects},
    GroupName{"cpu_migration_from", rtrs::CounterGroup::cpu_migration_from},
    GroupName{"cpu_migration_to", rtrs::CounterGroup::cpu_migration_to}};

std::string exact(std::uint64_t bytes) {
  return fmt::format("{} ({} bytes)", human_size(bytes), bytes);
}

// Why a device did not get the size `wanted`; 0: that of its server.
Problem resize_problem(const std::string& who, std::error_code error, std::uint64_t wanted,
                       std::uint64_t now, std::uint64_t there) {
  const int code = to_errno(error);
  const std::string what = fmt::format("cannot resize '{}': ", who);
  if (code == ENOENT)
    return {ProblemCode::failed, what + "it is not open on its server",
            "when it is opened again it takes over the size there", code};
  if (code == EBUSY && wanted == 0)
    return {ProblemCode::busy,
            what + fmt::format("it shrank on its server, to {} of {}", exact(there), exact(now)),
            "a mapped device is never made smaller: unmap it and map it anew", code};
  if (code == EBUSY)
    return {ProblemCode::busy,
            what + fmt::format("it has {}, and {} is less", exact(now), exact(wanted)),
            "a mapped device is never made smaller", code};
  if (code == EINVAL && wanted > there)
    return {ProblemCode::refused,
            what + fmt::format("its server has {}, not {}", exact(there), exact(wanted)),
            "make the volume bigger there first", code};
  if (code == EINVAL)
    return {ProblemCode::usage, what + fmt::format("{} is no multiple of its blocks", wanted), "",
            code};
  return {code_of_errno(code), what + error.message(), "", code};
}

Problem reopen_problem(AdminCommand command, const std::string& who, std::error_code error) {
  const int code = to_errno(error);
  const bool remapping = command == AdminCommand::remap;
  const std::string what = fmt::format("cannot {} '{}': ", remapping ? "remap" : "recover", who);
  if (code == EALREADY)
    return {ProblemCode::busy,
            what + (remapping ? "it is open already" : "nothing is wrong with it"), "", code};
  if (code == ECONNABORTED)
    return {ProblemCode::unreachable, what + "no path to its server is up",
            "see 'rnbd list paths'; 'rnbd reconnect' tries them now", code};
  if (code == ENODEV) return {ProblemCode::not_found, what + "it is being unmapped", "", code};
  if (code == EBUSY)
    return {ProblemCode::busy, what + "its server has not done yet with requests of before",
            "its storage does not answer; try again when it does", code};
  return {code_of_errno(code), what + error.message(), "see the server's log", code};
}

}  // namespace

// A device that is there for its users.
Outcome<Manager::Mapping*> Manager::find_ready(const char* verb, const std::string& target) const {
  auto found = find_target(target, "");
  if (!found) return found;
  if ((*found)->state == State::ready) return found;
  const bool leaving = (*found)->state == State::leaving;
  return problem({ProblemCode::busy,
                  fmt::format("cannot {} '{}': it is just being {}", verb, printable(target),
                              leaving ? "unmapped" : "mapped"),
                  "try again", leaving ? ENODEV : EBUSY});
}

void Manager::reply_with(const MapRequest& of, const ManagerReply& reply) const {
  AdminResponse response;
  if (const Mapping* mapping = find(of.session, of.device_path))
    response.devices.push_back(view_of(*mapping));
  reply(std::move(response));
}

void Manager::resize(const std::string& target, std::uint64_t size, const ManagerReply& reply) {
  auto found = find_ready("resize", target);
  if (!found) return reply(failure(found.error()));
  const Mapping& mapping = **found;
  const std::uint64_t before = mapping.device->limits().size;
  mapping.device->resize(size, [this, size, before, reply, request = mapping.request](
                                   std::error_code error, std::uint64_t there) {
    if (error)
      return reply(
          failure(resize_problem(printable(request.device_path), error, size, before, there)));
    reply_with(request, reply);
  });
}

void Manager::open_again(AdminCommand command, const std::string& target,
                         const ManagerReply& reply) {
  auto found = find_ready(command == AdminCommand::remap ? "remap" : "recover", target);
  if (!found) return reply(failure(found.error()));
  client::RemoteDevice& device = *(*found)->device;
  auto done = [this, command, reply, request = (*found)->request](std::error_code error) {
    if (error)
      return reply(failure(reopen_problem(command, printable(request.device_path), error)));
    reply_with(request, reply);
  };
  command == AdminCommand::remap ? device.remap(std::move(done)) : device.recover(std::move(done));
}

void Manager::reset(const std::string& target, const std::string& path, const std::string& counters,
                    const ManagerReply& reply) {
  const std::string_view name = counters.empty() ? std::string_view("all") : counters;
  const auto group = std::ranges::find(kGroups, name, &GroupName::name);
  if (group == kGroups.end()) {
    std::vector<std::string_view> names;
    for (const GroupName& known : kGroups) names.push_back(known.name);
    return reply(
        failure({ProblemCode::usage, fmt::format("there are no counters '{}'", printable(counters)),
                 "one of: " + join(names), EINVAL}));
  }
  AdminResponse response;
  auto device = find_target(target, "");
  if (path.empty() && device && !sessions_.contains(target)) {
    if (group->group != rtrs::CounterGroup::all)
      return reply(
          failure({ProblemCode::usage,
                   fmt::format("'{}' is a device: all of its counters are reset, or none",
                               printable(target)),
                   fmt::format("its session is '{}'", (*device)->request.session), EINVAL}));
    if ((*device)->device != nullptr) (*device)->device->reset_counters();
    response.devices.push_back(view_of(**device));
    return reply(std::move(response));
  }
  auto meant = find_paths(target, path);
  if (!meant) return reply(failure(meant.error()));
  Session& session = *meant->session;
  for (const std::size_t index : meant->indexes)
    session.client->session()->reset_counters(index, group->group);
  response.sessions.push_back(view_of(session));
  reply(std::move(response));
}

}  // namespace rnbd::daemon
