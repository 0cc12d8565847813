#pragma once
// The IO messages of one loop: finds the mapping, checks the request against it, and runs it on the
// device straight from the chunk. The state of a request lives in its own scratch memory; nothing
// is allocated. One per loop, used on that loop only.

#include <cstddef>
#include <unordered_map>

#include "rnbd/server/volume.h"
#include "wire/rnbd.h"

namespace rnbd::server {

class IoHandler {
 public:
  IoHandler(Loop& loop, std::size_t index) : loop_(loop), index_(index) {}
  IoHandler(const IoHandler&) = delete;
  IoHandler& operator=(const IoHandler&) = delete;
  ~IoHandler();

  // From here on requests for `mapping` are run. Fails when the device gives no queue for this
  // loop.
  std::error_code attach(LoopMapping& mapping);
  // From here on requests for `mapping` are unknown; `drained` is called when the last one running
  // is done, which may be at once.
  void detach(LoopMapping& mapping, std::function<void()> drained);
  // The volume has another size.
  void resized(const Volume& volume);
  // Answers `request`, now or later.
  void handle(rtrs::server::Request& request, const wire::Io& io);

 private:
  struct Operation;
  struct Key {
    std::uint64_t session_id;
    std::uint32_t device_id;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const {
      return (key.session_id * 0x9e3779b97f4a7c15U) ^
             (key.device_id * std::uint64_t{0xff51afd7ed558ccd});
    }
  };

  LoopMapping* find(std::uint64_t session_id, std::uint32_t device_id);
  void begin(Operation& operation);
  void advance(Operation& operation);
  void next_piece(Operation& operation);
  void finish(Operation& operation);
  TimePoint answered_at(TimePoint submitted) const;
  static void count_time(const Operation& operation);
  void resume(RangeOrder::Node* ready);
  void drained(LoopMapping& mapping);
  static void on_done(block::Request& request);

  Loop& loop_;
  const std::size_t index_;
  std::unordered_map<Key, LoopMapping*, KeyHash> mappings_;
  LoopMapping* last_ = nullptr;  // most requests are for the device of the one before
};

}  // namespace rnbd::server
