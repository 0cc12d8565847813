#pragma once
// How a ublk device comes, is taken over and goes, step by step. Everything here blocks, bounded in
// time, and needs the reactors to go on: for a thread of its own.

#include <memory>
#include <string>

#include "base/device_links.h"
#include "frontend/ublk/queue_set.h"
#include "frontend/ublk/ublk_device.h"

namespace rnbd::ublk {

// What there is of one device.
struct Existing {
  Identity identity;
  std::string node;  // "ublkb0"
  DeviceLinks links;
  std::shared_ptr<QueueSet> queues;
};

// Result of one of the calls below: `stuck` means that a command did not return from the kernel,
// and the thread that gave it may not end.
template <class T>
struct Ended {
  T result;
  bool stuck = false;
};

// On a failure the queues are to be drained, and nothing else is left.
Ended<Outcome<Existing>> make_device(std::shared_ptr<QueueSet> queues, std::size_t reactors,
                                     const Spec& spec, const block::Limits& limits);
Ended<Outcome<Existing>> take_over(std::shared_ptr<QueueSet> queues, Identity identity,
                                   const Spec& spec, const block::Limits& limits);
Ended<RemoveResult> take_away(const Existing& device, const Spec& spec, bool force);
std::error_code change_size(Identity identity, std::uint64_t size_bytes);

}  // namespace rnbd::ublk
