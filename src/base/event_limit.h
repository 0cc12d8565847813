#pragma once
// How often the same is said: a few times, then it is counted until a while has passed. The same is
// what has the same name and happened to the same. Bounded: whoever makes many different ones
// only makes the counts of old ones come sooner.

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "base/loop.h"

namespace rnbd {

class EventLimit {
 public:
  static constexpr std::uint32_t kSaidMost = 10;
  static constexpr Duration kWhile = std::chrono::seconds(10);
  static constexpr std::size_t kKeysMost = 128;

  struct Unsaid {
    std::string key;
    std::uint64_t times = 0;
  };

  // May it be said now? Else it is counted.
  bool may_say(const std::string& key, TimePoint now) {
    for (Entry& entry : entries_) {
      if (entry.key != key) continue;
      if (entry.said < kSaidMost) return ++entry.said, true;
      return ++entry.unsaid, false;
    }
    entries_.push_back({key, now, 1, 0});
    return true;
  }

  // What was counted and is over by now, to be asked before may_say(): each once.
  std::vector<Unsaid> over(TimePoint now) {
    std::vector<Unsaid> unsaid;
    while (!entries_.empty() &&
           (now - entries_.front().since >= kWhile || entries_.size() >= kKeysMost)) {
      Entry& oldest = entries_.front();
      if (oldest.unsaid != 0) unsaid.push_back({std::move(oldest.key), oldest.unsaid});
      entries_.pop_front();
    }
    return unsaid;
  }

 private:
  struct Entry {
    std::string key;
    TimePoint since;
    std::uint32_t said;
    std::uint64_t unsaid;
  };
  std::deque<Entry> entries_;  // the oldest first
};

}  // namespace rnbd
