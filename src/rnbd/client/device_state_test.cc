#include "rnbd/client/device_state.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <set>
#include <utility>

namespace rnbd::client {
namespace {

using enum DeviceState;
constexpr DeviceState kAll[] = {init, open, closed, failed, unmapped};

TEST(DeviceState, AllowsTheseMovesAndNoOthers) {
  const std::set<std::pair<DeviceState, DeviceState>> allowed = {
      {init, open},       {init, failed},   {init, unmapped},  {open, closed},
      {open, failed},     {open, unmapped}, {closed, open},    {closed, failed},
      {closed, unmapped}, {failed, closed}, {failed, unmapped}};
  for (const DeviceState from : kAll) {
    for (const DeviceState to : kAll) {
      EXPECT_EQ(may_move(from, to), allowed.contains({from, to}))
          << device_state_name(from) << " -> " << device_state_name(to);
    }
  }
}

TEST(AccessMode, IsReadAsTheKernelWritesIt) {
  EXPECT_EQ(parse_access_mode("ro"), AccessMode::ro);
  EXPECT_EQ(parse_access_mode("rw"), AccessMode::rw);
  EXPECT_EQ(parse_access_mode("migration"), AccessMode::migration);
  for (const char* bad : {"", "RO", "rw ", "r", "migrate"}) {
    EXPECT_EQ(parse_access_mode(bad).error(), from_errno(EINVAL)) << bad;
  }
}

}  // namespace
}  // namespace rnbd::client
