#pragma once
// What went wrong, for people: the cause in words, what to do next, and the exit status of the
// command line. Control path only; any thread.

#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace rnbd::daemon {

// The exit status of the command line, one per cause (docs/cli.md).
enum class ProblemCode {
  failed = 1,
  usage = 2,
  not_found = 3,
  busy = 4,
  refused = 5,
  unreachable = 6,
  partly = 7,
  incompatible = 8,
  config = 9,
};

const char* problem_code_name(ProblemCode code);
// The code of that name; `failed` for a name we do not know.
ProblemCode parse_problem_code(std::string_view name);

struct Problem {
  ProblemCode code = ProblemCode::failed;
  std::string what{};  // one sentence without full stop: what could not be done, and why
  std::string hint{};  // what to try next; may be empty
  int error = 0;       // the errno the kernel's interface answers with; 0 if none fits

  // "what (hint)"
  std::string text() const;
};

template <class T>
using Outcome = tl::expected<T, Problem>;
inline tl::unexpected<Problem> problem(Problem value) { return tl::unexpected(std::move(value)); }
tl::unexpected<Problem> usage_problem(std::string what, std::string hint = {}, int error = 22);

// The code that fits an errno value best.
ProblemCode code_of_errno(int error);

}  // namespace rnbd::daemon
