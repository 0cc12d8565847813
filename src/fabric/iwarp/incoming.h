#pragma once
// A whole MPA Request and the socket it came on: all that accepting needs. Belongs to no loop.

#include "base/loop.h"
#include "base/unique_fd.h"
#include "fabric/fabric.h"
#include "fabric/iwarp/options.h"
#include "wire/mpa.h"

namespace rnbd::fabric::iwarp {

class IwarpIncoming final : public IncomingConnection {
 public:
  IwarpIncoming(UniqueFd fd, const wire::MpaReader& request, Address local, Address peer,
                TimePoint arrived);
  ~IwarpIncoming() override;

  std::span<const std::byte> private_data() const override { return request_.frame().user_data; }
  const Address& local_address() const override { return local_; }
  const Address& peer_address() const override { return peer_; }

  TimePoint arrived() const { return arrived_; }
  // Answers the Request; after a yes the connection is open and `crc` says how.
  std::error_code answer(bool accepted, std::span<const std::byte> private_data,
                         const Options& options, bool& crc);
  bool wants_markers() const { return request_.frame().markers; }
  UniqueFd take_fd() { return std::move(fd_); }

 private:
  UniqueFd fd_;
  wire::MpaReader request_;
  Address local_;
  Address peer_;
  TimePoint arrived_;
};

}  // namespace rnbd::fabric::iwarp
