#pragma once
// How often the same is said: a few times, then it is counted until a while has passed. The same is
// what has the same name and happened to the same. Whom it happened to may be a peer's word, and
// peers have words without end: so of all they cause together no more is said than a bound, either,
// and the rest is counted by its name. Told so is all that was not said, and once.
// Pure, and bounded: whoever makes many different ones only makes the counts of old ones come
// sooner.

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/loop.h"

namespace rnbd {

class EventLimit {
 public:
  static constexpr std::uint32_t kSaidMost = 10;
  static constexpr std::uint32_t kSaidMostOfPeers = 200;
  static constexpr Duration kWhile = std::chrono::seconds(10);
  static constexpr std::size_t kKeysMost = 128;

  struct Unsaid {
    std::string key;
    std::uint64_t times = 0;
  };

  // May it be said now? Else it is counted.
  bool may_say(const std::string& key, TimePoint now) {
    Entry* entry = find(key);
    return entry == nullptr ? begin(key, now) : again(*entry);
  }

  // The same for what a peer causes. `name`: what it is, whoever it happened to; ours, so there are
  // few.
  bool may_say_of_peer(const std::string& name, const std::string& key, TimePoint now) {
    Entry* entry = find(key);
    if (entry != nullptr && entry->said >= kSaidMost) return again(*entry);
    if (peers_said_ == 0) peers_since_ = now;
    if (peers_said_ >= kSaidMostOfPeers) return ++peers_unsaid_[name], false;
    ++peers_said_;
    return entry == nullptr ? begin(key, now) : again(*entry);
  }

  // What was counted and is over by now, to be asked before may_say() and when it is due(): each
  // once.
  std::vector<Unsaid> over(TimePoint now) {
    std::vector<Unsaid> unsaid;
    while (!entries_.empty() &&
           (now - entries_.front().since >= kWhile || entries_.size() >= kKeysMost)) {
      Entry& oldest = entries_.front();
      if (oldest.unsaid != 0) unsaid.push_back({std::move(oldest.key), oldest.unsaid});
      entries_.pop_front();
    }
    if (peers_said_ != 0 && now - peers_since_ >= kWhile) {
      for (const auto& [name, times] : peers_unsaid_) unsaid.push_back({name, times});
      peers_unsaid_.clear();
      peers_said_ = 0;
    }
    return unsaid;
  }

  // When something that was counted is over, should nothing happen until then.
  std::optional<TimePoint> due() const {
    std::optional<TimePoint> first;
    if (!peers_unsaid_.empty()) first = peers_since_ + kWhile;
    for (const Entry& entry : entries_)
      if (entry.unsaid != 0)
        return std::min(first.value_or(TimePoint::max()), entry.since + kWhile);
    return first;
  }

 private:
  struct Entry {
    std::string key;
    TimePoint since;
    std::uint32_t said;
    std::uint64_t unsaid;
  };

  Entry* find(const std::string& key) {
    const auto at = std::ranges::find(entries_, key, &Entry::key);
    return at == entries_.end() ? nullptr : &*at;
  }
  bool begin(const std::string& key, TimePoint now) {
    entries_.push_back({key, now, 1, 0});
    return true;
  }
  static bool again(Entry& entry) {
    if (entry.said < kSaidMost) return ++entry.said, true;
    return ++entry.unsaid, false;
  }

  std::deque<Entry> entries_;  // the oldest first
  TimePoint peers_since_{};
  std::uint32_t peers_said_ = 0;  // since then
  std::map<std::string, std::uint64_t> peers_unsaid_;
};

}  // namespace rnbd
