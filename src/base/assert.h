#pragma once
// RNBD_ASSERT: our own mistakes, never the peer's. On in every build: a wrong state must not reach
// a disk.

namespace rnbd {

[[noreturn]] void assertion_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace rnbd

#define RNBD_ASSERT(condition)                       \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::rnbd::assertion_failed(#condition, __FILE__, __LINE__))
