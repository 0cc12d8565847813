#include "frontend/fuse/access_plan.h"

#include <algorithm>
#include <cstring>

namespace rnbd::fuse {
namespace {

using block::Op;

Plan enclosing(const Extent& extent, std::uint32_t block_size) {
  Plan plan;
  const std::uint64_t last = extent.offset + extent.length - 1;
  plan.begin = extent.offset - extent.offset % block_size;
  plan.end = last - last % block_size + block_size;
  return plan;
}

void add_read(Plan& plan, std::uint64_t offset, std::uint32_t block_size, std::byte* to) {
  plan.add({.op = Op::read, .offset = offset, .length = block_size, .data = to});
}

// Zeroes [from, to) of the block at `offset`: read, edit, write.
void add_patch(Plan& plan, std::uint64_t offset, std::uint32_t block_size, std::byte* scratch,
               std::uint64_t from, std::uint64_t to) {
  add_read(plan, offset, block_size, scratch);
  Step& write =
      plan.add({.op = Op::write, .offset = offset, .length = block_size, .data = scratch});
  write.edits[0] = {scratch + (from - offset), nullptr, to - from};
  plan.exclusive = true;
}

}  // namespace

Plan plan_read(const Extent& extent, std::uint32_t block_size, const Memory& memory) {
  Plan plan = enclosing(extent, block_size);
  plan.add(
      {.op = Op::read, .offset = plan.begin, .length = plan.end - plan.begin, .data = memory.data});
  return plan;
}

Plan plan_write(const Extent& extent, std::uint32_t block_size, const Memory& memory,
                std::uint8_t flags) {
  Plan plan = enclosing(extent, block_size);
  const std::uint64_t head = extent.offset - plan.begin;
  const std::uint64_t end = extent.offset + extent.length;
  const std::uint64_t tail = plan.end - end;
  const std::uint64_t last_block = plan.end - block_size;
  const bool one_block = last_block == plan.begin;
  std::byte* const tail_block = memory.scratch[one_block && head > 0 ? 0 : 1];
  if (head > 0) add_read(plan, plan.begin, block_size, memory.scratch[0]);
  if (tail > 0 && !(one_block && head > 0)) add_read(plan, last_block, block_size, tail_block);
  plan.exclusive = head > 0 || tail > 0;

  Step& write = plan.add({.op = Op::write,
                          .flags = flags,
                          .offset = plan.begin,
                          .length = plan.end - plan.begin,
                          .data = memory.data});
  if (head > 0) {
    std::memmove(memory.data + head, memory.data, extent.length);
    write.edits[0] = {memory.data, memory.scratch[0], head};
  }
  if (tail > 0)
    write.edits[1] = {memory.data + head + extent.length, tail_block + (block_size - tail), tail};
  return plan;
}

Plan plan_zero(const Extent& extent, std::uint32_t block_size, const Memory& memory,
               std::uint8_t flags) {
  Plan plan = enclosing(extent, block_size);
  const std::uint64_t end = extent.offset + extent.length;
  std::uint64_t whole_begin = plan.begin;
  std::uint64_t whole_end = plan.end;
  if (extent.offset != plan.begin) {
    add_patch(plan, plan.begin, block_size, memory.scratch[0], extent.offset,
              std::min(end, plan.begin + block_size));
    whole_begin += block_size;
  }
  if (end != plan.end && whole_begin < plan.end) {
    whole_end -= block_size;
    add_patch(plan, whole_end, block_size, memory.scratch[1], whole_end, end);
  }
  if (whole_begin < whole_end) {
    plan.add({.op = Op::write_zeroes,
              .flags = flags,
              .offset = whole_begin,
              .length = whole_end - whole_begin});
  }
  return plan;
}

}  // namespace rnbd::fuse
