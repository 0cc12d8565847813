#include "frontend/ublk/failure.h"

#include <cerrno>

namespace rnbd::ublk {
namespace {

struct Words {
  int error;
  const char* cause;
  const char* hint;
};

constexpr Words kWords[] = {
    {ENOENT, "the ublk driver is not loaded", "modprobe ublk_drv"},
    {ENXIO, "the ublk driver is not loaded", "modprobe ublk_drv"},
    {EACCES, "no right to use /dev/ublk-control", "ublk devices need root"},
    {EPERM, "no right to use ublk", "ublk devices need root (CAP_SYS_ADMIN)"},
    {EBUSY, "the device is in use", "end that use, or take it away by force"},
    {EEXIST, "there is a ublk device of that number", ""},
    {ENODEV, "there is no such ublk device", ""},
    {ENOSPC, "there are too many ublk devices", "parameter ublks_max of ublk_drv bounds them"},
    {ENOMEM, "not enough memory", "a smaller queue depth needs less"},
    {ETIMEDOUT, "it did not end in time", "is the volume's server answering?"},
    {EOPNOTSUPP, "the ublk driver of this kernel cannot do that", ""},
    {EINVAL, "the ublk driver refuses these parameters", ""},
};

}  // namespace

Failure failure(const std::string& doing, std::error_code error) {
  Failure told{error, "cannot " + doing + ": " + error.message(), ""};
  if (error.category() != std::generic_category()) return told;
  for (const Words& words : kWords) {
    if (words.error != error.value()) continue;
    told.what = "cannot " + doing + ": " + words.cause;
    told.hint = words.hint;
  }
  return told;
}

}  // namespace rnbd::ublk
