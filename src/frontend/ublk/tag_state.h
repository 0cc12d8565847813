#pragma once
// Who holds one tag of a ublk queue. Pure: it says what to do, the queue does it.
//
//   kernel  backend
//     x                 the driver may hand us a request any time
//              x        we serve one
//     x        x        (failing) answered with an error although the backend still has it: its
//                       buffer is not the driver's to use until the backend gives it back
//                       nobody: the device stopped, or we leave it to a successor

#include <cstdint>

#include "base/assert.h"

namespace rnbd::ublk {

enum class Mode : std::uint8_t {
  serving,
  failing,  // everything is answered with an error at once; the device is about to go
  leaving,  // nothing is answered: the driver gives it to our successor when we are gone
};

enum class Step : std::uint8_t { nothing, submit, commit_result, commit_error };

class TagState {
 public:
  bool at_kernel() const { return at_kernel_; }
  bool at_backend() const { return at_backend_; }

  void started() {  // a first fetch went out
    RNBD_ASSERT(!at_kernel_);
    at_kernel_ = true;
  }
  // The driver completed our fetch: with a request, or (`aborted`) for good.
  Step fetched(Mode mode, bool aborted) {
    RNBD_ASSERT(at_kernel_);
    at_kernel_ = false;
    if (aborted || mode == Mode::leaving) return Step::nothing;
    if (mode == Mode::failing) return commit(Step::commit_error);
    RNBD_ASSERT(!at_backend_);
    at_backend_ = true;
    return Step::submit;
  }
  // The backend is done with the tag's request.
  Step finished(Mode mode) {
    RNBD_ASSERT(at_backend_);
    at_backend_ = false;
    if (mode != Mode::serving) return Step::nothing;  // answered when failing began, or never
    return commit(Step::commit_result);
  }
  // Failing begins.
  Step gave_up() {
    if (!at_backend_ || at_kernel_) return Step::nothing;
    return commit(Step::commit_error);
  }

 private:
  Step commit(Step step) {
    RNBD_ASSERT(!at_kernel_);
    at_kernel_ = true;
    return step;
  }
  bool at_kernel_ = false;
  bool at_backend_ = false;
};

}  // namespace rnbd::ublk
