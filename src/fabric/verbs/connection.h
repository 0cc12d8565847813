#pragma once
// One reliable connection over a queue pair, either end. Work posted in one round of the loop is
// collected and leaves with one doorbell at its end. Completions are polled by the fabric's Poller.
//
//   initiator: resolving --> routing --> connecting --> open
//   acceptor:  accepting --> accepted -----------------> open
//   open --> draining --> flushing --> closed; any --> flushing
// In `flushing` the queue pair is in its error state and a marker follows the last posted item on
// either side; when both are back, or after a time, the queue pair is destroyed: nothing of this
// connection can touch memory any more. Then everything posted is handed back, then on_closed.

#include <optional>

#include "fabric/fabric.h"
#include "fabric/verbs/core.h"
#include "fabric/verbs/domain.h"
#include "fabric/verbs/receive_queue.h"
#include "fabric/verbs/send_chain.h"
#include "fabric/verbs/send_queue.h"
#include "fabric/verbs/windows.h"

namespace rnbd::fabric::verbs {

class VerbsConnection final : public Connection, public ListNode, private CmTarget {
 public:
  VerbsConnection(Core& core, VerbsDomain& domain, const ConnectionOptions& depths,
                  ConnectionHandler& handler);
  ~VerbsConnection() override;

  // Once, either of them.
  std::error_code dial(const ConnectRequest& request);
  std::error_code adopt(CmId id, std::span<const std::byte> private_data);

  std::error_code post(std::span<const Work> batch) override;
  std::error_code post_receive(std::span<std::byte> buffer, std::uint64_t cookie) override;
  Result<RemoteSpan> expose(std::uint32_t window, std::span<const iovec> local) override;
  void hide(std::uint32_t window) override;
  void forget(std::uint32_t window) override;
  Result<RemoteSpan> open_gate(Memory& memory, std::size_t chunk, std::uint64_t cookie) override;
  std::error_code shut_gate(Memory& memory, std::size_t chunk, std::uint64_t cookie) override;
  bool filled(std::uint32_t window) const override { return windows_.filled(window); }
  void close(std::error_code why, bool graceful) override;
  const Address& local_address() const override { return local_; }
  const Address& peer_address() const override { return peer_; }
  const char* digest() const override { return "icrc"; }

  const Device& rdma_device() const { return *device_; }
  void on_async_event(const AsyncEvent& event);

  struct Counters {
    std::uint64_t doorbells = 0, work_requests = 0, signalled = 0, strays = 0;
  };
  const Counters& counters() const { return counters_; }

 private:
  enum class State : std::uint8_t {
    resolving,
    routing,
    connecting,
    accepting,
    accepted,
    open,
    draining,
    flushing,
    closed
  };
  bool ending() const { return state_ >= State::flushing; }
  // Names of work requests are sequence numbers: of the send queue, or, with this bit, of receives.
  static constexpr std::uint64_t kReceiveBit = std::uint64_t{1} << 63;
  static constexpr std::uint64_t kMarkerReceive = ~std::uint64_t{0};
  static constexpr std::uint32_t kOwnAtTheEnd = 2;  // a last write of nothing, and the marker

  // connection.cc: from the first step to the last.
  std::error_code create_queues();
  void on_cm_event(CmEvent& event) override;
  void on_cm_progress(CmEvent& event);
  void on_established(CmEvent& event);
  void on_rejected(CmEvent& event);
  void on_disconnected();
  void send_connect();
  void send_accept();
  rdma_conn_param connect_parameters() const;
  void tune();
  void announce();
  void on_timeout();
  void end(std::error_code why);
  void flush_queues();
  void finish();
  void hand_back();

  // connection_io.cc: work and its completions.
  std::error_code build(const Work& work);
  std::error_code attach_bytes(SendChain::Request& request, std::span<const iovec> local,
                               std::size_t bytes, SendQueue::Item& item);
  void ring();
  void flush();
  bool post_own(ibv_send_wr& request, const Slice& slice = {});
  static bool drain_queue(void* self) { return static_cast<VerbsConnection*>(self)->drain(); }
  bool drain();
  void on_completion(const ibv_wc& completion);
  void on_failure(const ibv_wc& completion);
  void on_sent(const ibv_wc& completion);
  void on_received(const ibv_wc& completion);
  std::error_code move_gate(Memory& memory, std::size_t chunk, bool open, std::uint64_t cookie);
  bool window_requests_fit(std::size_t requests) const;
  std::uint64_t add_own(const ibv_send_wr& request, const Slice& slice);
  bool on_invalidated(std::uint32_t key);
  void give_back(const SendQueue::Item& item);
  void deliver_done();
  void check_drained();
  void trim();

  Core& core_;
  VerbsDomain& domain_;
  const std::shared_ptr<Device> device_;  // shared with its domain, see Device
  const ConnectionOptions depths_;
  ConnectionHandler& handler_;
  State state_ = State::resolving;
  bool connected_ = false;  // the queue pair has been told of its peer
  std::optional<std::error_code> why_;
  std::optional<std::error_code> fault_;  // found while polling
  bool fault_is_guess_ = false;           // from flushed work; a cause may still come
  bool why_is_guess_ = false;
  bool send_failed_ = false;
  bool marker_sent_ = false, marker_received_ = false;  // and back
  std::uint64_t marker_ = 0;                            // of the send queue
  std::uint64_t posted_end_ = ~std::uint64_t{0};        // what is behind it was never posted
  TimePoint deadline_{};
  Address local_, peer_;
  std::vector<std::byte> private_data_;  // to be sent

  DomainBlocks outgoing_blocks_, incoming_blocks_, receive_blocks_;
  Arena outgoing_;  // bytes on their way out
  Arena inbox_;     // receives into memory that is not registered
  WindowTable windows_;
  SendQueue sends_;
  ReceiveQueue receives_;
  SendChain chain_;
  Counters counters_;

  std::unique_ptr<CompletionQueue> completions_;
  CmId id_;  // with the queue pair: gone before the completion queue
  Timer timer_;
  Timer trim_timer_;
  Task accept_ = Task::of<&VerbsConnection::send_accept>(this);
  Task flush_ = Task::of<&VerbsConnection::flush>(this);
  Task finish_ = Task::of<&VerbsConnection::finish>(this);
};

}  // namespace rnbd::fabric::verbs
