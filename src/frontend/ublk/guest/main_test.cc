// Runs the tests, or is one of the daemons that they kill, or serves a disk for a script to use.
#include <gtest/gtest.h>

#include <cstring>

#include "frontend/ublk/guest/daemon_test.h"

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--daemon") == 0)
    return rnbd::ublk::testing::daemon_main(argc, argv);
  if (argc > 1 && std::strcmp(argv[1], "--memory") == 0)
    return rnbd::ublk::testing::memory_main(argc, argv);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
