#pragma once
// Where the command line prints, and how it ends: its exit status.

#include <string>
#include <string_view>

#include "app/cli/command.h"
#include "app/cli/render.h"
#include "app/cli/structured.h"
#include "daemon/admin/problem.h"

namespace rnbd::cli {

using ExitStatus = daemon::Outcome<int>;  // a Problem has its own, see exit_status()

inline constexpr int kDifferent = 1;  // diff
inline constexpr int kPartly = 7;

// Of the table in docs/cli.md; with `as_errno` -errno & 0xff, as the old tool.
int exit_status(const daemon::Problem& problem, bool as_errno);

void print(const std::string& text);
// Whether standard output is a terminal, and one whose lines may be drawn in Unicode.
bool on_terminal();
bool may_draw();
// Of tables: what the command says and the terminal can.
Style style_of(const Command& command);

// The answer in the form asked for: `text` for people, unless --quiet; `tables` as CSV and XML.
int print_answer(const Command& command, const Answers& answers, const std::vector<Table>& tables,
                 const std::string& text);
// A JSON object of our own, or the text for people.
int print_object(const Command& command, const std::string& json, const std::string& text);

}  // namespace rnbd::cli
