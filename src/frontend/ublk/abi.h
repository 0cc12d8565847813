#pragma once
// The ublk driver's interface, linux/ublk_cmd.h, as far as the header of the build machine may be
// older than the driver we run on. Names follow the header's (UBLK_F_USER_COPY is kUserCopy); what
// a driver has is always asked, never assumed.

#include <linux/ioctl.h>
#include <linux/ublk_cmd.h>

#include <cstdint>

namespace rnbd::ublk::abi {

// UBLK_F_*
inline constexpr std::uint64_t kSupportZeroCopy = 1ULL << 0;
inline constexpr std::uint64_t kUserRecovery = 1ULL << 3;
inline constexpr std::uint64_t kUserRecoveryReissue = 1ULL << 4;
inline constexpr std::uint64_t kUnprivilegedDev = 1ULL << 5;
inline constexpr std::uint64_t kCmdIoctlEncode = 1ULL << 6;  // Linux 6.4
inline constexpr std::uint64_t kUserCopy = 1ULL << 7;
inline constexpr std::uint64_t kUserRecoveryFailIo = 1ULL << 9;
inline constexpr std::uint64_t kUpdateSize = 1ULL << 10;  // Linux 6.16
inline constexpr std::uint64_t kQuiesce = 1ULL << 12;

// UBLK_S_DEV_*
enum class State : std::uint16_t { dead = 0, live = 1, quiesced = 2, fail_io = 3 };

// UBLK_PARAM_TYPE_*
inline constexpr std::uint32_t kParamBasic = 1U << 0;
inline constexpr std::uint32_t kParamDiscard = 1U << 1;

// UBLK_ATTR_*
inline constexpr std::uint32_t kAttrReadOnly = 1U << 0;
inline constexpr std::uint32_t kAttrRotational = 1U << 1;
inline constexpr std::uint32_t kAttrVolatileCache = 1U << 2;
inline constexpr std::uint32_t kAttrFua = 1U << 3;

// UBLK_IO_OP_*
enum class IoOperation : std::uint8_t {
  read = 0,
  write = 1,
  flush = 2,
  discard = 3,
  write_same = 4,
  write_zeroes = 5
};
// UBLK_IO_F_*, as they stand in op_flags
inline constexpr std::uint32_t kIoFua = 1U << 13;
inline constexpr std::uint32_t kIoNoUnmap = 1U << 15;

// Commands, UBLK_U_CMD_* and UBLK_U_IO_*. A driver without kCmdIoctlEncode knows the number only.
using ControlCommand = ublksrv_ctrl_cmd;
using IoCommand = ublksrv_io_cmd;
static_assert(sizeof(ControlCommand) == 32);
static_assert(sizeof(IoCommand) == 16);  // what fits into an SQE of 64 bytes
static_assert(sizeof(ublksrv_io_desc) == 24);

inline constexpr std::uint32_t kGetDevInfo = _IOR('u', 0x02, ControlCommand);
inline constexpr std::uint32_t kAddDev = _IOWR('u', 0x04, ControlCommand);
inline constexpr std::uint32_t kDelDev = _IOWR('u', 0x05, ControlCommand);
inline constexpr std::uint32_t kStartDev = _IOWR('u', 0x06, ControlCommand);
inline constexpr std::uint32_t kStopDev = _IOWR('u', 0x07, ControlCommand);
inline constexpr std::uint32_t kSetParams = _IOWR('u', 0x08, ControlCommand);
inline constexpr std::uint32_t kGetParams = _IOR('u', 0x09, ControlCommand);
inline constexpr std::uint32_t kStartUserRecovery = _IOWR('u', 0x10, ControlCommand);
inline constexpr std::uint32_t kEndUserRecovery = _IOWR('u', 0x11, ControlCommand);
inline constexpr std::uint32_t kGetFeatures = _IOR('u', 0x13, ControlCommand);  // Linux 6.5
inline constexpr std::uint32_t kDelDevAsync = _IOR('u', 0x14, ControlCommand);  // Linux 6.9
inline constexpr std::uint32_t kUpdateSizeCommand = _IOWR('u', 0x15, ControlCommand);
inline constexpr std::uint32_t kFetchReq = _IOWR('u', 0x20, IoCommand);
inline constexpr std::uint32_t kCommitAndFetchReq = _IOWR('u', 0x21, IoCommand);

constexpr std::uint32_t encoded(std::uint32_t command, bool ioctl_encoded) {
  return ioctl_encoded ? command : command & 0xffU;
}

inline constexpr std::uint32_t kQueueDepthMax = 4096;
inline constexpr std::uint32_t kSectorShift = 9;

}  // namespace rnbd::ublk::abi
