#include "app/cli/console.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "daemon/admin/runtime.h"

namespace rnbd::cli {

using daemon::Problem;
using daemon::ProblemCode;

namespace {

int errno_of(const Problem& problem) {
  if (problem.error != 0) return problem.error;
  switch (problem.code) {
    case ProblemCode::usage:
    case ProblemCode::config:
      return EINVAL;
    case ProblemCode::not_found:
      return ENOENT;
    case ProblemCode::busy:
      return EBUSY;
    case ProblemCode::refused:
      return EPERM;
    case ProblemCode::unreachable:
      return ETIMEDOUT;
    case ProblemCode::incompatible:
      return EPROTO;
    default:
      return EIO;
  }
}

}  // namespace

int exit_status(const Problem& problem, bool as_errno) {
  return as_errno ? -errno_of(problem) & 0xff : static_cast<int>(problem.code);
}

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

bool on_terminal() { return isatty(STDOUT_FILENO) != 0; }

bool may_draw() {
  if (!on_terminal()) return false;
  std::string locale;
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"})
    if (locale.empty()) locale = daemon::environment(name);
  return locale.find("UTF-8") != std::string::npos || locale.find("utf8") != std::string::npos;
}

Style style_of(const Command& command) {
  return {command.headers, command.totals, may_draw(), command.unit};
}

int print_answer(const Command& command, const Answers& answers, const std::vector<Table>& tables,
                 const std::string& text) {
  switch (command.output) {
    case Output::json:
    case Output::jsonl:
    case Output::yaml:
      print(render_structured(answers, command.output));
      return 0;
    case Output::csv:
      print(render_csv(tables, command.headers));
      return 0;
    case Output::xml:
      print(render_xml(tables));
      return 0;
    case Output::table:
      if (!command.quiet) print(text);
      return 0;
  }
  return 0;
}

int print_object(const Command& command, const std::string& json, const std::string& text) {
  if (command.output == Output::table || command.output == Output::csv ||
      command.output == Output::xml) {
    if (!command.quiet) print(text);
  } else {
    print(render_object(json, command.output));
  }
  return 0;
}

}  // namespace rnbd::cli
