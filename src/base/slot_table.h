#pragma once
// A fixed number of slots, each reusable, named by a handle of index and generation: a stale handle
// finds nothing. Nothing is allocated after construction. One thread.

#include <cstdint>
#include <vector>

#include "base/assert.h"

namespace rnbd {

template <class T>
class SlotTable {
 public:
  struct Handle {
    std::uint32_t index = 0;
    std::uint32_t generation = 0;
    friend bool operator==(const Handle&, const Handle&) = default;
  };

  explicit SlotTable(std::uint32_t capacity) : slots_(capacity) {
    free_.reserve(capacity);
    for (std::uint32_t i = capacity; i > 0; --i) free_.push_back(i - 1);
  }

  std::uint32_t capacity() const { return static_cast<std::uint32_t>(slots_.size()); }
  std::uint32_t used() const { return capacity() - static_cast<std::uint32_t>(free_.size()); }
  bool full() const { return free_.empty(); }

  Handle acquire(T value) {
    RNBD_ASSERT(!full());
    const std::uint32_t index = free_.back();
    free_.pop_back();
    slots_[index].live = true;
    slots_[index].value = std::move(value);
    return {index, slots_[index].generation};
  }
  T* find(Handle handle) {
    if (handle.index >= slots_.size()) return nullptr;
    Slot& slot = slots_[handle.index];
    return slot.live && slot.generation == handle.generation ? &slot.value : nullptr;
  }
  void release(Handle handle) {
    RNBD_ASSERT(find(handle) != nullptr);
    Slot& slot = slots_[handle.index];
    slot.live = false;
    slot.value = T{};
    ++slot.generation;
    free_.push_back(handle.index);
  }
  template <class F>
  void for_each(F&& f) {
    for (auto& slot : slots_) {
      if (slot.live) f(slot.value);
    }
  }

 private:
  struct Slot {
    T value{};
    std::uint32_t generation = 1;
    bool live = false;
  };
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;
};

}  // namespace rnbd
