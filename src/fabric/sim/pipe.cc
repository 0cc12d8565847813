#include "fabric/sim/pipe.h"

#include <algorithm>
#include <cerrno>

#include "fabric/sim/connection.h"
#include "fabric/sim/fabric.h"
#include "fabric/sim/world.h"

namespace rnbd::fabric::sim {

Pipe::Way::Way(Pipe& owner, int to) : pipe(owner), side(to) {}

Pipe::Pipe(World& world, Link* link, int initiator_side, const Address& source,
           const Address& destination)
    : world_(world),
      link_(link),
      initiator_side_(initiator_side),
      id_(world.next_id()),
      most_in_flight_(world.options().bytes_in_flight_max),
      addresses_{source, destination},
      ways_{{*this, 0}, {*this, 1}} {}

std::shared_ptr<Pipe> Pipe::create(World& world, Link* link, int initiator_side,
                                   const Address& source, const Address& destination) {
  auto pipe = std::make_shared<Pipe>(world, link, initiator_side, source, destination);
  if (link != nullptr) link->pipes_.push_back(*pipe);
  return pipe;
}

void Pipe::attach(int side, SimConnection& connection) {
  RNBD_ASSERT(ends_[side] == nullptr);
  ends_[side] = &connection;
}

void Pipe::detach(int side) {
  ends_[side] = nullptr;
  if (host(side) == nullptr || !host(side)->frames_die()) return;
  Way& way = ways_[1 - side];
  std::size_t landed = way.delivering ? 1 : 0;
  if (!held(way.side)) {
    while (landed < way.messages.size() && way.messages[landed].arrival <= world_.now()) ++landed;
  }
  for (std::size_t i = landed; i < way.messages.size(); ++i)
    way.bytes -= way.messages[i].payload.size();
  way.messages.truncate(landed);
  if (landed == 0) way.event.cancel();
}

void Pipe::lose(Way& way) {
  way.event.cancel();
  way.messages.clear();
  way.bytes = 0;
}

void Pipe::drop_held() {
  for (Way& way : ways_) {
    if (way.messages.empty() || !held(way.side)) continue;
    lose(way);
  }
}

Host* Pipe::host(int side) const {
  return link_ == nullptr ? nullptr
                          : link_->host_[side == 0 ? initiator_side_ : 1 - initiator_side_];
}

bool Pipe::held(int side) const {
  return link_ == nullptr || link_->down_ ||
         link_->ways_[side == 0 ? initiator_side_ : 1 - initiator_side_].held;
}

Message& Pipe::prepare(int from_side, Message::Kind kind) {
  Message& message = ways_[1 - from_side].messages.push();
  message.kind = kind;
  message.placed = false;
  message.payload.clear();
  return message;
}

void Pipe::launch(int from_side, Duration extra_delay) {
  Way& way = ways_[1 - from_side];
  Message& message = way.messages.back();
  if (severed_ || link_ == nullptr) return way.messages.clear();
  const Latency& latency =
      link_->ways_[way.side == 0 ? initiator_side_ : 1 - initiator_side_].latency;
  Duration delay = latency.base + world_.some(latency.jitter) + extra_delay;
  if (world_.chance(latency.tail_chance)) delay += world_.some(latency.tail);
  way.last = std::max(way.last, world_.now() + delay);
  way.bytes += message.payload.size();
  message.arrival = way.last;
  if (way.messages.size() == 1) schedule(way);
}

void Pipe::finish(int from_side, std::error_code why) {
  prepare(from_side, Message::Kind::finish).why = why;
  launch(from_side);
}

SimLoop* Pipe::receiver(Way& way) const {
  if (ends_[way.side] != nullptr) return &ends_[way.side]->sim_loop();
  if (way.messages.front().kind != Message::Kind::connect) return nullptr;
  SimListener* listener = host(1)->find_listener(addresses_[1]);
  return listener == nullptr ? nullptr : &listener->sim_loop();
}

void Pipe::schedule(Way& way) {
  if (way.messages.empty()) return;
  way.event.set_place(receiver(way), id_);
  world_.schedule(way.event, way.messages.front().arrival);
}

void Pipe::resume(int side) {
  Way& way = ways_[side];
  if (!way.delivering && !way.event.scheduled()) schedule(way);
}

void Pipe::expire() {
  for (Way& way : ways_) {
    if (way.messages.empty() || !held(way.side) || ends_[1 - way.side] != nullptr) continue;
    if (world_.now() - way.messages.front().arrival <= world_.options().lifetime) continue;
    lose(way);
  }
}

void Pipe::on_arrival(int side) {
  Way& way = ways_[side];
  if (held(side)) return;                // heal() resumes
  const auto self = shared_from_this();  // a handler may let go of the last end
  // The receiver may have moved since this was scheduled (a listener came or went, an end was
  // made).
  if (receiver(way) != way.event.loop()) return schedule(way);
  way.delivering = true;
  const bool delivered = deliver(side, way.messages.front());
  way.delivering = false;
  if (!delivered || severed_) return;
  pop(way);
  schedule(way);
}

void Pipe::pop(Way& way) {
  way.bytes -= way.messages.front().payload.size();
  const bool delivered_work = way.messages.front().kind == Message::Kind::work;
  way.messages.pop();
  if (SimConnection* sender = ends_[1 - way.side]) sender->on_room();
  if (delivered_work) count_delivery(way.side);
}

void Pipe::count_delivery(int side) {
  std::uint64_t& left = link_->ways_[side == 0 ? initiator_side_ : 1 - initiator_side_].reset_after;
  if (left == 0 || --left > 0) return;
  sever(world_.now(), from_errno(ECONNRESET));
}

bool Pipe::deliver(int side, Message& message) {
  const Host* at = host(side);
  if (message.kind == Message::Kind::connect) return deliver_connect(message);
  if (side == 1 && message.kind == Message::Kind::finish) given_up_ = true;
  SimConnection* end = ends_[side];
  if (end != nullptr) return end->deliver(message);
  if (at->up()) deliver_to_nobody(side, message);
  return true;
}

bool Pipe::deliver_connect(Message& message) {
  Host& at = *host(1);
  if (!at.up()) return true;
  SimListener* listener = at.find_listener(addresses_[1]);
  if (listener == nullptr || link_->refused_ > 0) {
    if (link_->refused_ > 0) --link_->refused_;
    finish(1, from_errno(ECONNREFUSED));
    return true;
  }
  if (link_->duplicated_ > 0) {
    --link_->duplicated_;
    duplicate_connect(message.payload);
  }
  listener->deliver(shared_from_this(), message.payload);
  return true;
}

// The same request once more, a little later, from an initiator that does not exist.
void Pipe::duplicate_connect(const std::vector<std::byte>& private_data) {
  auto twin = create(world_, link_, initiator_side_, addresses_[0], addresses_[1]);
  world_.after(world_.some(10 * link_->ways_[0].latency.jitter), [twin, private_data] {
    SimListener* listener =
        twin->host(1)->up() ? twin->host(1)->find_listener(twin->addresses_[1]) : nullptr;
    if (listener != nullptr)
      listener->sim_loop().post([twin, private_data] { twin->deliver_twin(private_data); });
  });
}

void Pipe::deliver_twin(std::span<const std::byte> private_data) {
  SimListener* listener = host(1)->up() ? host(1)->find_listener(addresses_[1]) : nullptr;
  // Not to the process that came after the one it was for.
  if (listener != nullptr && listener->sim_loop().on_this_thread())
    listener->deliver(shared_from_this(), private_data);
}

// As TCP answers what belongs to no connection. Once is enough.
void Pipe::deliver_to_nobody(int side, const Message& message) {
  if (message.kind == Message::Kind::finish || ways_[side].told_gone) return;
  ways_[side].told_gone = true;
  finish(side, from_errno(ECONNRESET));
}

void Pipe::sever(TimePoint time, std::error_code why) {
  severed_ = true;
  for (int side = 0; side < 2; ++side) {
    Way& way = ways_[side];
    place_part_of_head(side);
    way.event.cancel();
    way.messages.clear();
    way.bytes = 0;
    if (ends_[side] == nullptr) continue;
    ends_[side]->break_at(time + world_.some(world_.options().close_delay), why);
  }
  given_up_ = true;
}

// A connection may die in the middle of a write: some of its bytes have arrived.
void Pipe::place_part_of_head(int side) {
  Way& way = ways_[side];
  if (ends_[side] == nullptr || way.messages.empty() || held(side) || world_.chance(2)) return;
  Message& head = way.messages.front();
  if (head.kind != Message::Kind::work || head.placed || head.payload.empty()) return;
  if (head.op != Work::Op::write && head.op != Work::Op::write_imm) return;
  head.payload.resize(world_.random().below(head.payload.size() + 1));
  ends_[side]->place_part(head);
}

void Pipe::abandon(int side) {
  // What it sent last may still be under way, and lost or not.
  if (world_.chance(2)) lose(ways_[1 - side]);
  detach(side);
}

}  // namespace rnbd::fabric::sim
