#pragma once
// The bookkeeping of a send queue. A work request keeps its slot until a later one that asked for a
// completion has completed; the poster's item is done earlier when its bytes were copied, as long
// as there are slots for all it may post then. Pure; one thread.
//
//   sequence numbers:  ... retired | told | settled | head
//   [tail, head)     in flight: they hold a slot, and a slice of memory maybe
//   [told, settled)  done, and their posters not yet told
//   [settled, head)  not done

#include <cstdint>
#include <optional>
#include <vector>

#include "base/assert.h"
#include "fabric/verbs/arena.h"

namespace rnbd::fabric::verbs {

class SendQueue {
 public:
  struct Item {
    std::uint64_t cookie = 0;
    bool user = true;     // counts towards the depth; else it is ours and nobody is told
    bool copied = false;  // its local bytes are free at once
    Slice slice{};        // given back when it retires
  };
  struct Done {
    std::uint64_t cookie = 0;
    bool completed = false;  // only at the end: false when it was flushed
  };

  // At most `depth` items not done, over `slots` >= depth slots, and `extra` slots for our own.
  // At least every `interval`-th is signalled.
  SendQueue(std::uint32_t depth, std::uint32_t slots, std::uint32_t extra, std::uint32_t interval);

  bool fits(std::size_t items) const { return undone_ + items <= depth_; }
  std::uint32_t own_room() const { return extra_ - own_; }
  std::uint64_t push(const Item& item);  // its sequence number; it fits
  // Takes back the newest, which was not posted.
  Item pop_newest();

  // Finds what is done. Then, in order, for each item that is posted: whether it asks for a
  // completion. `last`: nothing is posted behind it for now.
  void settle();
  bool wants_signal(std::uint64_t sequence, bool last);
  void force_signal(std::uint64_t sequence);  // it asks in any case

  // The work request with this number completed, and so did all before it. False if it is not in
  // flight: a completion nobody asked for.
  template <class GiveBack>
  bool retire(std::uint64_t sequence, GiveBack&& give_back) {
    if (sequence < tail_ || sequence >= head_) return false;
    while (tail_ <= sequence) retire_one(give_back);
    return true;
  }
  bool in_flight(std::uint64_t sequence) const { return sequence >= tail_ && sequence < head_; }
  std::uint64_t tail() const { return tail_; }
  std::uint64_t head() const { return head_; }
  bool idle() const { return tail_ == head_; }
  // The last in flight has asked for a completion.
  bool end_is_signalled() const { return signalled_ == head_; }

  std::optional<std::uint64_t> pop_done();  // the next cookie to be told
  // At the end: everything not yet told, in order.
  std::optional<Done> pop_any();

  std::uint32_t capacity() const { return static_cast<std::uint32_t>(ring_.size()); }

 private:
  Item& at(std::uint64_t sequence) { return ring_[sequence % ring_.size()]; }
  void tell_one();
  template <class GiveBack>
  void retire_one(GiveBack&& give_back) {
    Item& item = at(tail_);
    give_back(item);
    item.slice = {};
    --(item.user ? users_ : own_);
    ++tail_;
  }

  const std::uint32_t depth_;
  const std::uint32_t slots_;
  const std::uint32_t extra_;
  const std::uint32_t interval_;
  std::vector<Item> ring_;
  std::uint64_t head_ = 0, tail_ = 0, told_ = 0, settled_ = 0;
  std::uint64_t signalled_ = 0;  // one past the last that asked for a completion
  std::uint32_t since_signal_ = 0;
  std::uint32_t undone_ = 0;           // the poster's items in [told_, head_)
  std::uint32_t unsettled_ = 0;        // and in [settled_, head_)
  std::uint32_t users_ = 0, own_ = 0;  // in flight
};

}  // namespace rnbd::fabric::verbs
