#pragma once
// The control device of the ublk driver. A command may take as long as a device's I/O does, so
// never on a reactor; every wait here is bounded. One thread.

#include <cstdint>
#include <memory>

#include "base/error.h"
#include "base/loop.h"
#include "frontend/ublk/abi.h"

namespace rnbd::ublk {

class Control final {
 public:
  static constexpr Duration kLimit = std::chrono::seconds(10);

  // ENOENT without driver, EACCES without the right; asks the driver what it can.
  static Result<Control> open();
  Control(Control&&) noexcept;
  Control& operator=(Control&&) noexcept;
  // A command still in the kernel is left to itself: then the thread may not be joined (see
  // outstanding()).
  ~Control();

  // 0 where the driver is too old to tell; then what add() returns tells.
  std::uint64_t features() const { return features_; }
  bool ioctl_encoded() const { return ioctl_encoded_; }

  // `info` comes back as the driver granted it: id, queues, depth, flags.
  std::error_code add(ublksrv_ctrl_dev_info& info);
  Result<ublksrv_ctrl_dev_info> info(std::uint32_t id);
  std::error_code set_params(std::uint32_t id, const ublk_params& params);
  Result<ublk_params> params(std::uint32_t id);
  // Both end when every queue has fetched; start also reads the partition table through them.
  std::error_code start(std::uint32_t id, Duration limit);
  std::error_code end_recovery(std::uint32_t id, Duration limit);
  std::error_code start_recovery(std::uint32_t id);
  std::error_code update_size(std::uint32_t id, std::uint64_t bytes);
  // ETIMEDOUT: still under way; go on waiting with wait(). Ends when every request of the device
  // was answered.
  std::error_code stop(std::uint32_t id, Duration limit);
  std::error_code wait(Duration limit);
  // After stop(). Whoever still has the device open keeps a dead one, and is not waited for.
  std::error_code del(std::uint32_t id, Duration limit);

  bool outstanding() const;  // a command timed out and has not ended

 private:
  struct Ring;
  Control() = default;
  std::error_code run(std::uint32_t command, const ublksrv_ctrl_cmd& words, Duration limit);
  ublksrv_ctrl_cmd with_buffer(std::uint32_t id, std::size_t bytes);

  std::unique_ptr<Ring> ring_;
  std::uint64_t features_ = 0;
  bool ioctl_encoded_ = false;
};

}  // namespace rnbd::ublk
