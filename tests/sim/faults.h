#pragma once
// What goes wrong in a schedule: one fault after the other, each of which ends by itself.

#include "sim/schedule.h"

namespace rnbd::sim_test {

class Faults {
 public:
  explicit Faults(Schedule& schedule) : schedule_(schedule), world_(schedule.world_) {}
  // Lets something go wrong now. What ends it is scheduled.
  void inject();
  // Ends all that has not ended, at once.
  void heal();

 private:
  fabric::sim::Link& some_link();
  void network();
  void connects();
  void disks();
  void servers();
  void clients();
  void administrator();
  void paths_by_hand();
  void tend_paths(std::size_t number, std::size_t server, unsigned turns);
  void lose_client_end();
  void slow_down(fabric::sim::Link& link, const fabric::sim::Host& towards);
  bool kernel_client();
  void kernel_fails_over(std::size_t path);
  void kernel_misbehaves(std::size_t path);
  Duration while_it_lasts();

  Schedule& schedule_;
  fabric::sim::World& world_;
  bool first_ = true;
};

}  // namespace rnbd::sim_test
