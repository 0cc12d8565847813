#include "rtrs/server/path_state.h"

#include <gtest/gtest.h>

namespace rnbd::rtrs::server {
namespace {

TEST(ServerPathState, MovesGoOneWay) {
  constexpr const char* kMatrix[] = {
      // connecting connected closing closed
      ".xx.",  // connecting
      "..x.",  // connected
      "...x",  // closing
      "....",  // closed
  };
  for (std::size_t from = 0; from < kPathStates.size(); ++from) {
    for (std::size_t to = 0; to < kPathStates.size(); ++to) {
      EXPECT_EQ(path_move_allowed(kPathStates[from], kPathStates[to]), kMatrix[from][to] == 'x')
          << path_state_name(kPathStates[from]) << " -> " << path_state_name(kPathStates[to]);
    }
  }
}

}  // namespace
}  // namespace rnbd::rtrs::server
