#pragma once
// Order of overlapping writes (safety rule R3): of the requests that change a volume, one that
// overlaps an earlier one still under way waits for it, in the order of arrival. So a copy of a
// write that was left behind on a dead path can never overtake what the client wrote later, and
// overlapping writes never mix.
//
// An interval tree (treap) whose nodes live in the requests: entering and leaving without an
// overlap is one short walk, and nothing is allocated. Any thread: one volume is written to from
// several loops, which is why there is a lock here (docs/decisions/0003-overlap-lock.md).

#include <cstdint>
#include <mutex>

namespace rnbd::server {

class RangeOrder {
 public:
  struct Node {
    std::uint64_t begin = 0;  // bytes
    std::uint64_t end = 0;    // greater than begin
    void* owner = nullptr;    // the caller's

    // From here on RangeOrder's, but `next`: the following node of a list leave() returned.
    Node* next = nullptr;
    Node* left = nullptr;
    Node* right = nullptr;
    std::uint64_t arrival = 0;
    std::uint64_t priority = 0;
    std::uint64_t max_end = 0;   // of this node and all below it
    std::uint32_t blockers = 0;  // earlier overlapping nodes that have not left
  };

  RangeOrder() = default;
  RangeOrder(const RangeOrder&) = delete;
  RangeOrder& operator=(const RangeOrder&) = delete;
  ~RangeOrder();

  // True: run it now. False: it will be in a list that some leave() returns.
  bool enter(Node& node);
  // The node is done. Returns the nodes that may run now, oldest first, linked by `next`; or
  // nullptr. Read `next` before running a node: it may leave at once.
  Node* leave(Node& node);

 private:
  std::mutex mutex_;
  Node* root_ = nullptr;
  std::uint64_t arrivals_ = 0;
};

}  // namespace rnbd::server
