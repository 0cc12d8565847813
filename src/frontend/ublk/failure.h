#pragma once
// What went wrong with a ublk device, in words: cause and next step.

#include <string>
#include <system_error>
#include <tl/expected.hpp>

namespace rnbd::ublk {

struct Failure {
  std::error_code error;
  std::string what;  // "cannot add a ublk device: the driver is not loaded"
  std::string hint;  // "modprobe ublk_drv"; may be empty
};

template <class T>
using Outcome = tl::expected<T, Failure>;

// `doing`: "add a ublk device".
Failure failure(const std::string& doing, std::error_code error);
inline tl::unexpected<Failure> fail_with(const std::string& doing, std::error_code error) {
  return tl::unexpected(failure(doing, error));
}

}  // namespace rnbd::ublk
