// The whole of RNBD under random faults: clients with several loops, a server that is cut off,
// restarted and crashed, a disk with a volatile cache. Every block carries its number and the
// sequence of its write, and a model knows which sequences may be seen. Checks I1 (nothing older
// ever comes back), I2 (every block belongs where it is), I3 (what was flushed survives), I6 (each
// request ends once), I7 (all end when faults end) and I8 (nothing is left behind). A failure
// prints the seed: RNBD_SIM_SEED=n repeats it.

#include <gtest/gtest.h>

#include <deque>

#include "rnbd/testing/site.h"

namespace rnbd {
namespace {

using block::Op;
using testing::ClientBox;
using testing::Disk;
using testing::Door;
using testing::Io;
using testing::Site;
using testing::World;
using namespace std::chrono_literals;  // NOLINT: tests

constexpr std::uint64_t kBlocks = 96;
constexpr std::uint64_t kBlock = 512;

// What a block may hold. Sequences grow; one write of a block is under way at a time.
struct BlockModel {
  std::uint64_t issued = 0;           // latest write handed out
  std::uint64_t oldest = 0;           // oldest that may be seen
  std::uint64_t stable = 0;           // oldest that may be seen after a crash
  std::set<std::uint64_t> zeroes{0};  // sequences whose content is all zeros
  bool writing = false;
};

class Model {
 public:
  std::array<BlockModel, kBlocks> blocks;
  std::uint64_t crashes = 0;

  void crash() {
    ++crashes;
    for (BlockModel& block : blocks) block.oldest = block.stable;
  }
  static void stamp(std::byte* at, std::uint64_t index, std::uint64_t sequence) {
    const std::uint64_t words[2] = {index ^ 0x5245414c, sequence};
    for (std::size_t i = 0; i < kBlock; i += sizeof(words))
      std::memcpy(at + i, words, sizeof(words));
  }
  // The sequence a block of bytes holds; fails the test when it is torn or from elsewhere.
  static std::uint64_t parse(const std::byte* at, std::uint64_t index) {
    std::uint64_t words[2];
    std::memcpy(words, at, sizeof(words));
    for (std::size_t i = 0; i < kBlock; i += sizeof(words)) {
      EXPECT_EQ(std::memcmp(at + i, words, sizeof(words)), 0)
          << "I2: block " << index << " is torn";
    }
    if (words[0] == 0 && words[1] == 0) return 0;
    EXPECT_EQ(words[0], index ^ 0x5245414c) << "I2: the bytes of another block in block " << index;
    return words[1];
  }
  void check(const std::byte* at, std::uint64_t index, std::uint64_t oldest, std::uint64_t newest) {
    const std::uint64_t sequence = parse(at, index);
    const BlockModel& block = blocks[index];
    if (sequence == 0) {
      const auto zero = block.zeroes.lower_bound(oldest);
      EXPECT_TRUE(zero != block.zeroes.end() && *zero <= newest)
          << "I1: block " << index << " is zero again";
      return;
    }
    EXPECT_GE(sequence, oldest) << "I1: block " << index << " went back";
    EXPECT_LE(sequence, newest) << "block " << index << " holds what nobody wrote";
  }
};

struct SwarmIo : Io {
  using Io::Io;
  std::vector<std::uint64_t> sequences;  // write: of each block; read: oldest allowed at submission
  std::uint64_t crashes = 0;
};

// One device on one loop with a number of requests under way.
class Worker {
 public:
  Worker(World& world, Model& model, block::Device& device, testing::SimLoop& loop, bool writes)
      : world_(world), model_(model), door_(world, device, loop), writes_(writes) {}

  // Keeps `depth` requests under way until `budget` more were started.
  void go_on(int depth, int budget) {
    budget_ = budget;
    while (under_way_ < depth && budget_ > 0) next();
  }
  void stop() { stopping_ = true; }
  int under_way() const { return under_way_; }
  int completed() const { return completed_; }

 private:
  std::uint64_t first_block(const Io& io) const { return io.offset / kBlock; }
  std::uint64_t block_count(const Io& io) const { return io.length / kBlock; }

  void next() {
    if (stopping_ || budget_ == 0) return;
    --budget_;
    Random& random = world_.random();
    const std::uint64_t what = writes_ ? random.below(20) : 0;
    const std::uint64_t begin = random.below(kBlocks);
    const std::uint64_t count =
        std::min(kBlocks - begin, 1 + random.below(random.below(4) == 0 ? 40 : 4));
    if (what < 8) return read(begin, count);
    if (what == 19) return flush();
    write(begin, count, what == 18 ? Op::write_zeroes : Op::write);
  }
  SwarmIo& make(Op op, std::uint64_t begin, std::uint64_t count, std::uint8_t flags = 0) {
    ios_.push_back(std::make_unique<SwarmIo>(op, begin * kBlock, count * kBlock, flags));
    SwarmIo& io = *ios_.back();
    io.crashes = model_.crashes;
    return io;
  }
  void submit(SwarmIo& io, std::function<void(SwarmIo&)> done) {
    ++under_way_;
    io.then = [this, done](Io& finished) {
      auto& swarm = static_cast<SwarmIo&>(finished);
      EXPECT_EQ(swarm.completions, 1) << "I6";
      EXPECT_FALSE(swarm.result) << swarm.result.message();
      done(swarm);
      --under_way_;
      ++completed_;
      next();
    };
    door_.submit(io);
  }

  void read(std::uint64_t begin, std::uint64_t count) {
    SwarmIo& io = make(Op::read, begin, count);
    for (std::uint64_t i = 0; i < count; ++i)
      io.sequences.push_back(model_.blocks[begin + i].oldest);
    submit(io, [this](SwarmIo& done) {
      for (std::uint64_t i = 0; i < block_count(done); ++i) {
        const BlockModel& block = model_.blocks[first_block(done) + i];
        const std::uint64_t oldest =
            model_.crashes == done.crashes ? done.sequences[i] : block.stable;
        model_.check(done.memory.data() + i * kBlock, first_block(done) + i,
                     std::min(oldest, done.sequences[i]), block.issued);
      }
    });
  }

  void write(std::uint64_t begin, std::uint64_t count, Op op) {
    for (std::uint64_t i = 0; i < count; ++i) {
      if (model_.blocks[begin + i].writing) return flush();  // somebody is at it; do something else
    }
    const bool fua = world_.chance(5);
    SwarmIo& io = make(op, begin, count, fua ? block::kFua : block::kNoFlags);
    for (std::uint64_t i = 0; i < count; ++i) {
      BlockModel& block = model_.blocks[begin + i];
      block.writing = true;
      io.sequences.push_back(++block.issued);
      if (op == Op::write_zeroes)
        block.zeroes.insert(block.issued);
      else
        Model::stamp(io.memory.data() + i * kBlock, begin + i, block.issued);
    }
    submit(io, [this, fua](SwarmIo& done) {
      for (std::uint64_t i = 0; i < block_count(done); ++i) {
        BlockModel& block = model_.blocks[first_block(done) + i];
        block.writing = false;
        if (model_.crashes != done.crashes) continue;  // it may have been lost already
        block.oldest = done.sequences[i];
        if (fua) block.stable = done.sequences[i];
      }
    });
  }

  void flush() {
    SwarmIo& io = make(Op::flush, 0, 0);
    for (const BlockModel& block : model_.blocks) io.sequences.push_back(block.oldest);
    submit(io, [this](SwarmIo& done) {
      if (model_.crashes != done.crashes) return;
      for (std::uint64_t i = 0; i < kBlocks; ++i) {
        model_.blocks[i].stable = std::max(model_.blocks[i].stable, done.sequences[i]);
      }
    });
  }

  World& world_;
  Model& model_;
  Door door_;
  const bool writes_;
  bool stopping_ = false;
  int budget_ = 0;
  int under_way_ = 0;
  int completed_ = 0;
  std::deque<std::unique_ptr<SwarmIo>> ios_;
};

class Swarm {
 public:
  explicit Swarm(std::uint64_t seed)
      : site_({.world = {.seed = seed}}),
        disk_(site_.add_disk("vol", options())),
        writer_(site_.world, site_.server, {.name = "writer", .loops = 2}),
        reader_(site_.world, site_.server, {.name = "reader", .loops = 1}) {}

  void run() {
    client::RemoteDevice& device = writer_.must_open("vol");
    client::RemoteDevice& view = reader_.must_open("vol", client::AccessMode::ro);
    {
      std::vector<std::unique_ptr<Worker>> workers;
      workers.push_back(
          std::make_unique<Worker>(site_.world, model_, device, writer_.loop(0), true));
      workers.push_back(
          std::make_unique<Worker>(site_.world, model_, device, writer_.loop(1), true));
      workers.push_back(std::make_unique<Worker>(site_.world, model_, view, reader_.loop(), false));
      for (int round = 0; round < 12; ++round) {
        for (auto& worker : workers) worker->go_on(6, 200);
        site_.world.run_for(site_.world.some(round % 3 == 0 ? 200ms : 5ms));
        fault();
      }
      for (auto& worker : workers) worker->stop();
      const bool all_ended = site_.world.run_until(
          [&] {
            return std::all_of(workers.begin(), workers.end(),
                               [](auto& worker) { return worker->under_way() == 0; });
          },
          300s);
      EXPECT_TRUE(all_ended) << "I7: not every request ended when the faults had ended";
      if (!all_ended) std::abort();  // nothing can be taken down in order
      for (auto& worker : workers) EXPECT_GT(worker->completed(), 50);
      for (std::uint64_t i = 0; i < kBlocks; ++i) {
        model_.check(disk_.bytes().data() + i * kBlock, i, model_.blocks[i].oldest,
                     model_.blocks[i].issued);
      }
    }
    writer_.close(device);
    reader_.close(view);
    EXPECT_TRUE(site_.world.run_until(
        [&] { return site_.opener.open_devices == 0 && disk_.queues == 0; }, 60s))
        << "I8";
    EXPECT_EQ(disk_.overlaps, 0) << "R3";
    EXPECT_EQ(disk_.refused, 0);
  }

 private:
  static testing::DiskOptions options() {
    auto options = testing::small_disk(kBlocks * kBlock);
    options.latency = 500us;
    return options;
  }

  // One fault, and its end.
  void fault() {
    World& world = site_.world;
    ClientBox& victim = world.chance(3) ? reader_ : writer_;
    fabric::sim::Link& link = site_.link(victim);
    switch (world.random().below(7)) {
      case 0:
        return link.reset();
      case 1:
        return static_cast<void>(link.reset_one(world.random().below(3)));
      case 2:
        link.reset_after(world.chance(2) ? site_.server.host() : victim.host(),
                         1 + world.random().below(40));
        return;
      case 3:
        link.cut(world.some(2ms));
        world.run_for(world.some(300ms));
        return link.heal();
      case 4:  // the client gives up on the path; what it sent may still arrive
        link.black_hole_towards(world.chance(2) ? site_.server.host() : victim.host());
        world.run_for(world.some(40s));
        return link.heal();
      case 5:
        return restart();
      default:
        return crash();
    }
  }
  void restart() {
    site_.server.stop();
    EXPECT_TRUE(site_.world.run_until([&] { return site_.server.stopped(); }, 60s));
    site_.world.run_for(site_.world.some(100ms));
    site_.server.start();
  }
  void crash() {
    site_.server.crash();
    disk_.crash();
    model_.crash();
    site_.world.run_for(site_.world.some(100ms));
    EXPECT_TRUE(site_.world.run_until([&] { return site_.server.stopped(); }, 60s));
    site_.server.restart();
  }

  Site site_;
  Disk& disk_;
  Model model_;
  ClientBox writer_;
  ClientBox reader_;
};

TEST(RnbdSwarm, KeepsEveryPromiseThroughRandomFaults) {
  for (const std::uint64_t seed : fabric::sim::seeds(10)) {
    SCOPED_TRACE("RNBD_SIM_SEED=" + std::to_string(seed));
    Swarm swarm(seed);
    swarm.run();
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace rnbd
