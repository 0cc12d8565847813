#pragma once
// The administrative messages of a client under way: SESS_INFO, OPEN, CLOSE over the service lane.
// A call outlives whoever made it, because its memory is the fabric's until the answer. Home loop;
// allocates.

#include <functional>
#include <memory>
#include <vector>

#include "rtrs/client/session.h"
#include "wire/rnbd.h"

namespace rnbd::client {

class AdminCalls {
 public:
  AdminCalls();
  AdminCalls(const AdminCalls&) = delete;
  AdminCalls& operator=(const AdminCalls&) = delete;
  ~AdminCalls();

  // `done` comes once, from the loop, if only with path_lost.
  void session_info(rtrs::client::Lane& lane,
                    std::function<void(Result<std::uint8_t> version)> done);
  void open(rtrs::client::Lane& lane, const wire::Open& message,
            std::function<void(Result<wire::OpenResponse>)> done);
  void close(rtrs::client::Lane& lane, std::uint32_t device_id,
             std::function<void(std::error_code)> done);

  // `call` when nothing is under way, which may be at once.
  void when_idle(std::function<void()> call);

 private:
  struct Call;
  using Answer = std::function<void(std::error_code, wire::ByteView)>;
  template <class Layout>
  void send(rtrs::client::Lane& lane, rtrs::Direction direction, const Layout& message,
            std::size_t answer_size, Answer answer);
  static void on_done(rtrs::client::Request& request, std::error_code error);

  std::vector<std::unique_ptr<Call>> calls_;
  std::function<void()> idle_;
};

}  // namespace rnbd::client
