#include "sim/request_watch.h"

#include <variant>

#include "wire/rnbd.h"

namespace rnbd::sim_test {

// Stands for a request of RTRS until it is answered.
class RequestWatch::Watched final : public rtrs::server::Request {
 public:
  Watched(RequestWatch& watch, rtrs::server::Request& request) : watch_(watch), inner_(request) {
    direction_ = request.direction();
    message_ = request.message();
    data_ = request.data();
    reply_length_ = request.reply_length();
    const auto message = wire::parse_rnbd_message(message_);
    if (!message) return;
    device_.session = request.session().id();
    if (const auto* io = std::get_if<wire::Io>(&*message)) {
      is_io_ = true;
      device_.id = io->device_id;
      ++watch_.running_[device_];
    } else if (const auto* close = std::get_if<wire::Close>(&*message)) {
      is_close_ = true;
      device_.id = close->device_id;
    }
  }
  rtrs::server::Session& session() override { return inner_.session(); }
  std::size_t loop_index() const override { return inner_.loop_index(); }
  bool abandoned() const override { return inner_.abandoned(); }
  void respond(int error) override {
    if (is_io_ && --watch_.running_[device_] == 0) watch_.running_.erase(device_);
    if (is_close_ && watch_.running_.contains(device_))
      watch_.report_.violation("R7: CLOSE is answered while the device's requests run");
    rtrs::server::Request& inner = inner_;
    delete this;
    inner.respond(error);
  }

 private:
  RequestWatch& watch_;
  rtrs::server::Request& inner_;
  Device device_;
  bool is_io_ = false;
  bool is_close_ = false;
};

void RequestWatch::on_request(rtrs::server::Request& request) {
  if (request.abandoned()) report_.violation("R5: a request of a closing path is begun");
  next_.on_request(*new Watched(*this, request));
}

}  // namespace rnbd::sim_test
