#pragma once
// Memory a device may reach: mapped with an inaccessible page on either side, absent from core
// dumps and child processes, registered for its lifetime and deregistered before it is unmapped.

#include <infiniband/verbs.h>

#include <cstddef>
#include <memory>
#include <span>

#include "base/error.h"
#include "fabric/verbs/arena.h"

namespace rnbd::fabric::verbs {

class GuardedMapping {
 public:
  GuardedMapping() = default;
  GuardedMapping(const GuardedMapping&) = delete;
  GuardedMapping& operator=(const GuardedMapping&) = delete;
  ~GuardedMapping();
  std::error_code map(std::size_t size);
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
  std::span<std::byte> all_;  // with the guard pages
};

class RegisteredMemory final : public Block {
 public:
  // `access`: of ibv_reg_mr. ENOMEM where the memlock limit is too small, and the log says so.
  static Result<std::unique_ptr<RegisteredMemory>> make(ibv_pd* pd, std::size_t size, int access);
  ~RegisteredMemory() override;

  std::span<std::byte> bytes() override { return mapping_.bytes(); }
  std::uint32_t local_key() const override { return region_->lkey; }
  std::uint32_t remote_key() const override { return remote_ ? region_->rkey : 0; }
  void* handle() override { return region_; }

 private:
  RegisteredMemory() = default;
  GuardedMapping mapping_;
  ibv_mr* region_ = nullptr;
  bool remote_ = false;
};

}  // namespace rnbd::fabric::verbs
