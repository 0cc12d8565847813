#pragma once
// Static trace points (USDT), for bpftrace, perf and SystemTap: docs/tracing.md. Each has a
// semaphore that a tracer raises while it looks: until then a probe is a load and a branch not
// taken, and its arguments are not computed. Without <sys/sdt.h> at build time there are none.
//
//   RNBD_PROBE_DEFINE(rnbd_srv, create_sess);                       // once, at file scope
//   RNBD_PROBE(rnbd_srv, create_sess, name.c_str(), queue_depth);   // integers and pointers

#if !defined(RNBD_NO_USDT) && __has_include(<sys/sdt.h>)

#define SDT_USE_VARIADIC 1
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

// Global by name and of C, as tracers find it.
#define RNBD_PROBE_DEFINE(provider, name)                                                     \
  extern "C" {                                                                                \
  extern unsigned short provider##_##name##_semaphore;                                        \
  __attribute__((used, section(".probes"))) unsigned short provider##_##name##_semaphore = 0; \
  }                                                                                           \
  static_assert(true)

#define RNBD_PROBE(provider, name, ...)                                                           \
  do {                                                                                            \
    if (__builtin_expect(__atomic_load_n(&provider##_##name##_semaphore, __ATOMIC_RELAXED), 0)) { \
      STAP_PROBEV(provider, name, __VA_ARGS__);                                                   \
    }                                                                                             \
  } while (false)

#else

#define RNBD_PROBE_DEFINE(provider, name) static_assert(true)
#define RNBD_PROBE(provider, name, ...)         \
  do {                                          \
    if (false) ::rnbd::ignore_all(__VA_ARGS__); \
  } while (false)

namespace rnbd {
template <class... A>
void ignore_all(const A&...) {}
}  // namespace rnbd

#endif
