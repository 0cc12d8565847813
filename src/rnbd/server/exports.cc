#include "rnbd/server/exports.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <variant>

#include "base/event.h"
#include "base/mutation.h"
#include "rnbd/server/cache_identity.h"
#include "rnbd/server/exports_impl.h"
#include "rnbd/server/trace.h"

namespace rnbd::server {
namespace {

// Puts an answer where RTRS sends it from. All the client asked back is defined (zeros behind the
// answer). EINVAL when it left no room.
template <class Layout>
int write_answer(rtrs::server::Request& request, const Layout& layout) {
  const std::span<std::byte> room = request.data();
  const std::size_t reply = request.reply_length();
  if (reply < sizeof(Layout) || reply > room.size()) return EINVAL;
  std::memcpy(room.data(), &layout, sizeof(Layout));
  std::memset(room.data() + sizeof(Layout), 0, reply - sizeof(Layout));
  return 0;
}

bool has_room(const rtrs::server::Request& request, std::size_t size, std::size_t room) {
  return request.direction() == rtrs::Direction::read && request.reply_length() >= size &&
         request.reply_length() <= room;
}

int clamp_errno(const std::error_code& error) {
  const int value = to_errno(error);
  return error && (value < 1 || value > 511) ? EIO : value;
}

}  // namespace

std::unique_ptr<Exports> Exports::create(std::span<Loop* const> loops, DeviceOpener& opener,
                                         std::uint32_t max_io_size, const ExportsOptions& options) {
  return std::make_unique<ExportsImpl>(loops, opener, max_io_size, options);
}

ExportsImpl::ExportsImpl(std::span<Loop* const> loops, DeviceOpener& opener,
                         std::uint32_t max_io_size, const ExportsOptions& options)
    : loops_(loops.begin(), loops.end()),
      opener_(opener),
      geometry_{.max_io_size = max_io_size, .offer_write_zeroes = options.offer_write_zeroes},
      options_(options),
      look_timer_(Timer::of<&ExportsImpl::on_look_timer>(*loops[0], this)) {
  RNBD_ASSERT(!loops_.empty());
  for (std::size_t i = 0; i < loops_.size(); ++i) {
    handlers_.push_back(std::make_unique<IoHandler>(*loops_[i], i));
  }
}

ExportsImpl::~ExportsImpl() {
  RNBD_ASSERT(sessions_.empty());
  RNBD_ASSERT(volumes_.empty());
}

// ---- from RTRS, on any loop ----

void ExportsImpl::on_session_opened(rtrs::server::Session& rtrs) {
  home().post([this, &rtrs] {
    trace_create_session(rtrs);
    auto session = std::make_unique<Session>();
    session->rtrs = &rtrs;
    session->id = rtrs.id();
    sessions_[session->id] = std::move(session);
  });
}

void ExportsImpl::on_session_closed(rtrs::server::Session& rtrs) {
  home().post([this, id = rtrs.id()] {
    Session* session = find_session(id);
    RNBD_ASSERT(session != nullptr);
    session->closing = true;
    trace_destroy_session(*session->rtrs);
    std::vector<Mapping*> mappings;
    for (auto& [device_id, mapping] : session->mappings) mappings.push_back(mapping.get());
    for (Mapping* mapping : mappings) {
      if (mapping->state == MappingState::open) close(*mapping, nullptr);
    }
    maybe_release(*session);
  });
}

void ExportsImpl::on_request(rtrs::server::Request& request) {
  const auto message = wire::parse_rnbd_message(request.message());
  if (!message) return request.respond(clamp_errno(message.error()));
  if (const auto* io = std::get_if<wire::Io>(&*message)) {
    trace_io(request, *io);
    return handlers_[request.loop_index()]->handle(request, *io);
  }
  if (const auto* info = std::get_if<wire::SessionInfo>(&*message))
    return session_info(request, *info);
  const std::uint64_t session_id = request.session().id();
  const Asker asker{&request, request.loop_index()};
  if (const auto* open_message = std::get_if<wire::Open>(&*message)) {
    trace_open(request, *open_message);
    if (!has_room(request, sizeof(wire::layout::OpenResponse), request.data().size()))
      return request.respond(EINVAL);
    const auto mode = open_message->access_mode;
    return home().post([this, session_id, name = std::string(open_message->device_name), mode,
                        asker] { open(session_id, name, mode, asker); });
  }
  trace_close(request, std::get<wire::Close>(*message));
  const std::uint32_t device_id = std::get<wire::Close>(*message).device_id;
  if (request.reply_length() != 0) return request.respond(EINVAL);
  home().post([this, session_id, device_id, asker] {
    Mapping* mapping = find_mapping(session_id, device_id);
    if (mapping == nullptr || mapping->state == MappingState::opening)
      return answer(asker, {});  // unknown: 0
    if (broken(Rule::r7)) return answer(asker, {}), close(*mapping, nullptr);
    close(*mapping, [this, asker] { answer(asker, {}); });
  });
}

void ExportsImpl::session_info(rtrs::server::Request& request, const wire::SessionInfo& message) {
  trace_session_info(request, message);
  const std::uint8_t version = std::min(message.version, wire::kRnbdVersion);
  if (!has_room(request, sizeof(wire::layout::SessionInfo), request.data().size()))
    return request.respond(EINVAL);
  request.respond(write_answer(request, wire::encode_session_info_response(version)));
}

// ---- answers, from home ----

void ExportsImpl::answer(const Asker& asker, std::error_code error) {
  loops_[asker.loop]->post(
      [request = asker.request, error] { request->respond(clamp_errno(error)); });
}

void ExportsImpl::answer_open(const Asker& asker, Mapping& mapping) {
  auto response = describe(mapping.volume->device->limits(), mapping.device_id, geometry_);
  if (!response) return answer(asker, response.error());
  if (mapping.session->rtrs->own_client())
    response->cache_identity = cache_identity(*mapping.volume, options_.identity);
  loops_[asker.loop]->post([request = asker.request, layout = wire::encode(*response)] {
    request->respond(write_answer(*request, layout));
  });
}

// ---- lookups ----

ExportsImpl::Session* ExportsImpl::find_session(std::uint64_t id) {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.get();
}

ExportsImpl::Mapping* ExportsImpl::find_mapping(std::uint64_t session_id, std::uint32_t device_id) {
  Session* session = find_session(session_id);
  if (session == nullptr) return nullptr;
  const auto found = session->mappings.find(device_id);
  return found == session->mappings.end() ? nullptr : found->second.get();
}

ExportsImpl::Mapping* ExportsImpl::find_name(Session& session, const std::string& name) {
  for (auto& [id, mapping] : session.mappings) {
    if (mapping->name == name && mapping->state != MappingState::closing) return mapping.get();
  }
  return nullptr;
}

Volume* ExportsImpl::find_volume(const std::string& identity, bool read_only) {
  for (auto& volume : volumes_) {
    // A volume without mappings is being given back.
    if (volume->identity == identity && volume->read_only == read_only && volume->mappings > 0)
      return volume.get();
  }
  return nullptr;
}

// ---- administration ----

void ExportsImpl::list(std::function<void(std::vector<OpenInfo>)> result) {
  home().post([this, result = std::move(result)] {
    std::vector<OpenInfo> all;
    for (const auto& [session_id, session] : sessions_) {
      for (const auto& [device_id, mapping] : session->mappings) {
        if (mapping->state != MappingState::open) continue;
        OpenInfo info;
        info.session = session->rtrs->name();
        info.session_id = session_id;
        info.device_id = device_id;
        info.name = mapping->name;
        info.identity = mapping->volume->identity;
        info.place = mapping->volume->place;
        info.flush_failed = mapping->volume->flush_failed.load(std::memory_order_relaxed);
        info.mode = mapping->mode;
        info.size = mapping->volume->device->limits().size;
        for (const auto& part : mapping->parts) {
          info.reads += part->reads.get();
          info.read_bytes += part->read_bytes.get();
          info.writes += part->writes.get();
          info.write_bytes += part->write_bytes.get();
          info.errors += part->errors.get();
          info.inflight += part->inflight.get();
          info.server += part->server.counts();
          info.backend += part->backend.counts();
        }
        all.push_back(std::move(info));
      }
    }
    std::sort(all.begin(), all.end(), [](const OpenInfo& a, const OpenInfo& b) {
      return std::tie(a.session_id, a.device_id) < std::tie(b.session_id, b.device_id);
    });
    result(std::move(all));
  });
}

void ExportsImpl::force_close(std::uint64_t session_id, std::uint32_t device_id,
                              std::function<void(std::error_code)> done) {
  home().post([this, session_id, device_id, done = std::move(done)] {
    Mapping* mapping = find_mapping(session_id, device_id);
    if (mapping == nullptr || mapping->state == MappingState::opening)
      return done(from_errno(ENOENT));
    log_event({.name = "volume_taken_away",
               .volume = mapping->name,
               .session = mapping->session->rtrs->name()},
              "closed by force");
    close(*mapping, [done, rtrs = mapping->session->rtrs] {
      rtrs->notify();
      done({});
    });
  });
}

void ExportsImpl::forgive(const std::string& name, std::function<void(std::error_code)> done) {
  home().post([this, name, done = std::move(done)] {
    bool any = std::erase_if(flush_failed_, [&](const auto& failed) {
                 return failed.first == name || failed.second.is(name);
               }) > 0;
    for (auto& volume : volumes_) {
      if (volume->identity != name && !Named{volume->name, volume->place}.is(name)) continue;
      any |= volume->flush_failed.exchange(false);
      any |= flush_failed_.erase(volume->identity) > 0;
      volume->device->clear_errors();
    }
    done(any ? std::error_code{} : from_errno(ENOENT));
  });
}

}  // namespace rnbd::server
