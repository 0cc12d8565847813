#pragma once
// A protection domain of one device, and the memory registered in it. Registering and destroying
// happen on one thread; connections of the domain, on their own, look local memory up and register
// bounce memory.

#include <array>
#include <atomic>
#include <memory>

#include "fabric/fabric.h"
#include "fabric/verbs/chunk_windows.h"
#include "fabric/verbs/cm.h"
#include "fabric/verbs/device.h"
#include "fabric/verbs/options.h"
#include "fabric/verbs/registered.h"

namespace rnbd::fabric::verbs {

class VerbsMemory;

class VerbsDomain final : public Domain {
 public:
  // `anchor` is bound to the device and keeps librdmacm from closing it.
  static Result<std::unique_ptr<VerbsDomain>> create(CmId anchor, const Options& options);
  ~VerbsDomain() override;
  const Capabilities& capabilities() const override { return capabilities_; }
  DeviceName device() const override { return {device_->name(), port_}; }
  Result<std::unique_ptr<Memory>> register_memory(const MemoryOptions& options) override;

  ibv_pd* pd() const { return pd_; }
  Device& rdma_device() const { return *device_; }
  const std::shared_ptr<Device>& shared_device() const { return device_; }
  unsigned port() const { return port_; }
  bool type2_windows() const { return type2_windows_; }

  // The local key of all of these bytes, if one memory holds them. Any thread; the memory stays
  // while connections use the domain.
  bool find(const void* address, std::size_t length, std::uint32_t& key) const;

 private:
  friend class VerbsMemory;
  struct Region {
    std::atomic<std::uintptr_t> begin{0};  // 0: free
    std::uintptr_t end = 0;
    std::uint32_t key = 0;
  };
  VerbsDomain(CmId anchor, std::shared_ptr<Device> device, ibv_pd* pd, bool windows);

  // More memories than this work, too: their bytes are copied when they are sent.
  static constexpr std::size_t kRegions = 16;
  CmId anchor_;
  std::shared_ptr<Device> device_;
  unsigned port_;
  ibv_pd* pd_;
  bool type2_windows_;
  Capabilities capabilities_;
  std::array<Region, kRegions> regions_;
};

class VerbsMemory final : public Memory {
 public:
  VerbsMemory(VerbsDomain& domain, std::unique_ptr<RegisteredMemory> memory,
              std::unique_ptr<ChunkWindows> windows);
  ~VerbsMemory() override;
  std::span<std::byte> bytes() override { return memory_->bytes(); }
  RemoteSpan remote(std::size_t offset, std::size_t length) const override;
  // The key of registered memory is good for all of it: without windows no chunk can be shut.
  void set_gate(std::size_t, bool) override {}
  ChunkWindows* windows() const { return windows_.get(); }

 private:
  std::unique_ptr<RegisteredMemory> memory_;
  std::unique_ptr<ChunkWindows> windows_;  // null: ordinary memory
  VerbsDomain::Region* region_ = nullptr;
};

// Bounce memory of one kind.
class DomainBlocks final : public BlockSource {
 public:
  DomainBlocks(VerbsDomain& domain, int access) : domain_(domain), access_(access) {}
  Result<std::unique_ptr<Block>> make(std::size_t size) override {
    return RegisteredMemory::make(domain_.pd(), size, access_);
  }

 private:
  VerbsDomain& domain_;
  int access_;
};

}  // namespace rnbd::fabric::verbs
