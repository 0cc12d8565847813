// rnbd-stamp: loads devices and proves that every block shows what it must. See --help, and model.h
// for what "must" means.

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "stamp/load.h"

namespace {

using namespace rnbd::fault;
using namespace std::chrono_literals;
using Json = nlohmann::ordered_json;

enum Exit { kRight = 0, kWrong = 1, kUsage = 2, kErrors = 3, kHung = 4 };

struct Options {
  std::vector<std::string> devices;
  double seconds = 10;
  std::uint64_t operations = 0;
  std::size_t depth = 16;
  std::uint64_t blocks = 1024;
  std::size_t block_size = 4096;
  std::uint64_t seed = 1;
  std::string state, progress;
  double hang = 120;
  double interval = 1;
  double settle = 0;
  bool plain = false, allow_errors = false, reconnect = false, verify_only = false,
       power_lost = false, abandon = false;
};

volatile std::sig_atomic_t stop_asked = 0;

class Checker {
 public:
  explicit Checker(Options options) : options_(std::move(options)) {}
  int run();

 private:
  bool prepare();
  bool load_state();
  bool save_state();
  bool step();  // false: it hangs
  bool drain();
  void progress();
  std::uint64_t operations() const;
  bool all(bool (Load::*test)() const) const;
  int summary(bool hung);

  Options options_;
  std::uint64_t run_id_ = 0;
  std::vector<std::unique_ptr<Model>> models_;
  std::vector<std::unique_ptr<Load>> loads_;
  std::vector<std::uint64_t> intervals_;
  std::uint64_t counted_ = 0;
  std::uint64_t last_operations_ = 0;
  Clock::time_point started_, last_moved_, next_interval_;
};

Clock::duration span(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}
double milliseconds(Clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

bool Checker::load_state() {
  std::ifstream in(options_.state);
  if (!in) return !options_.verify_only;
  std::string word;
  std::size_t count = 0;
  if (!(in >> word >> run_id_ >> count) || word != "rnbd-stamp" || count != models_.size())
    return false;
  for (std::size_t i = 0; i < models_.size(); ++i) {
    models_[i] = std::make_unique<Model>(run_id_, i + 1, options_.blocks);
    if (!models_[i]->load(in)) return false;
    if (options_.power_lost) models_[i]->power_lost();
  }
  return true;
}

bool Checker::save_state() {
  if (options_.state.empty()) return true;
  const std::string temporary = options_.state + ".new";
  std::ofstream out(temporary);
  out << "rnbd-stamp " << run_id_ << ' ' << models_.size() << '\n';
  for (const auto& model : models_) model->save(out);
  out.close();
  return out && std::rename(temporary.c_str(), options_.state.c_str()) == 0;
}

bool Checker::prepare() {
  rnbd::SystemRandom system;
  run_id_ = system.next();  // so that bytes of an earlier run are never taken for ours
  for (std::size_t i = 0; i < options_.devices.size(); ++i)
    models_.push_back(std::make_unique<Model>(run_id_, i + 1, options_.blocks));
  if (!options_.state.empty() && !load_state()) {
    fmt::print(stderr, "rnbd-stamp: {}: not the state of these devices\n", options_.state);
    return false;
  }
  for (std::size_t i = 0; i < options_.devices.size(); ++i) {
    const std::string& name = options_.devices[i];
    auto load = std::make_unique<Load>(*models_[i], LoadOptions{.seed = options_.seed * 1000 + i,
                                                                .operations = options_.operations,
                                                                .depth = options_.depth,
                                                                .block_size = options_.block_size,
                                                                .reads_only = options_.verify_only,
                                                                .plain = options_.plain});
    auto target = name.starts_with("nbd")
                      ? open_nbd_target(name, *load, {.reconnect = options_.reconnect})
                      : open_file_target(name, *load, static_cast<unsigned>(options_.depth));
    if (!target) {
      fmt::print(stderr, "rnbd-stamp: {}: {}\n", name, target.error().message());
      return false;
    }
    if ((*target)->abilities().size < options_.blocks * options_.block_size) {
      fmt::print(stderr, "rnbd-stamp: {}: smaller than --blocks\n", name);
      return false;
    }
    load->attach(std::move(*target));
    loads_.push_back(std::move(load));
  }
  return true;
}

std::uint64_t Checker::operations() const {
  std::uint64_t sum = 0;
  for (const auto& load : loads_) sum += load->report().operations();
  return sum;
}

bool Checker::all(bool (Load::*test)() const) const {
  return std::all_of(loads_.begin(), loads_.end(),
                     [&](const auto& load) { return (*load.*test)(); });
}

bool Checker::step() {
  for (auto& load : loads_) load->pump();
  std::vector<pollfd> descriptors;
  for (auto& load : loads_)
    descriptors.push_back(
        {.fd = load->target().descriptor(), .events = load->target().events(), .revents = 0});
  (void)::poll(descriptors.data(), descriptors.size(), 10);
  for (std::size_t i = 0; i < loads_.size(); ++i) loads_[i]->target().work(descriptors[i].revents);
  progress();
  return Clock::now() - last_moved_ < span(options_.hang);
}

void Checker::progress() {
  const Clock::time_point now = Clock::now();
  const std::uint64_t sum = operations();
  if (sum != last_operations_) last_moved_ = now;
  last_operations_ = sum;
  if (now < next_interval_) return;
  next_interval_ += span(options_.interval);
  intervals_.push_back(sum - std::exchange(counted_, sum));
}

bool Checker::drain() {
  while (!all(&Load::idle))
    if (!step()) return false;
  return true;
}

int Checker::run() {
  if (!prepare()) return kUsage;
  started_ = last_moved_ = Clock::now();
  next_interval_ = started_ + span(options_.interval);
  bool hung = false;
  std::FILE* progress_file =
      options_.progress.empty() ? nullptr : std::fopen(options_.progress.c_str(), "w");
  while (!hung && !stop_asked && !all(&Load::stopped)) {
    if (options_.seconds > 0 && Clock::now() - started_ > span(options_.seconds)) break;
    hung = !step();
    if (!progress_file) continue;
    std::rewind(progress_file);
    fmt::print(progress_file, "{:020}\n", last_operations_);
    std::fflush(progress_file);
  }
  if (progress_file) std::fclose(progress_file);
  for (auto& load : loads_) load->stop();
  if (options_.abandon) {
    for (auto& load : loads_) load->abandon();
  } else {
    hung = hung || !drain();
    const auto settled = Clock::now() + span(options_.settle);
    while (!hung && Clock::now() < settled) (void)::poll(nullptr, 0, 10);
    last_moved_ = Clock::now();
    for (auto& load : loads_) load->read_back();
    while (!hung && !all(&Load::done)) hung = !step();
  }
  const int status = summary(hung);
  if (!save_state()) {
    fmt::print(stderr, "rnbd-stamp: cannot write {}\n", options_.state);
    return kUsage;
  }
  std::fflush(stdout);
  if (!all(&Load::idle)) ::_exit(status);  // requests may still fill our memory
  return status;
}

int Checker::summary(bool hung) {
  Json json{{"seed", options_.seed}, {"seconds", milliseconds(Clock::now() - started_) / 1000}};
  LoadReport sum;
  std::uint64_t reconnects = 0;
  Json errors = Json::array();
  for (const auto& load : loads_) {
    const LoadReport& one = load->report();
    sum.reads += one.reads;
    sum.writes += one.writes;
    sum.zeroes += one.zeroes;
    sum.trims += one.trims;
    sum.flushes += one.flushes;
    sum.blocks_judged += one.blocks_judged;
    sum.lost += one.lost;
    sum.errors += one.errors;
    sum.wrong += one.wrong;
    sum.error_numbers.insert(one.error_numbers.begin(), one.error_numbers.end());
    sum.violations.insert(sum.violations.end(), one.violations.begin(), one.violations.end());
    sum.longest_request = std::max(sum.longest_request, one.longest_request);
    sum.longest_gap = std::max(sum.longest_gap, one.longest_gap);
    reconnects += load->target().reconnects();
  }
  json["operations"] = {{"all", sum.operations()}, {"reads", sum.reads}, {"writes", sum.writes},
                        {"zeroes", sum.zeroes},    {"trims", sum.trims}, {"flushes", sum.flushes}};
  json["blocks_judged"] = sum.blocks_judged;
  json["errors"] = sum.errors;
  json["error_numbers"] = sum.error_numbers;
  json["lost"] = sum.lost;
  json["reconnects"] = reconnects;
  json["longest_request_ms"] = milliseconds(sum.longest_request);
  json["longest_gap_ms"] = milliseconds(sum.longest_gap);
  json["interval_ms"] = options_.interval * 1000;
  json["intervals"] = intervals_;
  json["hung"] = hung;
  json["wrong"] = sum.wrong;
  json["violations"] = sum.violations;
  fmt::print("{}\n", json.dump());
  if (sum.wrong > 0) return kWrong;
  if (hung) return kHung;
  return sum.errors > 0 && !options_.allow_errors ? kErrors : kRight;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Loads devices with stamped blocks and judges every read; prints one JSON object.\n"
      "Exit status: 0 all right, 1 a block was wrong, 2 usage, 3 a request failed, 4 it hung.",
      "rnbd-stamp"};
  app.add_option("device", options.devices, "NBD URIs, files or block devices; loaded side by side")
      ->required();
  app.add_option("--seconds", options.seconds, "length of the load; 0: until SIGTERM");
  app.add_option("--operations", options.operations, "requests per device; 0: no limit");
  app.add_option("--depth", options.depth, "requests under way per device")
      ->check(CLI::Range(1, 1024));
  app.add_option("--blocks", options.blocks, "blocks of each device that are used")
      ->check(CLI::PositiveNumber);
  app.add_option("--block-size", options.block_size, "bytes")
      ->check(CLI::IsMember({512, 4096, 16384, 65536}));
  app.add_option("--seed", options.seed, "of the load");
  app.add_option("--state", options.state,
                 "what is known is read from this file, and written to it");
  app.add_option("--progress", options.progress, "file with the number of requests that succeeded");
  app.add_option("--hang", options.hang, "seconds without any success that count as hung");
  app.add_option("--interval", options.interval, "seconds of one number of `intervals`");
  app.add_option("--settle", options.settle,
                 "seconds between the load and the reading of the whole");
  app.add_flag("--allow-errors", options.allow_errors,
               "requests may fail; their fate is unknown then");
  app.add_flag("--plain", options.plain, "reads and writes only");
  app.add_flag("--reconnect", options.reconnect, "NBD: connect again when the connection is gone");
  app.add_flag("--verify-only", options.verify_only, "only read the whole, with --state");
  app.add_flag("--power-lost", options.power_lost,
               "what was not flushed may be gone since --state");
  app.add_flag("--abandon", options.abandon, "end at once: what is under way is of unknown fate");
  CLI11_PARSE(app, argc, argv);
  if (options.verify_only && options.state.empty()) {
    fmt::print(stderr, "rnbd-stamp: --verify-only needs --state\n");
    return kUsage;
  }
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGTERM, [](int) { stop_asked = 1; });
  std::signal(SIGINT, [](int) { stop_asked = 1; });
  return Checker(std::move(options)).run();
}
