#pragma once
// list, show, tree, dump: what there is.

#include <span>

#include "app/cli/console.h"
#include "app/cli/words.h"
#include "daemon/admin/protocol.h"

namespace rnbd::cli {

ExitStatus run_list(const Command& command);
ExitStatus run_show(const Command& command);
ExitStatus run_tree(const Command& command);
ExitStatus run_dump(const Command& command);

// Keeps of an answer what any of the words name; false when nothing is left. Pure.
bool keep_named(daemon::AdminResponse& answer, std::span<const TargetWords> any);
inline bool keep_named(daemon::AdminResponse& answer, const TargetWords& words) {
  return keep_named(answer, std::span(&words, 1));
}
// Sessions with what belongs to them below, as lines. Pure.
std::string tree_text(const daemon::AdminResponse& answer, const Style& style);

}  // namespace rnbd::cli
