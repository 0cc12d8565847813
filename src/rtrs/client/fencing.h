#pragma once
// The lost connections of a session whose requests may still take effect on the server, and what
// proves that one no longer can (safety rule R12): the server's word over another path (F0), its
// accepting the path anew (F1), the user's closing of all it had open (F2, from above), or time
// (F3). On the home loop.

#include <cstdint>
#include <memory>
#include <vector>

#include "rtrs/client/lane.h"

namespace rnbd::rtrs::client {

class FencingHandler {
 public:
  virtual ~FencingHandler() = default;
  // Nothing of it can take effect any more; `how` that is known, for people. When it was the last
  // one fencing is empty by now.
  virtual void on_fenced(LossId loss, const Uuid& path, const char* how) = 0;
  virtual void on_fence_time() = 0;  // expire() would fence something
};

class Fencing {
 public:
  // `service` carries the questions. `patience`: after that long time itself may be the fence.
  Fencing(Loop& home, LaneImpl& service, Duration patience, FencingHandler& handler);
  ~Fencing();

  LossId next() { return ++last_; }
  void add(LossId loss, const Uuid& path, std::uint16_t recon_cnt);
  bool empty() const { return losses_.empty(); }
  bool pending(const Uuid& path) const;
  // The server accepted the path anew, or knows nothing of it.
  void proven(const Uuid& path);
  void proven_all();
  // Takes time for the fence of those lost long enough ago that nobody can be asked about: of all,
  // or of those the server refused to answer for.
  void expire(bool all);
  // Asks the server, which knows how to answer, about every loss that it was not asked about yet.
  void ask();
  void stop();  // the session ends: no more answers are wanted

 private:
  struct Loss;
  struct Question;
  void answered(LossId loss, std::error_code error);
  void settle(LossId loss, const char* how);
  void on_time() { handler_.on_fence_time(); }
  void arm();

  Loop& home_;
  LaneImpl& service_;
  const Duration patience_;
  FencingHandler& handler_;
  Timer timer_;
  LossId last_ = 0;
  std::vector<Loss> losses_;  // oldest first
  std::vector<std::unique_ptr<Question>> questions_;
  bool stopped_ = false;
};

}  // namespace rnbd::rtrs::client
