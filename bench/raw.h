#pragma once
// The ceiling: a request/response program over one socket that does nothing else. Requests of 64
// bytes and answers of the payload's size (read) or the reverse (write); one send and one receive
// call per batch.

#include <cstdint>

namespace rnbd::bench {

struct RawOptions {
  bool write = false;
  bool unix_socket = false;
  bool spin = false;  // poll the socket instead of sleeping in recv
  std::uint32_t size = 4096;
  std::uint32_t depth = 32;
  double seconds = 3;
  int client_cpu = 0;
  int server_cpu = 1;
};

int run_raw(const RawOptions& options);

}  // namespace rnbd::bench
