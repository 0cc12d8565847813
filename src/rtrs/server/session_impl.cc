#include "rtrs/server/session_impl.h"

#include <algorithm>
#include <cerrno>

namespace rnbd::rtrs::server {

Path* SessionImpl::find_path(const Uuid& uuid) const {
  const auto found =
      std::ranges::find_if(paths_, [&](const auto& path) { return path->uuid() == uuid; });
  return found == paths_.end() ? nullptr : found->get();
}

int SessionImpl::check_new_path(const fabric::IncomingConnection& incoming) const {
  if (paths_.size() >= options_.max_paths_per_session) return ECONNRESET;
  const bool known =
      std::ranges::any_of(paths_, [&](const auto& path) { return path->same_addresses(incoming); });
  return known ? EEXIST : 0;
}

Result<Path*> SessionImpl::add_path(const wire::ConnectRequest& request,
                                    const fabric::IncomingConnection& first) {
  auto path = Path::create(loops_, options_, requests_, *this, static_cast<PathHandler&>(*this),
                           request, first);
  if (!path) return fail(path.error());
  paths_.push_back(std::move(*path));
  return paths_.back().get();
}

std::error_code SessionImpl::claim_name(Path&, const std::string& name) {
  if (name_.empty()) {
    if (owner_.name_taken(name, *this)) return from_errno(EEXIST);
    name_ = name;
    return {};
  }
  return name == name_ ? std::error_code{} : Errc::protocol_violation;
}

void SessionImpl::on_path_connected(Path&) {
  if (opened_) return;
  opened_ = true;
  loops_.of(0).loop().post([this] { requests_.on_session_opened(*this); });
}

void SessionImpl::on_path_gone(Path& path) {
  std::erase_if(paths_, [&](const auto& mine) { return mine.get() == &path; });
  if (paths_.empty() && opened_) {
    ending_ = true;
    loops_.of(0).loop().post([this] { requests_.on_session_closed(*this); });
  }
  owner_.on_session_path_gone(*this);
}

void SessionImpl::release() {
  loops_.control().post([this] { owner_.on_session_released(*this); });
}

void SessionImpl::close(std::error_code why) {
  for (const auto& path : paths_) path->close(why, true);
}

SessionInfo SessionImpl::info() const {
  SessionInfo info{.name = name_, .id = id_, .paths = {}};
  for (const auto& path : paths_) info.paths.push_back(path->info());
  return info;
}

}  // namespace rnbd::rtrs::server
