#include "sim/disk.h"

#include <algorithm>
#include <cerrno>

#include "base/mutation.h"

namespace rnbd::sim_test {

using fabric::sim::SimLoop;

namespace {

fabric::sim::DeviceOptions device_options(const VolumeConfig& config) {
  return {.name = config.name(),
          .size = std::uint64_t{config.blocks} * kBlock,
          .volatile_cache = config.volatile_cache,
          .latency = config.latency,
          .jitter = config.jitter,
          .tail_chance = 24,
          .tail = std::chrono::milliseconds(5)};
}

}  // namespace

// A queue of a handle, over one of the disk's.
class DiskQueue final : public block::Queue {
 public:
  DiskQueue(Disk& disk, const std::string& session, bool read_only,
            std::shared_ptr<Process> process, Loop& loop)
      : disk_(disk),
        session_(session),
        read_only_(read_only),
        process_(std::move(process)),
        loop_(loop),
        queue_(disk.device_.open_queue(loop).value()) {
    disk_.queues_.push_back(this);
    for (const DiskQueue* other : disk_.queues_) {
      if (read_only_ || other->read_only_ || other->session_ == session_) continue;
      if (process_->dead || other->process_->dead) continue;
      disk_.report_.violation("I4: volume %u is open for writing to '%s' and to '%s'",
                              disk_.config_.number, other->session_.c_str(), session_.c_str());
    }
  }
  ~DiskQueue() override { std::erase(disk_.queues_, this); }

  bool process_dead() const { return process_->dead; }
  bool holds_lock(const Process& other_than) const {
    return process_.get() != &other_than && outstanding_ > 0;
  }

  void submit(block::Request& request) override {
    if (process_->dead) {
      refused_.push_back(request);
      return loop_.defer(refused_task_);
    }
    if (request.op == block::Op::write) disk_.check_writer(request, session_);
    if (block::modifies(request.op)) {
      disk_.check_overlap(request);
      disk_.changing_.push_back(&request);
    }
    // The words of the driver are ours; the disk below does not use them.
    request.driver[0] = reinterpret_cast<std::uintptr_t>(request.done);
    request.driver[1] = reinterpret_cast<std::uintptr_t>(this);
    request.done = &DiskQueue::on_done;
    ++outstanding_;
    queue_->submit(request);
  }

 private:
  static void on_done(block::Request& request) {
    auto& self = *reinterpret_cast<DiskQueue*>(request.driver[1]);
    request.done = reinterpret_cast<void (*)(block::Request&)>(request.driver[0]);
    --self.outstanding_;
    self.disk_.on_told(request);
    request.done(request);
  }
  void refuse() {
    IntrusiveList<block::Request> all;
    all.splice_back(refused_);
    while (!all.empty()) {
      block::Request& request = all.pop_front();
      request.result = from_errno(EIO);
      request.done(request);
    }
  }

  Disk& disk_;
  const std::string session_;
  const bool read_only_;
  std::shared_ptr<Process> process_;  // see DiskHandle
  Loop& loop_;
  std::unique_ptr<block::Queue> queue_;
  std::uint32_t outstanding_ = 0;
  IntrusiveList<block::Request> refused_;  // a ghost's
  Task refused_task_ = Task::of<&DiskQueue::refuse>(this);
};

Disk::Disk(fabric::sim::World& world, const VolumeConfig& config, VolumeModel& model,
           const Report& report)
    : config_(config), model_(model), report_(report), device_(world, device_options(config)) {
  device_.set_error([this](const block::Request& request) { return on_request(request); });
}

bool Disk::locked_for(const Process& process) const {
  return std::ranges::any_of(queues_,
                             [&](const DiskQueue* queue) { return queue->holds_lock(process); });
}

void Disk::fail_next(std::uint32_t count, int error) {
  fail_next_ = count;
  fail_with_ = error;
}

void Disk::fail_flushes(std::uint32_t count) { fail_flushes_ = count; }

// A flush that fails leaves what it was to make safe unsafe for good, and only those are told who
// asked before it was known: the next one succeeds, as on Linux.
std::error_code Disk::on_request(const block::Request& request) {
  const bool hardens = request.op == block::Op::flush || (request.flags & block::kFua) != 0;
  // Of a dead process it would be told to nobody (docs/safety.md, what is left).
  if (hardens && reinterpret_cast<const DiskQueue*>(request.driver[1])->process_dead()) return {};
  int error = 0;
  if (hardens && failing_ > 0) error = EIO;
  if (error == 0 && request.op == block::Op::flush && fail_flushes_ > 0) {
    --fail_flushes_;
    error = EIO;
  }
  if (error == 0 && fail_next_ > 0) {
    --fail_next_;
    error = fail_with_;
  }
  if (error == 0) return {};
  ever_failed_ = true;
  if (hardens) {
    ++failing_;
    flush_failed_ = true;
    device_.forget_dirty();
  }
  report_.note("disk %u: %s of %llu at %llu fails", config_.number, block::op_name(request.op),
               static_cast<unsigned long long>(request.length / kBlock),
               static_cast<unsigned long long>(request.offset / kBlock));
  return from_errno(error);
}

// Two changes of the same bytes at once: their order would be the disk's choice (R3). Where the
// proof of another rule needs this one out of the way, what comes of it is what counts.
void Disk::check_overlap(const block::Request& request) const {
  for (unsigned rule = 1; rule <= static_cast<unsigned>(Rule::r16); ++rule) {
    if (rule != static_cast<unsigned>(Rule::r3) && broken(static_cast<Rule>(rule)) &&
        broken(Rule::r3))
      return;
  }
  for (const block::Request* other : changing_) {
    if (other->offset < request.offset + request.length &&
        request.offset < other->offset + other->length)
      report_.violation("R3: two changes of the same blocks of volume %u run at once",
                        config_.number);
  }
}

void Disk::on_told(const block::Request& request) {
  std::erase(changing_, &request);
  const bool hardens = request.op == block::Op::flush || (request.flags & block::kFua) != 0;
  if (hardens && request.result && failing_ > 0) --failing_;
}

void Disk::power_cut() {
  flush_failed_ = false;
  device_.power_cut();
  model_.power_lost();
}

// Whose bytes are these, and is it whom this was opened for?
void Disk::check_writer(const block::Request& request, const std::string& session) const {
  std::uint32_t client = 0;
  if (request.segments.empty() ||
      !model_.author(static_cast<const std::byte*>(request.segments[0].iov_base), client)) {
    return;  // what is no stamp is found when it is read
  }
  if (session == "client" + std::to_string(client)) return;
  report_.violation("I4: client%u writes to volume %u, which is open for writing to '%s'", client,
                    config_.number, session.c_str());
}

DiskHandle::DiskHandle(Disk& disk, std::string session, bool read_only,
                       std::shared_ptr<Process> process)
    : disk_(disk),
      name_(disk.config_.name()),
      session_(std::move(session)),
      read_only_(read_only),
      process_(std::move(process)) {
  ++disk_.handles_;
}

DiskHandle::~DiskHandle() { --disk_.handles_; }

block::Limits DiskHandle::limits() const {
  block::Limits limits = disk_.device_.limits();
  limits.read_only = read_only_;
  return limits;
}

Result<std::unique_ptr<block::Queue>> DiskHandle::open_queue(Loop& loop) {
  return std::make_unique<DiskQueue>(disk_, session_, read_only_, process_, loop);
}

void Opener::open(const std::string& session_name, const std::string& device_name,
                  server::AccessMode mode, Loop& loop,
                  std::function<void(Result<server::OpenedDevice>)> done) {
  world_.after(
      world_.some(std::chrono::microseconds(100)),
      [this, session_name, device_name, mode, done] {
        done(find(session_name, device_name, mode));
      },
      &static_cast<SimLoop&>(loop));
}

Result<server::OpenedDevice> Opener::find(const std::string& session, const std::string& name,
                                          server::AccessMode mode) {
  for (Disk* disk : disks_) {
    if (disk->config().name() != name) continue;
    const bool read_only = mode == server::AccessMode::ro;
    if (!read_only && disk->locked_for(*process_)) return fail_errno(EBUSY);
    server::OpenedDevice opened;
    opened.device = std::make_unique<DiskHandle>(*disk, session, read_only, process_);
    opened.identity = "disk:" + name;
    return opened;
  }
  return fail_errno(ENOENT);
}

void Opener::look(block::Device& device, Loop& loop,
                  std::function<void(Result<std::uint64_t>)> done) {
  world_.after(
      std::chrono::microseconds(50), [size = device.refresh_size(), done] { done(size); },
      &static_cast<SimLoop&>(loop));
}

void Opener::close(std::unique_ptr<block::Device> device, Loop& loop, std::function<void()> done) {
  world_.after(
      world_.some(std::chrono::microseconds(100)),
      [shared = std::shared_ptr<block::Device>(std::move(device)), done]() mutable {
        shared.reset();  // shared only because a std::function must be copyable
        done();
      },
      &static_cast<SimLoop&>(loop));
}

}  // namespace rnbd::sim_test
