#pragma once
// Registered memory and keys of the simulated fabric, with every check a real one makes.

#include <memory>
#include <span>
#include <vector>

#include "fabric/fabric.h"

namespace rnbd::fabric::sim {

class Host;
class SimDomain;
class World;

// Bytes, and which of their chunks may be written to.
struct ChunkPool {
  struct Free {
    void operator()(std::byte* memory) const;
  };
  explicit ChunkPool(const MemoryOptions& options);
  const std::size_t size;
  std::unique_ptr<std::byte, Free> bytes;
  std::vector<bool> gates;  // open
};

class SimMemory final : public Memory {
 public:
  SimMemory(SimDomain& domain, const MemoryOptions& options, std::uint32_t key, std::uint64_t base);
  ~SimMemory() override;
  std::span<std::byte> bytes() override { return {pool_->bytes.get(), options_.size}; }
  RemoteSpan remote(std::size_t offset, std::size_t length) const override;
  void set_gate(std::size_t chunk, bool open) override;

  std::uint32_t key() const { return key_; }
  // Where the peer may write `length` bytes at `address` with this key; nullptr where it may not.
  std::byte* writable(std::uint32_t key, std::uint64_t address, std::size_t length);
  // Gates with keys: 0 shuts.
  std::uint32_t fresh_gate_key();
  void set_gate_key(std::size_t chunk, std::uint32_t key) { gate_keys_[chunk] = key; }
  RemoteSpan gate(std::size_t chunk, std::uint32_t key) const;
  // The same bytes registered anew: the old key is dead.
  void renew_key();

 private:
  SimDomain& domain_;
  MemoryOptions options_;
  std::uint32_t key_;
  std::uint64_t base_;  // of its addresses for peers: nothing a peer could guess
  // Shared with other paths of the same client only where safety rule R1 is switched off.
  std::shared_ptr<ChunkPool> pool_;
  std::vector<std::uint32_t> gate_keys_;  // where gates have keys
};

class SimDomain final : public Domain {
 public:
  // `peer`: of an acceptor.
  SimDomain(World& world, Host& host, const Capabilities& capabilities, bool gates,
            const Host* peer)
      : world_(world), host_(host), capabilities_(capabilities), gates_(gates), peer_(peer) {}
  ~SimDomain() override;
  const Capabilities& capabilities() const override { return capabilities_; }
  Result<std::unique_ptr<Memory>> register_memory(const MemoryOptions& options) override;

  SimMemory* find(std::uint32_t key);  // which still has to say what the key is good for
  Host& host() { return host_; }
  bool gates() const { return gates_; }
  std::shared_ptr<ChunkPool> make_pool(const MemoryOptions& options);
  void connection_opened() { ++connections_; }
  void connection_closed() { --connections_; }

 private:
  friend class SimMemory;
  World& world_;
  Host& host_;
  Capabilities capabilities_;
  bool gates_;
  const Host* peer_;
  std::vector<SimMemory*> memories_;  // by key index; nullptr once destroyed
  std::size_t connections_ = 0;       // not yet closed
};

// The windows of one connection.
class SimWindows {
 public:
  SimWindows(World& world, std::uint32_t count) : world_(world), windows_(count) {}
  RemoteSpan expose(std::uint32_t window, std::span<const iovec> local);
  bool exposed(std::uint32_t window) const { return windows_[window].key != 0; }
  std::size_t count() const { return windows_.size(); }
  void hide(std::uint32_t window) { windows_[window].key = 0; }
  void forget(std::uint32_t window) { windows_[window].local.clear(); }
  bool invalidate(std::uint32_t key);  // false: no such key
  // False where the peer has no right to write there; then nothing was written.
  bool write(std::uint32_t key, std::uint64_t address, std::span<const std::byte> bytes);

 private:
  struct Window {
    std::uint32_t key = 0;  // 0: hidden
    std::uint64_t base = 0;
    std::uint64_t length = 0;
    std::vector<iovec> local;  // empty: forgotten
  };
  Window* find(std::uint32_t key);
  World& world_;
  std::vector<Window> windows_;
};

}  // namespace rnbd::fabric::sim
