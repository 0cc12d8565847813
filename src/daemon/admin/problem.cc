#include "daemon/admin/problem.h"

#include <array>
#include <cerrno>
#include <utility>

namespace rnbd::daemon {
namespace {

struct CodeName {
  ProblemCode code;
  const char* name;
};
constexpr std::array kCodeNames{
    CodeName{ProblemCode::failed, "failed"},
    CodeName{ProblemCode::usage, "usage"},
    CodeName{ProblemCode::not_found, "not_found"},
    CodeName{ProblemCode::busy, "busy"},
    CodeName{ProblemCode::refused, "refused"},
    CodeName{ProblemCode::unreachable, "unreachable"},
    CodeName{ProblemCode::partly, "partly"},
    CodeName{ProblemCode::incompatible, "incompatible"},
    CodeName{ProblemCode::config, "config"},
};

}  // namespace

const char* problem_code_name(ProblemCode code) {
  for (const CodeName& entry : kCodeNames)
    if (entry.code == code) return entry.name;
  return "failed";
}

ProblemCode parse_problem_code(std::string_view name) {
  for (const CodeName& entry : kCodeNames)
    if (name == entry.name) return entry.code;
  return ProblemCode::failed;
}

std::string Problem::text() const { return hint.empty() ? what : what + " (" + hint + ")"; }

tl::unexpected<Problem> usage_problem(std::string what, std::string hint, int error) {
  return problem({ProblemCode::usage, std::move(what), std::move(hint), error});
}

ProblemCode code_of_errno(int error) {
  switch (error) {
    case ENOENT:
    case ENXIO:
    case ENODEV:
      return ProblemCode::not_found;
    case EBUSY:
    case EALREADY:
      return ProblemCode::busy;
    case EPERM:
    case EACCES:
    case EROFS:
    case ECONNREFUSED:
      return ProblemCode::refused;
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ECONNRESET:
    case ECONNABORTED:
    case EADDRNOTAVAIL:
    case ENOTCONN:
      return ProblemCode::unreachable;
    case EPROTO:
    case EPROTONOSUPPORT:
      return ProblemCode::incompatible;
    default:
      return ProblemCode::failed;
  }
}

}  // namespace rnbd::daemon
