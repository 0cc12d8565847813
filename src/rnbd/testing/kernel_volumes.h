#pragma once
// Volumes as the Linux kernel's server exports them (drivers/block/rnbd/rnbd-srv.c): what it
// answers. Behind a KernelServer, for tests of our client.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "rtrs/testing/kernel_server.h"
#include "wire/rnbd.h"

namespace rnbd::testing {

struct KernelVolume {
  explicit KernelVolume(std::size_t size = 1 << 20) : bytes(size) { about.nsectors = size / 512; }
  std::vector<std::byte> bytes;
  wire::OpenResponse about;  // but for device_id
  int writers = 0;
  int open_error = 0;  // what opening the block device fails with
};

class KernelVolumes {
 public:
  struct Seen {
    wire::layout::Io message;
    std::size_t message_size;
    bool read;
    std::uint16_t descriptors;
    std::uint32_t data_length;
  };

  int handle(rtrs::testing::KernelRequest& request) {
    requests.push_back(request);
    const auto header = wire::load<wire::layout::RnbdHeader>(request.message);
    if (!header) return EINVAL;
    switch (header->type) {
      case 0:
        return greet(request);
      case 2:
        return open(request);
      case 4:
        return io(request);
      case 5:
        return close(request);
      default:
        return EINVAL;
    }
  }
  void end_session(const Uuid& session) {
    for (const auto& [id, opened] : sessions_[session]) put(opened);
    sessions_.erase(session);
  }
  // As by force_close of its sysfs: the client is not told, and the id is free for the next.
  void force_close(const std::string& name) {
    for (auto& [uuid, ids] : sessions_) {
      for (auto i = ids.begin(); i != ids.end();) {
        if (i->second.name == name) put(i->second);
        i = i->second.name == name ? ids.erase(i) : std::next(i);
      }
    }
  }
  std::size_t open_count() const {
    std::size_t count = 0;
    for (const auto& [uuid, ids] : sessions_) count += ids.size();
    return count;
  }

  std::map<std::string, KernelVolume> volumes;
  std::uint8_t version = 2;
  std::vector<rtrs::testing::KernelRequest> requests;  // all there were
  std::vector<Seen> ios;
  std::vector<std::uint32_t> closed;  // ids of CLOSE messages
  int io_error = 0;
  int unknown_ids = 0;       // of requests
  int second_spellings = 0;  // of one device in one session: our client must not send them

 private:
  struct Opened {
    std::string name;
    KernelVolume* volume;
    wire::AccessMode mode;
  };
  using Ids = std::map<std::uint32_t, Opened>;

  static void put(const Opened& opened) {
    opened.volume->writers -= opened.mode == wire::AccessMode::ro ? 0 : 1;
  }
  template <class Layout>
  static int answer(rtrs::testing::KernelRequest& request, const Layout& layout) {
    EXPECT_EQ(request.data_length, sizeof layout)
        << "the kernel's client leaves room for just that";
    const auto bytes = wire::bytes_of(layout);
    std::copy_n(bytes.begin(), std::min(bytes.size(), request.data.size()), request.data.begin());
    return 0;
  }
  int greet(rtrs::testing::KernelRequest& request) const {
    const auto message = wire::load<wire::layout::SessionInfo>(request.message).value();
    return answer(request, wire::encode_session_info_response(std::min(message.version, version)));
  }
  int open(rtrs::testing::KernelRequest& request) {
    const auto message = wire::load<wire::layout::Open>(request.message).value();
    const std::string name = message.device_name.data();
    Ids& ids = sessions_[request.session];
    for (const auto& [id, opened] : ids) {
      if (opened.name == name) return describe(request, id, *opened.volume);
    }
    if (name.find("..") != std::string::npos) return EINVAL;
    const auto volume = volumes.find(name.substr(name.find_first_not_of('/')));
    if (volume == volumes.end()) return ENOENT;
    if (volume->second.open_error != 0) return volume->second.open_error;
    const auto mode = static_cast<wire::AccessMode>(message.access_mode);
    const int most = mode == wire::AccessMode::migration ? 2 : 1;
    if (mode != wire::AccessMode::ro && volume->second.writers >= most) return EPERM;
    for (const auto& [id, opened] : ids) {
      if (opened.volume == &volume->second) return ++second_spellings, EEXIST;
    }
    volume->second.writers += mode == wire::AccessMode::ro ? 0 : 1;
    std::uint32_t id = 0;
    while (ids.contains(id)) ++id;  // the lowest that is free
    ids[id] = {name, &volume->second, mode};
    return describe(request, id, volume->second);
  }
  static int describe(rtrs::testing::KernelRequest& request, std::uint32_t id,
                      const KernelVolume& volume) {
    wire::OpenResponse response = volume.about;
    response.device_id = id;
    return answer(request, wire::encode(response));
  }
  int close(const rtrs::testing::KernelRequest& request) {
    const auto message = wire::load<wire::layout::Close>(request.message).value();
    closed.push_back(message.device_id);
    Ids& ids = sessions_[request.session];
    const auto found = ids.find(message.device_id);
    if (found == ids.end()) return 0;
    put(found->second);
    ids.erase(found);
    return 0;
  }
  int io(rtrs::testing::KernelRequest& request) {
    auto bytes = request.message;
    bytes.resize(sizeof(wire::layout::Io));
    const auto message = wire::load<wire::layout::Io>(bytes).value();
    ios.push_back(
        {message, request.message.size(), request.read, request.descriptors, request.data_length});
    const Ids& ids = sessions_[request.session];
    const auto found = ids.find(message.device_id);
    if (found == ids.end()) return ++unknown_ids, ENOTCONN;
    if (request.data_length != 0 && request.data_length != message.bi_size) return EINVAL;
    if (io_error != 0) return io_error;
    return execute(request, message, *found->second.volume);
  }
  static int execute(rtrs::testing::KernelRequest& request, const wire::layout::Io& message,
                     KernelVolume& volume) {
    const std::uint32_t op = message.rw & 0xffU;
    if (op == 2) return 0;
    const std::uint64_t at = message.sector * 512, length = message.bi_size;
    if (at > volume.bytes.size() || length > volume.bytes.size() - at) return EIO;
    if (((at | length) & (volume.about.logical_block_size - 1U)) != 0) return EIO;
    std::byte* const place = volume.bytes.data() + at;
    switch (op) {
      case 1:
        std::memcpy(place, request.data.data(), request.data.size());
        return 0;
      case 3:
        if (volume.about.max_discard_sectors == 0) return EOPNOTSUPP;
        std::memset(place, 0, length);
        return 0;
      case 4:
        return EOPNOTSUPP;
      case 5:
        if (volume.about.max_write_zeroes_sectors == 0) return EOPNOTSUPP;
        std::memset(place, 0, length);
        return 0;
      case 0:
        std::memcpy(request.data.data(), place, std::min<std::size_t>(length, request.data.size()));
        return 0;
      default:
        return EINVAL;
    }
  }

  std::map<Uuid, Ids> sessions_;
};

}  // namespace rnbd::testing
