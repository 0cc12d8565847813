#include "load.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <vector>

#include "base/log.h"
#include "base/random.h"
#include "fabric/iwarp/iwarp_fabric.h"
#include "measure.h"
#include "reactor/reactor.h"
#include "rnbd/client/remote_device.h"

namespace rnbd::bench {
namespace {

class Job;

struct Slot : block::Request {
  Job* job = nullptr;
  iovec segment{};
  std::int64_t started = 0;
};

// One stream of I/O on one reactor: `depth` requests, each sent anew when it comes back, until told
// to stop.
class Job {
 public:
  Job(Reactor& reactor, block::Device& device, const LoadOptions& options, std::uint64_t seed)
      : reactor_(reactor),
        options_(options),
        random_(seed),
        blocks_(device.limits().size / options.size) {
    auto queue = device.open_queue(reactor);
    if (!queue) {
      std::fprintf(stderr, "rnbd-bench: load: cannot open a queue: %s\n",
                   queue.error().message().c_str());
      std::exit(1);
    }
    queue_ = std::move(*queue);
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(4096, bytes())));
    slots_ = std::vector<Slot>(options.depth);
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      Slot& slot = slots_[i];
      slot.job = this;
      slot.segment = {memory_.get() + i * stride(), options.size};
      slot.segments = {&slot.segment, 1};
      slot.op = options.write ? block::Op::write : block::Op::read;
      slot.length = options.size;
      slot.done = [](block::Request& request) {
        auto& done = static_cast<Slot&>(request);
        done.job->on_done(done);
      };
    }
  }

  void start() {
    for (Slot& slot : slots_) issue(slot);
  }
  void reset() { latency_.clear(); }
  // Lets what is under way come back, then says so.
  void stop(std::promise<void>& drained) {
    drained_ = &drained;
    if (outstanding_ == 0) drained.set_value();
  }
  const Histogram& latency() const { return latency_; }
  Reactor& reactor() { return reactor_; }
  void close() { queue_.reset(); }

 private:
  std::size_t stride() const { return (std::size_t{options_.size} + 4095) & ~std::size_t{4095}; }
  std::size_t bytes() const { return stride() * options_.depth; }

  void issue(Slot& slot) {
    slot.offset =
        (options_.sequential ? next_++ % blocks_ : random_.below(blocks_)) * options_.size;
    slot.started = now_ns();
    ++outstanding_;
    queue_->submit(slot);
  }
  void on_done(Slot& slot) {
    --outstanding_;
    if (slot.result) {
      std::fprintf(stderr, "rnbd-bench: load: I/O failed: %s\n", slot.result.message().c_str());
      std::exit(1);
    }
    latency_.add(now_ns() - slot.started);
    if (drained_ == nullptr) {
      issue(slot);
    } else if (outstanding_ == 0) {
      drained_->set_value();
    }
  }

  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  Reactor& reactor_;
  const LoadOptions& options_;
  SeededRandom random_;
  std::uint64_t blocks_;
  std::unique_ptr<block::Queue> queue_;
  std::unique_ptr<std::byte, Free> memory_;
  std::vector<Slot> slots_;
  Histogram latency_;
  std::uint64_t next_ = 0;
  std::uint32_t outstanding_ = 0;
  std::promise<void>* drained_ = nullptr;
};

// Runs `call` on a reactor's thread and waits for it.
template <class F>
void on(Reactor& reactor, F&& call) {
  std::promise<void> done;
  reactor.post([&] {
    call();
    done.set_value();
  });
  done.get_future().wait();
}

struct Machine {
  std::vector<std::unique_ptr<Reactor>> reactors;
  std::vector<std::unique_ptr<fabric::iwarp::IwarpFabric>> fabrics;
  std::vector<fabric::Fabric*> fabric_pointers;
  SystemRandom random;
  std::unique_ptr<client::Client> client;
  client::RemoteDevice* device = nullptr;
};

bool start(Machine& machine, const LoadOptions& options) {
  for (std::uint32_t i = 0; i < options.reactors; ++i) {
    ReactorOptions reactor_options;
    reactor_options.name = "bench-" + std::to_string(i);
    reactor_options.cpu = options.cpu < 0 ? -1
                                          : (options.cpu + static_cast<int>(i)) %
                                                static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
    reactor_options.spin_max = std::chrono::microseconds(options.spin_us);
    auto reactor = Reactor::create(reactor_options);
    if (!reactor) {
      std::fprintf(stderr, "rnbd-bench: load: no reactor: %s\n", reactor.error().message().c_str());
      return false;
    }
    machine.reactors.push_back(std::move(*reactor));
  }
  fabric::iwarp::Options fabric_options;
  if (options.crc == "on") fabric_options.crc = fabric::iwarp::CrcPolicy::on;
  if (options.crc == "off") fabric_options.crc = fabric::iwarp::CrcPolicy::off;
  for (auto& reactor : machine.reactors) {
    machine.fabrics.push_back(
        std::make_unique<fabric::iwarp::IwarpFabric>(*reactor, fabric_options));
    machine.fabric_pointers.push_back(machine.fabrics.back().get());
    reactor->start();
  }
  auto path = fabric::PathAddress::parse(options.path, options.port);
  if (!path) {
    std::fprintf(stderr, "rnbd-bench: load: bad address '%s'\n", options.path.c_str());
    return false;
  }
  std::promise<bool> opened;
  machine.reactors[0]->post([&] {
    client::ClientOptions client_options;
    client_options.session.name = "bench-" + std::to_string(::getpid());
    client_options.session.paths = {*path};
    auto made = client::Client::create(machine.fabric_pointers, 0, machine.random, client_options);
    if (!made) {
      std::fprintf(stderr, "rnbd-bench: load: %s\n", made.error().message().c_str());
      opened.set_value(false);
      return;
    }
    machine.client = std::move(*made);
    client::DeviceOptions device_options;
    device_options.path = options.volume;
    device_options.mode = options.write ? client::AccessMode::rw : client::AccessMode::ro;
    machine.client->open_device(
        device_options, [&](tl::expected<client::RemoteDevice*, client::Failure> device) {
          if (device) {
            machine.device = *device;
          } else {
            std::fprintf(stderr, "rnbd-bench: load: cannot open '%s': %s\n", options.volume.c_str(),
                         device.error().error.message().c_str());
          }
          opened.set_value(device.has_value());
        });
  });
  return opened.get_future().get();
}

void finish(Machine& machine) {
  std::promise<void> closed;
  machine.reactors[0]->post([&] {
    machine.client->close_device(*machine.device, [&](std::error_code) {
      machine.client->close([&] {
        // Not from inside the client's own call: it is on the stack.
        machine.reactors[0]->post([&] {
          machine.client.reset();
          closed.set_value();
        });
      });
    });
  });
  closed.get_future().wait();
  for (auto& reactor : machine.reactors) reactor->stop();
  for (auto& reactor : machine.reactors) reactor->join();
}

}  // namespace

int run_load(const LoadOptions& options) {
  Machine machine;
  if (!start(machine, options)) {
    std::fflush(nullptr);
    ::_exit(1);
  }
  std::vector<std::unique_ptr<Job>> jobs;
  for (std::uint32_t i = 0; i < options.jobs; ++i) {
    Reactor& reactor = *machine.reactors[i % machine.reactors.size()];
    on(reactor,
       [&] { jobs.push_back(std::make_unique<Job>(reactor, *machine.device, options, i + 1)); });
  }
  for (auto& job : jobs) on(job->reactor(), [&] { job->start(); });
  ::usleep(500'000);
  const auto cpu = [&] {
    return process_cpu_ns(::getpid()) +
           (options.server_pid > 0 ? process_cpu_ns(options.server_pid) : 0);
  };
  for (auto& job : jobs) on(job->reactor(), [&] { job->reset(); });
  const auto begin = now_ns();
  const auto cpu_begin = cpu();
  ::usleep(static_cast<useconds_t>(options.seconds * 1e6));
  Row row;
  row.what = "rnbd";
  row.size = options.size;
  for (auto& job : jobs) on(job->reactor(), [&] { row.latency.merge(job->latency()); });
  row.seconds = static_cast<double>(now_ns() - begin) / 1e9;
  row.ios = row.latency.count();
  row.cpu_us_per_io = static_cast<double>(cpu() - cpu_begin) / 1e3 /
                      static_cast<double>(std::max<std::uint64_t>(row.ios, 1));
  for (auto& job : jobs) {
    std::promise<void> drained;
    job->reactor().post([&] { job->stop(drained); });
    drained.get_future().wait();
    on(job->reactor(), [&] { job->close(); });
  }
  finish(machine);
  print_row(row);
  return row.ios > 0 ? 0 : 1;
}

}  // namespace rnbd::bench
