#include "stamp/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <istream>
#include <ostream>

#include "base/assert.h"

namespace rnbd::fault {

Model::Model(std::uint64_t run, std::uint64_t device, std::uint64_t blocks)
    : run_(run), device_(device), blocks_(blocks) {}

StampKey Model::begin_change(std::uint64_t block, Change change) {
  Block& state = blocks_[block];
  RNBD_ASSERT(!state.changing);
  state.changing = true;
  state.trimming = change == Change::trim;
  ++state.newest;
  if (change != Change::write) state.zeroings.push_back(state.newest);
  return key(block, state.newest);
}

void Model::change_succeeded(std::uint64_t block, bool fua) {
  Block& state = blocks_[block];
  RNBD_ASSERT(state.changing);
  state.changing = false;
  if (state.trimming) return;  // it may leave what was there
  state.succeeded = state.newest;
  if (fua) state.durable = state.newest;
  prune(state);
}

void Model::change_failed(std::uint64_t block) {
  RNBD_ASSERT(blocks_[block].changing);
  blocks_[block].changing = false;
}

std::uint64_t Model::begin_read(std::uint64_t block) {
  ++blocks_[block].reads;
  return blocks_[block].floor();
}

void Model::read_failed(std::uint64_t block) {
  RNBD_ASSERT(blocks_[block].reads > 0);
  --blocks_[block].reads;
  prune(blocks_[block]);
}

// Zeroings below everything that may still be seen are forgotten. A read under way may have an
// older floor, and a power cut goes back to what is durable.
void Model::prune(Block& state) {
  if (state.reads > 0 || state.zeroings.empty()) return;
  const std::uint64_t keep = std::min(state.floor(), state.durable);
  std::erase_if(state.zeroings, [keep](std::uint64_t zeroing) { return zeroing < keep; });
}

std::optional<std::string> Model::judge(std::uint64_t block, std::uint64_t floor,
                                        std::span<const std::byte> bytes) {
  Block& state = blocks_[block];
  std::uint64_t lowest = state.newest;
  std::optional<std::string> wrong;
  for (std::size_t at = 0; at < bytes.size() && !wrong; at += kSectorSize) {
    std::uint64_t sequence = 0;
    const std::size_t index = at / kSectorSize;
    const SectorContent content = read_sector(bytes.subspan(at, kSectorSize), index);
    wrong = judge_sector(state, block, floor, content, sequence);
    if (wrong)
      wrong = fmt::format("device {} block {} sector {}: {} (succeeded {}, seen {}, newest {}{})",
                          device_, block, index, *wrong, state.succeeded, state.seen, state.newest,
                          state.changing ? " under way" : "");
    lowest = std::min(lowest, sequence);
  }
  if (!wrong) state.seen = std::max(state.seen, lowest);
  read_failed(block);
  return wrong;
}

std::optional<std::string> Model::judge_sector(const Block& state, std::uint64_t block,
                                               std::uint64_t floor, const SectorContent& content,
                                               std::uint64_t& sequence) const {
  const StampKey& found = content.key;
  if (content.kind == SectorContent::Kind::zeros) {
    for (const std::uint64_t zeroing : state.zeroings) {  // ascending: the weakest claim
      sequence = zeroing;
      if (zeroing >= floor) return std::nullopt;
    }
    sequence = 0;
    if (floor == 0) return std::nullopt;
    return fmt::format("zeros where {} or later must be", floor);
  }
  if (content.kind == SectorContent::Kind::unknown || found.run != run_) {
    sequence = 0;
    if (floor == 0) return std::nullopt;
    if (content.kind == SectorContent::Kind::stamp)
      return fmt::format("stamped by another run where {} or later must be", floor);
    return fmt::format("{} bytes where {} or later must be",
                       content.was_stamp ? "damaged" : "foreign", floor);
  }
  if (found.device != device_)
    return fmt::format("bytes of device {} block {} sequence {}", found.device, found.block,
                       found.sequence);
  if (found.block != block)
    return fmt::format("bytes of block {} sequence {}", found.block, found.sequence);
  sequence = found.sequence;
  if (sequence < floor) return fmt::format("stale: shows {}, must be {} or later", sequence, floor);
  if (sequence > state.newest)
    return fmt::format("shows {}, which was never written (newest {})", sequence, state.newest);
  return std::nullopt;
}

std::vector<std::uint64_t> Model::begin_flush() const {
  std::vector<std::uint64_t> succeeded(blocks_.size());
  for (std::size_t block = 0; block < blocks_.size(); ++block)
    succeeded[block] = blocks_[block].succeeded;
  return succeeded;
}

void Model::flush_succeeded(const std::vector<std::uint64_t>& succeeded) {
  for (std::size_t block = 0; block < blocks_.size(); ++block) {
    blocks_[block].durable = std::max(blocks_[block].durable, succeeded[block]);
    prune(blocks_[block]);
  }
}

void Model::power_lost() {
  for (Block& block : blocks_) {
    block.succeeded = block.durable;
    block.seen = std::min(block.seen, block.durable);
  }
}

void Model::save(std::ostream& out) const {
  out << "device " << device_ << " blocks " << blocks_.size() << '\n';
  for (const Block& block : blocks_) {
    out << block.succeeded << ' ' << block.seen << ' ' << block.durable << ' ' << block.newest
        << ' ' << block.zeroings.size();
    for (const std::uint64_t zeroing : block.zeroings) out << ' ' << zeroing;
    out << '\n';
  }
}

bool Model::load(std::istream& in) {
  std::string word;
  std::uint64_t device = 0;
  std::uint64_t count = 0;
  if (!(in >> word >> device) || word != "device" || device != device_) return false;
  if (!(in >> word >> count) || word != "blocks" || count != blocks_.size()) return false;
  for (Block& block : blocks_) {
    std::size_t zeroings = 0;
    block = {};
    if (!(in >> block.succeeded >> block.seen >> block.durable >> block.newest >> zeroings))
      return false;
    for (std::size_t i = 0; i < zeroings; ++i) {
      std::uint64_t zeroing = 0;
      if (!(in >> zeroing)) return false;
      block.zeroings.push_back(zeroing);
    }
  }
  return true;
}

}  // namespace rnbd::fault
