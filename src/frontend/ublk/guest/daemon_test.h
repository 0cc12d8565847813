#pragma once
// The other things the test program can be.

namespace rnbd::ublk::testing {

// --daemon FILE TAG [ID]: serves FILE as a new ublk device, or takes over device ID. Says
// "ready ID" or "failed WORDS"; then obeys standard input: "remove" ends device and process,
// "leave" ends the process and leaves the device.
int daemon_main(int argc, char** argv);
// --memory BYTES [BLOCK_SIZE]: serves a disk in memory until standard input says
// "end" or ends; says its node.
int memory_main(int argc, char** argv);

}  // namespace rnbd::ublk::testing
