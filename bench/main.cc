// rnbd-bench: the measuring programs bench/run drives. Each prints one line of JSON.

#include <CLI/CLI.hpp>

#include "base/log.h"
#include "load.h"
#include "raw.h"

int main(int argc, char** argv) {
  rnbd::set_log_options({.program = "rnbd-bench", .level = rnbd::LogLevel::warning});
  CLI::App app("Measures RNBD: the raw ceiling of a socket, and load through the client library.",
               "rnbd-bench");
  app.require_subcommand(1);
  app.set_version_flag("-V,--version", RNBD_VERSION);

  rnbd::bench::RawOptions raw;
  auto* raw_command = app.add_subcommand("raw", "request/response over one socket, nothing else");
  raw_command->add_flag("--write", raw.write, "payload travels in the requests");
  raw_command->add_flag("--unix", raw.unix_socket, "over a Unix socket instead of loopback TCP");
  raw_command->add_flag("--spin", raw.spin, "poll instead of sleeping");
  raw_command->add_option("--size", raw.size, "payload bytes")->capture_default_str();
  raw_command->add_option("--depth", raw.depth, "requests under way")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  raw_command->add_option("--seconds", raw.seconds, "length of the measurement")
      ->capture_default_str();
  raw_command->add_option("--client-cpu", raw.client_cpu)->capture_default_str();
  raw_command->add_option("--server-cpu", raw.server_cpu)->capture_default_str();

  rnbd::bench::LoadOptions load;
  auto* load_command = app.add_subcommand("load", "I/O on a volume through the client library");
  load_command
      ->add_option("--path", load.path, "server address, e.g. ip:127.0.0.1 or unix:/run/s.sock")
      ->capture_default_str();
  load_command->add_option("--port", load.port)->capture_default_str();
  load_command->add_option("--volume", load.volume, "name of the volume")->required();
  load_command->add_flag("--write", load.write,
                         "write instead of reading (destroys the volume's content)");
  load_command->add_flag("--sequential", load.sequential);
  load_command->add_option("--size", load.size, "bytes of one I/O")->capture_default_str();
  load_command->add_option("--depth", load.depth, "I/Os under way per job")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  load_command->add_option("--jobs", load.jobs, "streams on the one device")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  load_command->add_option("--reactors", load.reactors)
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  load_command->add_option("--seconds", load.seconds)->capture_default_str();
  load_command->add_option("--cpu", load.cpu, "CPU of the first reactor, -1 for any")
      ->capture_default_str();
  load_command->add_option("--spin-us", load.spin_us, "longest adaptive spin")
      ->capture_default_str();
  load_command->add_option("--crc", load.crc)
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
  load_command->add_option("--server-pid", load.server_pid, "count this process's CPU time too")
      ->capture_default_str();

  CLI11_PARSE(app, argc, argv);
  return raw_command->parsed() ? rnbd::bench::run_raw(raw) : rnbd::bench::run_load(load);
}
