#include "fabric/sim/link.h"

#include <cerrno>

#include "fabric/sim/connection.h"
#include "fabric/sim/pipe.h"
#include "fabric/sim/world.h"

namespace rnbd::fabric::sim {

Link::Link(World& world, Host& a, std::size_t on_a, Host& b, std::size_t on_b,
           const Latency& latency)
    : world_(world), host_{&a, &b}, on_{on_a, on_b} {
  set_latency(latency);
}

void Link::cut(Duration notice) {
  down_ = true;
  pipes_.for_each([&](Pipe& pipe) { pipe.sever(world_.now() + notice, from_errno(ETIMEDOUT)); });
}

void Link::reset() {
  pipes_.for_each([&](Pipe& pipe) { pipe.sever(world_.now(), from_errno(ECONNRESET)); });
}

bool Link::reset_one(std::size_t nth) {
  bool found = false;
  std::size_t index = 0;
  pipes_.for_each([&](Pipe& pipe) {
    if (index++ != nth) return;
    pipe.sever(world_.now(), from_errno(ECONNRESET));
    found = true;
  });
  return found;
}

void Link::black_hole() { ways_[0].held = ways_[1].held = true; }

void Link::black_hole_towards(const Host& receiver) {
  for (int side = 0; side < 2; ++side) {
    if (host_[side] == &receiver) ways_[side].held = true;
  }
}

void Link::break_ends_at(const Host& host) {
  pipes_.for_each([&](Pipe& pipe) {
    for (int side = 0; side < 2; ++side) {
      if (pipe.host(side) == &host && pipe.end(side) != nullptr)
        pipe.end(side)->break_at(world_.now(), from_errno(ETIMEDOUT));
    }
  });
}

void Link::drop_held() {
  pipes_.for_each([](Pipe& pipe) { pipe.drop_held(); });
}

std::size_t Link::undelivered_towards(const Host& receiver) {
  std::size_t sum = 0;
  pipes_.for_each([&](Pipe& pipe) {
    for (int side = 0; side < 2; ++side) {
      if (pipe.host(side) == &receiver) sum += pipe.undelivered(side);
    }
  });
  return sum;
}

void Link::heal() {
  pipes_.for_each([](Pipe& pipe) { pipe.expire(); });
  down_ = false;
  ways_[0].held = ways_[1].held = false;
  pipes_.for_each([](Pipe& pipe) {
    pipe.resume(0);
    pipe.resume(1);
  });
}

void Link::set_latency(const Latency& latency) { ways_[0].latency = ways_[1].latency = latency; }

void Link::set_latency_towards(const Host& receiver, const Latency& latency) {
  for (int side = 0; side < 2; ++side) {
    if (host_[side] == &receiver) ways_[side].latency = latency;
  }
}

void Link::reset_after(const Host& receiver, std::uint64_t count) {
  for (int side = 0; side < 2; ++side) {
    if (host_[side] == &receiver) ways_[side].reset_after = count;
  }
}

void Link::stall_completions(Duration time) { stalled_until_ = world_.now() + time; }

}  // namespace rnbd::fabric::sim
