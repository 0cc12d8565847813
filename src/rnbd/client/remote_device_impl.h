#pragma once
// One device of a client on its home loop: opens it, keeps it open across losses, tells the loops,
// and ends it.

#include <atomic>

#include "base/log.h"
#include "base/loop.h"
#include "rnbd/client/admin_calls.h"
#include "rnbd/client/device_state.h"
#include "rnbd/client/remote_queue.h"

namespace rnbd::client {

// What a device needs of its client.
class DeviceHost {
 public:
  virtual ~DeviceHost() = default;
  virtual Loop& home() = 0;
  virtual std::span<const std::unique_ptr<ClientLane>> lanes() = 0;
  virtual const rtrs::client::SessionOptions& session_options() const = 0;
  // The session when it is up and greeted, else nullptr.
  virtual rtrs::client::Session* ready_session() = 0;
  virtual AdminCalls& calls() = 0;
  // An OPEN of a device that is gone was answered after all.
  virtual void on_late_open(const std::string& path, std::uint32_t device_id) = 0;
  // The server answered an OPEN of this device with this id.
  virtual void on_id_given(class RemoteDeviceImpl& device, std::uint32_t device_id) = 0;
  virtual class RemoteDeviceImpl* find_device(std::uint64_t serial) = 0;
  virtual void remove_device(RemoteDeviceImpl& device) = 0;  // destroys it
};

class RemoteDeviceImpl final : public RemoteDevice {
 public:
  using Opened = std::function<void(tl::expected<RemoteDevice*, Failure>)>;

  RemoteDeviceImpl(DeviceHost& host, std::uint64_t serial, DeviceOptions options, Opened opened);

  const std::string& name() const override { return name_; }
  block::Limits limits() const override;
  Result<std::unique_ptr<block::Queue>> open_queue(Loop& loop) override;
  DeviceState state() const override { return state_; }
  const DeviceOptions& options() const override { return options_; }
  std::error_code last_error() const override { return last_error_; }
  std::string session_name() const override { return host_.session_options().name; }
  DeviceCounters counters() const override;
  void reset_counters() override { counted_before_ = sums(); }
  void set_hold_timeout(Duration timeout) override;
  Duration hold_timeout() const override { return hold_timeout_; }
  Duration waiting() const override {
    return state_ == DeviceState::closed ? host_.home().now() - lost_at_ : Duration{};
  }
  void set_watcher(block::DeviceWatcher* watcher) override { watcher_ = watcher; }
  void resize(std::uint64_t size,
              std::function<void(std::error_code, std::uint64_t)> done) override;
  void remap(Done done) override;
  void recover(Done done) override;

  std::uint64_t serial() const { return serial_; }
  // The id an earlier incarnation of the session knew this device by, if it may still stand for
  // something.
  std::optional<std::uint32_t> old_id() const { return old_id_; }
  std::optional<std::uint32_t> device_id() const { return device_id_; }

  // From the client.
  void on_session_ready();
  void on_session_lost(Stage stage, std::error_code why);
  // A path is gone and the server cannot say what of it still runs: nothing is sent until the
  // device was closed there and opened anew. `dry` when what is under way over other paths is back:
  // it must not come after CLOSE, when its device id may stand for another device.
  void on_path_unfenced(std::function<void()> dry);
  // The server gave our id to another device: it had closed ours by force.
  void on_id_lost();
  // The server says that something of what the session has open has changed.
  void on_session_notice();
  void fail(std::error_code why);
  void unmap(std::function<void(std::error_code)> done);

 private:
  DeviceCounters sums() const;
  void move_to(DeviceState next);
  void tell(const char* event, LogLevel level, std::error_code error, std::string_view what) const;
  void reopen();
  void send_open();
  void on_open_answer(Result<wire::OpenResponse> response);
  void accept(std::uint32_t device_id, const VolumeLimits& limits);
  void open_refused(std::error_code error);
  void open_failed(Stage stage, std::error_code error);
  void on_lost(std::uint32_t generation);
  void send_fence();
  void retry_later();
  void on_retry();
  void on_hold_expired();
  void arm_hold();
  void look_for_hung();
  bool writes_lost(std::uint64_t cache_identity) const;
  void on_patience_over();
  void unmap_next();
  void leave();
  void tell_lanes(std::function<void(LaneDevice&)> tell, std::function<void()> then);
  void run_dry(std::function<void()> then);
  void need_fence();
  void give_back_id();

  static constexpr Duration kRetryDelay = std::chrono::milliseconds(200);

  // remote_device_admin.cc
  struct Looker {
    std::uint64_t size = 0;
    std::function<void(std::error_code, std::uint64_t)> done;
  };
  void look();
  void on_look_answer(std::uint32_t generation, Result<wire::OpenResponse> response);
  void on_looked(const wire::OpenResponse& response);
  void take_size(const VolumeLimits& limits, std::uint64_t wanted, const Done& done);
  void tell_lookers(std::error_code error);
  void await_open(Done done);
  void tell_awaiting(std::error_code error);
  void revive();

  DeviceHost& host_;
  const std::uint64_t serial_;
  const DeviceOptions options_;
  const std::string name_;
  Opened opened_;

  DeviceState state_ = DeviceState::init;
  std::error_code last_error_;
  block::DeviceWatcher* watcher_ = nullptr;
  block::Limits shown_;  // constant once open, but its size
  std::atomic<std::uint64_t> size_{0};
  std::uint32_t generation_ = 0;
  std::optional<std::uint32_t> device_id_;  // known to the server now
  std::optional<std::uint32_t> old_id_;
  bool opening_ = false;  // an OPEN is under way
  bool fence_first_ =
      false;  // CLOSE before OPEN: messages of unknown fate on a session that is still up
  bool fencing_ = false;
  Duration retry_delay_{};
  Duration hold_timeout_{};
  TimePoint lost_at_{};
  std::uint64_t cache_identity_ = 0;
  FlushTally flushes_;
  std::function<void(std::error_code)> unmapped_;
  bool leaving_ = false;

  bool looking_ = false;     // an OPEN of what is open is under way
  bool look_again_ = false;  // there is more to see than that one may have seen
  bool shrunk_ = false;      // on the server, and this was told
  std::vector<Looker> lookers_;
  std::vector<Done> awaiting_;  // the end of an OPEN
  bool reviving_ = false;       // failed, and getting another chance

  // Each its loop's. Messages that were given up may outlive the device.
  std::vector<std::shared_ptr<LaneDevice>> lanes_;
  DeviceCounters counted_before_;  // the last reset
  Timer hold_timer_;
  Timer retry_timer_;
  Timer patience_timer_;  // first OPEN, CLOSE
};

}  // namespace rnbd::client
