#pragma once
// What a daemon answered as JSON, JSON lines or YAML: our own documented form, version 1. Pure.

#include <string>

#include "app/cli/grammar.h"
#include "daemon/admin/protocol.h"

namespace rnbd::cli {

// What was learned: from the one daemon asked, or from both.
struct Answers {
  daemon::AdminResponse first;   // of the daemon asked; of rnbd-client when both were
  daemon::AdminResponse server;  // of rnbd-server beside it
  bool both = false;
};

// `output` is json, jsonl or yaml.
std::string render_structured(const Answers& answers, Output output);
// A JSON object, as text, in the same forms.
std::string render_object(const std::string& json, Output output);

}  // namespace rnbd::cli
