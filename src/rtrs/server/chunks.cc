#include "rtrs/server/chunks.h"

namespace rnbd::rtrs::server {

Result<std::unique_ptr<Chunks>> Chunks::create(fabric::Domain& domain, std::uint32_t count,
                                               std::uint32_t chunk_size) {
  auto memory = domain.register_memory({.size = std::size_t{count} * chunk_size,
                                        .access = fabric::Access::remote_write,
                                        .chunk_size = chunk_size});
  if (!memory) return fail(memory.error());
  return std::unique_ptr<Chunks>(new Chunks(std::move(*memory), count, chunk_size));
}

Chunks::Chunks(std::unique_ptr<fabric::Memory> memory, std::uint32_t count,
               std::uint32_t chunk_size)
    : memory_(std::move(memory)), count_(count), chunk_size_(chunk_size) {}

}  // namespace rnbd::rtrs::server
