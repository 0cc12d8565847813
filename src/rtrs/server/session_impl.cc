#include "rtrs/server/session_impl.h"

#include <algorithm>
#include <cerrno>

namespace rnbd::rtrs::server {
namespace {

// Connects that are still on their way when their path is fenced come soon or never.
constexpr std::size_t kFencedMax = 256;

// Counters of connects wrap: as serial numbers (RFC 1982).
bool is_later(std::uint16_t one, std::uint16_t other) {
  return static_cast<std::int16_t>(static_cast<std::uint16_t>(one - other)) > 0;
}

// Until nothing of it runs any more: a path accepted anew proves it (R6).
bool in_its_place(const Path& path) {
  return !broken(Rule::r6) || path.state() != PathState::closing;
}

}  // namespace

Path* SessionImpl::find_path(const Uuid& uuid) const {
  const auto found = std::ranges::find_if(
      paths_, [&](const auto& path) { return path->uuid() == uuid && in_its_place(*path); });
  return found == paths_.end() ? nullptr : found->get();
}

int SessionImpl::check_new_path(const fabric::IncomingConnection& incoming) const {
  if (paths_.size() >= options_.max_paths_per_session) return ECONNRESET;
  const bool known = std::ranges::any_of(paths_, [&](const auto& path) {
    return path->same_addresses(incoming) && in_its_place(*path);
  });
  return known ? EEXIST : 0;
}

Result<Path*> SessionImpl::add_path(const wire::ConnectRequest& request,
                                    const fabric::IncomingConnection& first) {
  auto path = Path::create(loops_, options_, requests_, *this, shared_,
                           static_cast<PathHandler&>(*this), request, first);
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
  if (options_.history != nullptr && !survivor_) options_.history->add(uuid_);
  loops_.of(0).loop().post([this] { requests_.on_session_opened(*this); });
}

// ---- Fences ----

void SessionImpl::on_fence(Path& asker, const Fence& fence) {
  // Not structured bindings: clang 14 cannot capture them.
  const std::uint16_t recon_cnt = fence.what.recon_cnt;
  const Uuid& uuid = fence.what.path;
  if (asker.state() != PathState::connected) return fence.answer(ECANCELED);
  if (uuid == asker.uuid() && !is_later(asker.recon_cnt(), recon_cnt)) return fence.answer(EINVAL);
  const auto same = [&](const Fenced& known) { return known.path == uuid; };
  const auto known = std::ranges::find_if(fenced_, same);
  if (known == fenced_.end()) {
    if (fenced_.size() == kFencedMax) fenced_.pop_front();
    fenced_.push_back({uuid, recon_cnt});
  } else if (is_later(recon_cnt, known->recon_cnt)) {
    known->recon_cnt = recon_cnt;
  }
  Path* const target = find_path(uuid);
  // A later connection was accepted only after the end of the earlier ones.
  if (target == nullptr || is_later(target->recon_cnt(), recon_cnt)) return fence.answer(0);
  target->close(Errc::given_up, false);
  if (broken(Rule::r6)) return fence.answer(0);
  pending_.push_back({fence, &asker, target});
}

bool SessionImpl::fenced(const wire::ConnectRequest& request) const {
  return std::ranges::any_of(fenced_, [&](const Fenced& known) {
    return known.path == request.sess_uuid && !is_later(request.recon_cnt, known.recon_cnt);
  });
}

void SessionImpl::on_path_closing(Path& path) {
  std::erase_if(pending_, [&](const Pending& waiting) {
    if (waiting.asker != &path) return false;
    waiting.fence.answer(ECANCELED);
    return true;
  });
}

void SessionImpl::on_permit_collision() {
  for (const auto& path : paths_) {
    if (path->given_up()) path->close(Errc::given_up, false);
  }
}

void SessionImpl::on_path_gone(Path& path) {
  std::erase_if(pending_, [&](const Pending& waiting) {
    if (waiting.target != &path) return false;
    waiting.fence.answer(0);
    return true;
  });
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

// Over every path: one that is about to be missed would swallow it.
void SessionImpl::notify() {
  for (const auto& path : paths_) path->send_notice();
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
