#include "daemon/client/host_names.h"

#include <fmt/format.h>
#include <netdb.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>

#include "base/log.h"
#include "fabric/address.h"

namespace rnbd::daemon {
namespace {

constexpr std::size_t kAddressesMax = 8;

Outcome<std::vector<std::string>> resolve(const std::string& name) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_ADDRCONFIG;
  addrinfo* found = nullptr;
  int error = getaddrinfo(name.c_str(), nullptr, &wanted, &found);
  if (error == EAI_NONAME || error == EAI_AGAIN) {
    // Without any configured address but loopback, AI_ADDRCONFIG finds nothing at all.
    wanted.ai_flags = 0;
    error = getaddrinfo(name.c_str(), nullptr, &wanted, &found);
  }
  if (error != 0)
    return problem(
        {ProblemCode::unreachable,
         fmt::format("cannot resolve the host name '{}': {}", printable(name), gai_strerror(error)),
         "check the name, or give the address: path=ip:…", EHOSTUNREACH});
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  std::vector<std::string> addresses;
  for (const addrinfo* at = found; at != nullptr && addresses.size() < kAddressesMax;
       at = at->ai_next)
    addresses.push_back(
        fabric::Address::from_sockaddr(at->ai_addr, static_cast<socklen_t>(at->ai_addrlen))
            .to_string());
  return addresses;
}

// host:name, rdma:name, tcp:name.
bool is_host(std::string_view text) {
  if (text.starts_with("host:")) return true;
  const bool either = text.starts_with("rdma:") || text.starts_with("tcp:");
  return either && !fabric::Address::parse(text, 0);
}

}  // namespace

bool needs_resolving(const MapRequest& request) {
  return std::any_of(request.paths.begin(), request.paths.end(),
                     [](const PathSpec& p) { return is_host(p.destination) || is_host(p.source); });
}

Outcome<std::vector<std::vector<PathSpec>>> resolve_host_names(const MapRequest& request) {
  std::map<std::string, std::vector<std::string>> hosts;
  std::size_t attempts = 1;
  for (const PathSpec& path : request.paths) {
    for (const std::string* part : {&path.source, &path.destination}) {
      if (!is_host(*part) || hosts.contains(*part)) continue;
      const std::size_t colon = part->find(':');
      auto addresses = resolve(part->substr(colon + 1));
      if (!addresses) return tl::unexpected(addresses.error());
      if (const std::string prefix = part->substr(0, colon); prefix != "host")
        for (std::string& address : *addresses) address.replace(0, address.find(':'), prefix);
      attempts = std::max(attempts, addresses->size());
      hosts[*part] = std::move(*addresses);
    }
  }
  std::vector<std::vector<PathSpec>> alternatives(attempts, request.paths);
  for (std::size_t i = 0; i < attempts; ++i)
    for (PathSpec& path : alternatives[i])
      for (std::string* part : {&path.source, &path.destination})
        if (auto host = hosts.find(*part); host != hosts.end())
          *part = host->second[i % host->second.size()];
  return alternatives;
}

}  // namespace rnbd::daemon
