#pragma once
// The conformance suite: what every fabric must do, point by point of the contract in fabric.h. A
// fabric's test program links rnbd_fabric_conformance, writes a Harness and instantiates the suite:
//
//   INSTANTIATE_TEST_SUITE_P(Sim, Conformance, ::testing::Values(Subject{"sim",
//   &make_sim_harness}),
//                            subject_name);
//
// Everything of a test happens on one thread: test code between calls of run_until, handlers inside
// it. A harness of real loops runs them there (Reactor::run on the calling thread, one after the
// other where there are several, until the predicate holds); a simulated one steps its world.

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>

#include "fabric/fabric.h"

namespace rnbd::fabric::conformance {

class Harness {
 public:
  virtual ~Harness() = default;
  // The ends under test: client(0) up to client_count() - 1, each on a loop of its own if it can
  // be.
  virtual Fabric& server() = 0;
  virtual Fabric& client(std::size_t index) = 0;
  virtual std::size_t client_count() const { return 1; }

  // Where to listen; asked once per listener, so that each gets an address of its own (port 0 is
  // fine).
  virtual Address listen_address() = 0;
  // What a client dials to reach a listener there.
  virtual PathAddress path_to(const Address& listening) {
    return {.source = {}, .destination = listening};
  }
  // What a client's domains are made for.
  virtual PathAddress client_path() { return path_to(listen_address()); }
  // An address where connects are refused at once, and one where nobody ever answers. Tests that
  // need one are skipped where there is none.
  virtual std::optional<Address> refusing_address() { return std::nullopt; }
  virtual std::optional<Address> silent_address() { return std::nullopt; }

  // Runs all loops on the calling thread until `done()` is true, at most for `limit` of their time;
  // returns done(). It is asked between the loops' rounds, never inside a handler, and before the
  // first round.
  virtual bool run_until(const std::function<bool()>& done, Duration limit) = 0;

  // What this fabric can hold a peer to.
  virtual bool enforces_gates() const { return true; }
  virtual bool enforces_chunk_bounds() const { return true; }  // of a chunk's own key
  virtual bool enforces_windows() const { return true; }       // hide and expose have effect
  virtual bool knows_what_is_filled() const { return false; }
  // How long an arriving message waits for a receive; zero when it does not wait at all.
  virtual Duration receive_grace() const { return std::chrono::seconds(1); }
  // Private data arrives filled up with zeros to a fixed length.
  virtual bool pads_private_data() const { return false; }
  // Whoever lacks a receive learns it; else only the sender does.
  virtual bool receiver_knows_of_missing_receives() const { return true; }
  // Scales the random soak: 1 for real time.
  virtual unsigned soak_rounds() const { return 1; }
};

struct Subject {
  std::string name;  // letters and digits
  std::unique_ptr<Harness> (*make)() = nullptr;
};
inline void PrintTo(const Subject& subject, std::ostream* out) { *out << subject.name; }
inline std::string subject_name(const ::testing::TestParamInfo<Subject>& info) {
  return info.param.name;
}

class Conformance : public ::testing::TestWithParam<Subject> {
 protected:
  Conformance() : harness_(GetParam().make()) {}
  Harness& harness() { return *harness_; }
  bool run_until(const std::function<bool()>& done, Duration limit = std::chrono::seconds(10)) {
    return harness_->run_until(done, limit);
  }
  // Lets everything happen that is going to happen soon: for claims that something does not happen.
  void settle() {
    harness_->run_until([] { return false; }, std::chrono::milliseconds(50));
  }

 private:
  std::unique_ptr<Harness> harness_;
};

}  // namespace rnbd::fabric::conformance
