#pragma once
// The client at work, on its home loop: one session, opened by the first device, and the devices.

#include "rnbd/client/remote_device_impl.h"

namespace rnbd::client {

class ClientImpl final : public Client, private rtrs::client::SessionHandler, private DeviceHost {
 public:
  using SessionFactory = std::function<Result<std::unique_ptr<rtrs::client::Session>>(
      rtrs::client::SessionHandler&, const rtrs::client::SessionOptions&)>;

  // loops[k] is the one lane k of the session will live on.
  ClientImpl(std::span<Loop* const> loops, std::size_t home, SessionFactory factory,
             ClientOptions options);
  ~ClientImpl() override;

  void open_device(DeviceOptions options,
                   std::function<void(tl::expected<RemoteDevice*, Failure>)> done) override;
  void close_device(RemoteDevice& device, std::function<void(std::error_code)> done) override;
  void close(std::function<void()> done) override;
  const rtrs::client::Session* session() const override { return session_.get(); }
  rtrs::client::Session* session() override { return session_.get(); }
  std::vector<RemoteDevice*> devices() override;
  void fail_device(RemoteDevice& device) override;
  void cancel_open(const std::string& path, std::error_code why) override;

 private:
  // none -> connecting -> greeting <-> away -> ending -> none; ready is greeting that was answered;
  // fencing is ready with a lost path whose requests may still take effect.
  enum class Link : std::uint8_t { none, connecting, greeting, ready, fencing, away, ending };

  // rtrs::client::SessionHandler
  void on_session_connected() override;
  void on_session_disconnected(std::error_code why) override;
  void on_session_closed(std::error_code why) override;
  void on_path_changed() override { report_identity(); }
  void on_session_unfenced() override;
  void on_session_fenced() override;
  void on_session_notice() override;

  // DeviceHost
  Loop& home() override { return home_; }
  std::span<const std::unique_ptr<ClientLane>> lanes() override { return lanes_; }
  const rtrs::client::SessionOptions& session_options() const override { return options_.session; }
  rtrs::client::Session* ready_session() override {
    return link_ == Link::ready ? session_.get() : nullptr;
  }
  AdminCalls& calls() override { return calls_; }
  void on_late_open(const std::string& path, std::uint32_t device_id) override;
  void on_id_given(RemoteDeviceImpl& device, std::uint32_t device_id) override;
  RemoteDeviceImpl* find_device(std::uint64_t serial) override;
  void remove_device(RemoteDeviceImpl& device) override;

  void connect();
  void report_identity();
  void attach_lanes();
  void close_old_ids();
  void on_ids_closed();
  void on_packets_gone();
  void on_greet_again();
  void go_on();
  void greet();
  void on_greeted(std::uint64_t connect_count, Result<std::uint8_t> version);
  void detach_lanes();
  void on_detached();
  void maybe_closed();
  template <class F>
  void each_device(F&& f);

  Loop& home_;
  const SessionFactory factory_;
  ClientOptions options_;
  rtrs::client::SessionIdentity identity_;  // as last reported
  std::vector<std::unique_ptr<ClientLane>> lanes_;
  AdminCalls calls_;
  std::unique_ptr<rtrs::client::Session> session_;
  Link link_ = Link::none;
  bool lanes_attached_ = false;
  std::uint64_t connect_count_ = 0;
  std::uint64_t closing_round_ = 0;
  Timer packets_timer_;
  Timer greet_timer_;
  std::uint64_t last_serial_ = 0;
  std::vector<std::unique_ptr<RemoteDeviceImpl>> devices_;
  std::function<void()> closed_;
  Task closed_task_ = Task::of<&ClientImpl::maybe_closed>(this);
};

// What two spellings of one path have in common: no doubled slashes, no "." components, and none at
// its start, as servers look for all of them below a place of their own.
std::string normal_path(std::string_view path);

}  // namespace rnbd::client
