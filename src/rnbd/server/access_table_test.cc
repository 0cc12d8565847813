#include "rnbd/server/access_table.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <vector>

namespace rnbd::server {
namespace {

constexpr AccessMode kRo = AccessMode::ro;
constexpr AccessMode kRw = AccessMode::rw;
constexpr AccessMode kMigration = AccessMode::migration;

struct Case {
  std::vector<AccessMode> held;
  AccessMode wanted;
  bool granted;
};

TEST(AccessTable, GrantsExactlyWhatTheKernelServerGrants) {
  const Case cases[] = {
      {{}, kRo, true},
      {{}, kRw, true},
      {{}, kMigration, true},
      {{kRo, kRo, kRo}, kRw, true},
      {{kRw}, kRo, true},
      {{kRw}, kRw, false},
      {{kRw}, kMigration, true},
      {{kMigration}, kRw, false},
      {{kMigration}, kMigration, true},
      {{kRw, kMigration}, kMigration, false},
      {{kRw, kMigration}, kRw, false},
      {{kRw, kMigration}, kRo, true},
      {{kMigration, kMigration}, kMigration, false},
  };
  for (const Case& c : cases) {
    AccessTable table;
    for (const AccessMode mode : c.held) ASSERT_FALSE(table.acquire("disk", mode));
    const std::error_code error = table.acquire("disk", c.wanted);
    EXPECT_EQ(error, c.granted ? std::error_code{} : from_errno(EPERM)) << &c - cases;
  }
}

TEST(AccessTable, KeepsVolumesApart) {
  AccessTable table;
  EXPECT_FALSE(table.acquire("a", kRw));
  EXPECT_FALSE(table.acquire("b", kRw));
}

TEST(AccessTable, ForgetsAVolumeWhenItsLastGrantIsReleased) {
  AccessTable table;
  ASSERT_FALSE(table.acquire("disk", kRw));
  ASSERT_FALSE(table.acquire("disk", kRo));
  table.release("disk", kRw);
  EXPECT_EQ(table.writers("disk"), 0U);
  EXPECT_FALSE(table.acquire("disk", kRw));
  table.release("disk", kRw);
  table.release("disk", kRo);
  EXPECT_EQ(table.size(), 0U);
}

}  // namespace
}  // namespace rnbd::server
