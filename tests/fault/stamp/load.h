#pragma once
// The load of one device: keeps `depth` requests under way, a mix of everything a disk can do, with
// a liking for blocks that were written a moment ago, so that a late older write shows. Reads go
// everywhere and are judged by the model. Lives on the checker's only thread.

#include <array>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "stamp/model.h"
#include "stamp/target.h"

namespace rnbd::fault {

inline constexpr std::size_t kSpanMax = 8;  // blocks of one request

struct LoadOptions {
  std::uint64_t seed = 1;
  std::uint64_t operations = 0;  // then it stops by itself; 0: no limit
  std::size_t depth = 16;
  std::size_t block_size = 4096;
  bool reads_only = false;
  bool plain = false;  // reads and writes only
};

struct LoadReport {
  std::uint64_t reads = 0, writes = 0, zeroes = 0, trims = 0, flushes = 0;
  std::uint64_t blocks_judged = 0;
  std::uint64_t lost = 0;  // ended with their connection, to be made anew
  std::uint64_t errors = 0;
  std::set<int> error_numbers;
  std::uint64_t wrong = 0;
  std::vector<std::string> violations;  // the first of them
  Clock::duration longest_request{};
  Clock::duration longest_gap{};  // without any request that succeeded

  std::uint64_t operations() const { return reads + writes + zeroes + trims + flushes; }
};

class Load final : public TargetHandler {
 public:
  Load(Model& model, LoadOptions options);
  void attach(std::unique_ptr<Target> target);
  Target& target() { return *target_; }

  // Keeps the device busy; call again after every Target::work().
  void pump();
  // Begins nothing more.
  void stop() { stopped_ = true; }
  bool stopped() const { return stopped_; }
  // After stop(), and idle: reads every block once. done() when all were judged.
  void read_back();
  bool idle() const { return under_way_ == 0; }
  bool done() const {
    return reading_back_ && idle() && next_back_ >= model_.blocks() && again_.empty();
  }
  // What is under way counts as of unknown fate from now on.
  void abandon();

  const LoadReport& report() const { return report_; }

 private:
  struct Slot {
    Io io;
    std::byte* buffer = nullptr;
    std::uint64_t block = 0;
    std::size_t count = 0;
    bool busy = false;
    Clock::time_point since;
    std::array<std::uint64_t, kSpanMax> floors{};
    std::vector<std::uint64_t> flush;
  };
  struct Free {
    void operator()(std::byte* memory) const {
      ::operator delete[](memory, std::align_val_t{4096});
    }
  };

  void on_done(Io& io, int error) override;
  void end_change(Slot& slot, int error);
  void end_read(Slot& slot, int error);
  void count(const Slot& slot, int error);
  bool start_one(Slot& slot);
  bool start_back(Slot& slot);
  bool choose_range(Slot& slot, bool for_change);
  void submit(Slot& slot, Io::Kind kind, bool fua);
  std::uint64_t choose_block();

  Model& model_;
  LoadOptions options_;
  SeededRandom random_;
  std::unique_ptr<std::byte[], Free> memory_;
  std::vector<Slot> slots_;
  std::unique_ptr<Target> target_;
  std::size_t under_way_ = 0;
  std::uint64_t started_ = 0;
  bool stopped_ = false;
  bool reading_back_ = false;
  std::uint64_t next_back_ = 0;
  std::vector<std::uint64_t> again_;  // a read of the whole that was lost
  std::deque<std::uint64_t> recent_;  // blocks changed a moment ago
  Clock::time_point pause_until_;     // after an error: a failed device is not asked without end
  Clock::time_point last_success_;
  LoadReport report_;
};

}  // namespace rnbd::fault
