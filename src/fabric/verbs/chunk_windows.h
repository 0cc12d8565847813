#pragma once
// A memory window of type 1 over each chunk of a registered memory. Its key is valid on every queue
// pair of the domain, as a client may send any request on any connection, and dies when the window
// is bound anew; a window of type 2 would belong to one queue pair. A chunk's window may be bound
// by one thread at a time, and anew only when the last binding has completed.

#include <infiniband/verbs.h>

#include <memory>
#include <vector>

#include "fabric/fabric.h"
#include "fabric/verbs/registered.h"

namespace rnbd::fabric::verbs {

class ChunkWindows {
 public:
  // Of memory registered with IBV_ACCESS_MW_BIND. All shut.
  static Result<std::unique_ptr<ChunkWindows>> create(ibv_pd* pd, RegisteredMemory& memory,
                                                      std::size_t chunk_size);
  ~ChunkWindows();
  ChunkWindows(const ChunkWindows&) = delete;
  ChunkWindows& operator=(const ChunkWindows&) = delete;

  // Posts the binding, signalled, under this name. An errno.
  int bind(ibv_qp* pair, std::size_t chunk, bool open, std::uint64_t name);
  RemoteSpan remote(std::size_t chunk) const;  // under the key of its last binding

 private:
  ChunkWindows(RegisteredMemory& memory, std::size_t chunk_size)
      : memory_(memory), chunk_size_(chunk_size) {}
  std::span<std::byte> bytes(std::size_t chunk) const;

  RegisteredMemory& memory_;
  const std::size_t chunk_size_;
  std::vector<ibv_mw*> windows_;
};

}  // namespace rnbd::fabric::verbs
