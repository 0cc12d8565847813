#pragma once
// The terminal while something is shown live: keys are read one by one, the picture is drawn over
// the last one, and all is as before when it ends, also by a signal. Without a terminal it only
// waits. Signals that end a program are taken while it lives; one at a time in a process.

#include <termios.h>
#include <string>

#include "base/loop.h"
#include "base/unique_fd.h"

namespace rnbd::cli {

class Terminal final {
 public:
  // `screen`: whether to take standard output over, where it is a terminal.
  explicit Terminal(bool screen);
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  bool has_screen() const { return screen_; }
  // Draws text from the top, cut to the size of the screen.
  void draw(const std::string& text);
  // Waits; false when it was interrupted, or 'q' was pressed.
  bool wait(Duration time);
  // Becomes readable when a signal to end arrived.
  int signal_fd() const { return signals_.get(); }

 private:
  bool screen_ = false;
  bool keys_ = false;
  termios before_{};
  UniqueFd signals_;
};

// The first `height` lines, each at most `width` columns.
std::string cut_to(const std::string& text, std::size_t width, std::size_t height);

}  // namespace rnbd::cli
