// Random traffic both ways over several connections, every byte checked. The seed is in the test's
// output.

#include <algorithm>
#include <cstring>
#include <deque>

#include "base/random.h"
#include "fabric/conformance/end.h"

namespace rnbd::fabric::conformance {
namespace {

constexpr std::size_t kSlots = 8;
constexpr std::size_t kSlotSize = 140000;

// One direction of one connection: writes into random places of a window or of memory, announced by
// an immediate that carries the slot; between them sends. The receiver checks and hands the slot
// back.
class Stream {
 public:
  Stream(End& from, End& to, Memory& memory, std::uint64_t seed)
      : from_(from), to_(to), memory_(memory), random_(seed) {
    target_.resize(kSlots * kSlotSize);
    for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
      free_.push_back(slot);
      source_.emplace_back(kSlotSize);
      windows_.emplace_back();
      expose(slot);
    }
    to_.post_receives(2 * kSlots, 512);
    to_.receive_hook = [this](const ReceiveEvent& event) { on_receive(event); };
    from_.done_hook = [this](std::uint64_t cookie) { on_done(cookie); };
  }
  void start(std::size_t messages) { left_ = messages; }
  // Outside of all handlers, for the sender may live on another loop than the receiver.
  void send_what_fits() {
    while (send_one()) {
    }
  }
  bool finished() const { return left_ == 0 && free_.size() == kSlots; }

 private:
  struct Expected {
    std::uint32_t slot = 0;
    bool send = false;
    bool window = false;
    std::size_t offset = 0;
    std::size_t length = 0;
    bool arrived = false;
    bool done = false;
  };
  void expose(std::uint32_t slot) {
    windows_[slot] = to_.expose(slot, std::span(target_).subspan(slot * kSlotSize, kSlotSize));
  }
  bool send_one() {
    if (left_ == 0 || free_.empty()) return false;
    --left_;
    Expected next;
    next.slot = free_.front();
    free_.pop_front();
    next.send = random_.below(4) == 0;
    next.window = random_.below(2) == 0;
    const std::size_t most = next.send ? 512 : kSlotSize;
    next.length = random_.below(8) == 0 ? random_.below(most + 1)
                                        : random_.below(std::min<std::size_t>(most, 5000));
    next.offset = random_.below(most - next.length + 1);
    Bytes& bytes = source_[next.slot];
    for (std::size_t i = 0; i < next.length; ++i) bytes[i] = std::byte(random_.next());
    const std::size_t split = random_.below(next.length + 1);
    const std::span used = std::span(bytes).first(next.length);
    const iovec parts[] = {vec(used.first(split)), vec(used.subspan(split))};
    const RemoteSpan base =
        next.window ? windows_[next.slot] : memory_.remote(next.slot * kSlotSize, kSlotSize);
    Work work = write_imm_work(parts, at(base, next.offset), next.slot, next.slot + 1);
    if (next.send) work.op = Work::Op::send;
    if (!next.send && random_.below(2) == 0) {
      const Work batch[] = {write_work(parts, work.remote),
                            immediate_work(next.slot, next.slot + 1)};
      EXPECT_EQ(from_.post(batch), std::error_code());
    } else {
      EXPECT_EQ(from_.post(work), std::error_code());
    }
    under_way_.push_back(next);
    return true;
  }
  void on_receive(const ReceiveEvent& event) {
    if (event.kind == ReceiveEvent::Kind::flushed) return;
    const auto next =
        std::ranges::find_if(under_way_, [](const Expected& e) { return !e.arrived; });
    ASSERT_NE(next, under_way_.end());
    ASSERT_EQ(next->send, event.kind == ReceiveEvent::Kind::send);
    const std::span expected = std::span(source_[next->slot]).first(next->length);
    if (next->send) {
      EXPECT_TRUE(std::ranges::equal(event.bytes, expected));
    } else {
      EXPECT_EQ(event.immediate, next->slot);
      if (next->window) to_.hide(next->slot);
      const std::span all = next->window ? std::span(target_) : memory_.bytes();
      const auto placed = all.subspan(next->slot * kSlotSize + next->offset, next->length);
      EXPECT_TRUE(std::ranges::equal(placed, expected));
      if (next->window) expose(next->slot);
    }
    next->arrived = true;
    to_.post_receives(1, 512);
    retire();
  }
  void on_done(std::uint64_t cookie) {
    const auto same = [cookie](const Expected& e) { return e.slot + 1 == cookie && !e.done; };
    const auto done = std::ranges::find_if(under_way_, same);
    ASSERT_NE(done, under_way_.end());
    done->done = true;
    retire();
  }
  void retire() {
    while (!under_way_.empty() && under_way_.front().arrived && under_way_.front().done) {
      free_.push_back(under_way_.front().slot);
      under_way_.pop_front();
    }
  }
  End& from_;
  End& to_;
  Memory& memory_;
  SeededRandom random_;
  Bytes target_;
  std::vector<Bytes> source_;
  std::vector<RemoteSpan> windows_;
  std::deque<std::uint32_t> free_;
  std::deque<Expected> under_way_;
  std::size_t left_ = 0;
};

}  // namespace

TEST_P(Conformance, RandomTrafficArrivesWholeAndInOrder) {
  for (std::uint64_t seed = 1; seed <= harness().soak_rounds(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    constexpr std::size_t kConnections = 2;
    Pair pair(harness(), kConnections,
              {.send_depth = 2 * kSlots, .receive_depth = 2 * kSlots, .windows = kSlots});
    std::vector<std::unique_ptr<Stream>> streams;
    const MemoryOptions options{
        .size = kSlots * kSlotSize, .access = Access::remote_write, .chunk_size = 0};
    for (std::size_t i = 0; i < kConnections; ++i) {
      streams.push_back(std::make_unique<Stream>(pair.client(i), pair.server(i),
                                                 pair.server_memory(options), 4 * seed + i));
      streams.push_back(std::make_unique<Stream>(pair.server(i), pair.client(i),
                                                 pair.client_memory(options), 4 * seed + i + 2));
    }
    for (auto& stream : streams) stream->start(200);
    const auto finished = [&] {
      for (auto& stream : streams) stream->send_what_fits();
      return std::ranges::all_of(streams, [](const auto& stream) { return stream->finished(); });
    };
    EXPECT_TRUE(run_until(finished, std::chrono::seconds(60)));
    pair.close_all();
  }
}

}  // namespace rnbd::fabric::conformance
