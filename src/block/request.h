#pragma once
// One block request: intrusive, owned by whoever submits it, reused for ever, never allocated per
// I/O.

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <system_error>

#include "base/intrusive_list.h"

namespace rnbd::block {

enum class Op : std::uint8_t { read, write, flush, discard, secure_erase, write_zeroes };

// Bit set of what a request asks beyond its operation.
enum Flags : std::uint8_t {
  kNoFlags = 0,
  kSync = 1,      // somebody waits for it
  kFua = 2,       // on stable storage before it completes (write, write_zeroes)
  kPreflush = 4,  // flush the volatile cache before it is executed
  kNoUnmap = 8,   // write_zeroes: keep the blocks allocated
};

const char* op_name(Op op);
inline bool carries_data(Op op) { return op == Op::read || op == Op::write; }
inline bool modifies(Op op) { return op != Op::read && op != Op::flush; }

// Filled by the submitter; `done` is called exactly once, from the loop of the queue, never from
// inside submit(). Until then the queue owns the request and may use its list links and `driver`
// words.
struct Request : ListNode {
  Op op = Op::read;
  std::uint8_t flags = kNoFlags;
  std::uint64_t offset = 0;  // bytes; multiple of the logical block size; 0 for flush
  std::uint64_t length = 0;  // bytes; for read and write the sum of the segments; 0 for flush
  std::span<const iovec> segments;  // read and write only; memory stays the submitter's until done
  void (*done)(Request& request) = nullptr;
  std::error_code result;  // set before done; errors are errno values or Errc

  // Scratch for the queue that holds the request (e.g. retry state). Meaningless to the submitter.
  std::uint64_t driver[6] = {};
};

}  // namespace rnbd::block
