#include "app/cli/verbs.h"
namespace rnbd::cli {
int run_demo(const Command&) { return 1; }
}  // namespace rnbd::cli
