#include "daemon/client/ublk_frontend.h"

#include <unistd.h>

#include <utility>

#include "base/assert.h"
#include "base/log.h"

namespace rnbd::daemon {
namespace {

ublk::Spec spec_of(const Appearance& appearance, const ClientConfig& config, Random& random) {
  ublk::Spec spec;
  spec.session = appearance.session;
  spec.volume = appearance.volume;
  spec.number = appearance.number;
  spec.link_directory = config.devices_dir;
  spec.queue_depth = static_cast<std::uint16_t>(config.ublk_queue_depth);
  spec.tag = appearance.ublk_tag;
  while (spec.tag == 0) spec.tag = random.next();
  return spec;
}

UblkPresence presence_of(const ublk::Device& device) {
  UblkPresence presence;
  presence.id = device.identity().id;
  presence.tag = device.identity().tag;
  presence.device = device.node();
  presence.node = presence.device.substr(presence.device.rfind('/') + 1);
  presence.number_link = device.number_link();
  presence.name_link = device.name_link();
  return presence;
}

}  // namespace

UblkFrontend::~UblkFrontend() { RNBD_ASSERT(devices_.empty()); }

bool UblkFrontend::possible() {
  return ::geteuid() == 0 && ::access("/dev/ublk-control", R_OK | W_OK) == 0;
}

void UblkFrontend::attach(const Appearance& appearance, block::Device& volume,
                          std::function<void(Outcome<UblkPresence>)> done) {
  const ublk::Spec spec = spec_of(appearance, config_, random_);
  auto made =
      [this,
       name = fmt::format("<{}@{}>", printable(appearance.volume), printable(appearance.session)),
       done = std::move(done)](ublk::Outcome<std::unique_ptr<ublk::Device>> device) {
        if (!device) {
          const ublk::Failure& why = device.error();
          const int error = to_errno(why.error);
          return done(problem({code_of_errno(error), why.what, why.hint, error}));
        }
        UblkPresence presence = presence_of(**device);
        (*device)->set_on_gone([name, node = presence.device] {
          log_error("{} somebody stopped {}: unmap it and map it anew", name, node);
        });
        devices_[presence.id] = std::move(*device);
        done(std::move(presence));
      };
  if (!appearance.ublk_id)
    return ublk::Device::create(reactors_.reactors(), spec, volume, std::move(made));
  ublk::Device::recover(reactors_.reactors(), {*appearance.ublk_id, spec.tag}, spec, volume,
                        std::move(made));
}

void UblkFrontend::detach(const UblkPresence& presence, bool force,
                          std::function<void(std::vector<std::string>)> done) {
  auto at = devices_.find(presence.id);
  if (at == devices_.end()) return done({});
  ublk::Device& device = *at->second;
  device.remove(force, [this, &device, id = presence.id, force,
                        done = std::move(done)](ublk::RemoveResult result) {
    if (result.error && !force)
      return done(result.users.empty() ? std::vector<std::string>{result.error.message()}
                                       : std::move(result.users));
    device.when_drained([this, id, done] {
      devices_.erase(id);
      done({});
    });
  });
}

void UblkFrontend::resized(const UblkPresence& presence, std::uint64_t size) {
  auto at = devices_.find(presence.id);
  if (at == devices_.end()) return;
  at->second->resize(size, [node = presence.device](std::error_code error) {
    if (!error) return;
    const bool too_old = error == from_errno(EOPNOTSUPP);
    log_warning(
        "{} did not follow the new size: {}", node,
        too_old ? "this kernel's ublk driver cannot; unmap it and map it anew" : error.message());
  });
}

void UblkFrontend::leave(std::function<void()> done) {
  auto left = std::make_shared<std::size_t>(devices_.size());
  if (*left == 0) return reactors_.home().post(std::move(done));
  for (auto& [id, device] : devices_) {
    device->leave([this, id = id, left, done] {
      devices_.erase(id);
      if (--*left == 0) done();
    });
  }
}

}  // namespace rnbd::daemon
