#include "rtrs/client/path_state.h"

#include <gtest/gtest.h>

#include <set>

namespace rnbd::rtrs::client {
namespace {

// The kernel's table, written down a second time as a matrix: rows from, columns to.
TEST(ClientPathState, MovesAreThoseOfTheKernelAndNoOthers) {
  constexpr const char* kMatrix[] = {
      // connecting connected connecting_error reconnecting closing closed dead
      ".xx.x..",  // connecting
      "...xx..",  // connected
      "...xx..",  // connecting_error
      "x...x..",  // reconnecting
      ".....x.",  // closing
      "...x..x",  // closed
      ".......",  // dead
  };
  for (std::size_t from = 0; from < kPathStates.size(); ++from) {
    for (std::size_t to = 0; to < kPathStates.size(); ++to) {
      EXPECT_EQ(path_move_allowed(kPathStates[from], kPathStates[to]), kMatrix[from][to] == 'x')
          << path_state_name(kPathStates[from]) << " -> " << path_state_name(kPathStates[to]);
    }
  }
}

TEST(ClientPathState, EveryStateHasAName) {
  std::set<std::string> names;
  for (const PathState state : kPathStates) names.insert(path_state_name(state));
  EXPECT_EQ(names.size(), kPathStates.size());
  EXPECT_FALSE(names.contains("unknown"));
}

}  // namespace
}  // namespace rnbd::rtrs::client
