#pragma once
// What has to be done so that what is mapped is what rnbdtab says: the steps of `rnbd apply`, which
// `rnbd diff` only tells. Pure.

#include <string>
#include <vector>

#include "daemon/admin/protocol.h"
#include "daemon/config/rnbdtab.h"

namespace rnbd::cli {

struct Step {
  enum class Action { map, remap, set, add_path, remove_path, unmap, refused };
  Action action = Action::map;
  std::string entry{};  // the name in rnbdtab; of what is not listed, the device or session
  std::string text{};   // "map vol0 of session a@b", for "would …"; of what is refused: why
  std::string hint{};   // of what is refused: what would help
  // In this order. One with an empty target means the device the ones before it mapped.
  std::vector<daemon::AdminRequest> requests{};
  bool nofail = false;
};
const char* action_name(Step::Action action);

struct PlanOptions {
  std::vector<std::string> names{};  // only these entries; empty: all without noauto
  bool prune = false;                // what is not listed goes
  bool unmap = false;                // what is listed goes
  bool force = false;                // also when it is in use, or has to be mapped anew
  std::string host{};                // our name, for sessions without one
};

// Problem: a name that rnbdtab does not have.
daemon::Outcome<std::vector<Step>> plan(const daemon::Rnbdtab& table,
                                        const daemon::AdminResponse& now,
                                        const PlanOptions& options);

}  // namespace rnbd::cli
