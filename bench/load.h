#pragma once
// Our own load generator straight on the client library: no frontend between it and the wire.

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace rnbd::bench {

struct LoadOptions {
  std::string path = "ip:127.0.0.1";  // as RTRS writes addresses
  std::uint16_t port = 1234;
  std::string volume;
  bool write = false;
  bool sequential = false;
  std::uint32_t size = 4096;
  std::uint32_t depth = 32;  // of each job
  std::uint32_t jobs = 1;    // independent streams on one device
  std::uint32_t reactors = 1;
  double seconds = 3;
  int cpu = 0;  // first reactor's CPU, further ones follow; -1: anywhere
  int spin_us = 50;
  std::string crc = "auto";
  pid_t server_pid = 0;  // its CPU time counts too; 0: ours alone
};

int run_load(const LoadOptions& options);

}  // namespace rnbd::bench
