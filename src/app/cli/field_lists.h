#pragma once
// The fields themselves, with how each is taken from its view. Only for fields.cc.

#include <span>

#include "app/cli/fields.h"

namespace rnbd::cli {

struct SessionRow {
  const daemon::SessionView& session;
  bool server;
};
struct PathRow {
  const daemon::SessionView& session;
  const daemon::PathView& path;
  bool server;
};

template <class T>
struct Field : FieldInfo {
  Cell (*get)(const T&);
};

std::span<const Field<daemon::DeviceView>> device_fields();
std::span<const Field<SessionRow>> session_fields();
std::span<const Field<PathRow>> path_fields();
std::span<const Field<daemon::OpenView>> open_fields();

}  // namespace rnbd::cli
