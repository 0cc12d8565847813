// Connecting: accept, reject, refuse, time out, and what private data survives.

#include "fabric/conformance.h"

namespace rnbd::fabric::conformance {
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Conformance);
}  // namespace rnbd::fabric::conformance
