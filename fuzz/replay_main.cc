// Runs a fuzz target without a fuzzer: over every file of its corpus and, for each, a bounded
// number of mutations. They are deterministic, so a failure repeats; the words on stderr say which
// one it was.
//   replay_NAME CORPUS [MUTATIONS]

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/random.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::size_t kMutationsDefault = 20000;  // of the whole corpus
constexpr std::size_t kGrowthMax = 64;

// What is running, for the words on stderr.
std::string current_file;
std::size_t current_mutation = 0;

void report() {
  std::fprintf(stderr, "\nreplay: failed in %s, mutation %zu\n", current_file.c_str(),
               current_mutation);
}

void on_signal(int number) {
  report();
  std::signal(number, SIG_DFL);
  std::raise(number);
}

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// Numbers parsers trip over, in the bytes of either order.
void put_interesting(Bytes& bytes, rnbd::Random& random) {
  constexpr std::uint64_t kNumbers[] = {0,
                                        1,
                                        2,
                                        255,
                                        256,
                                        4095,
                                        4096,
                                        32767,
                                        32768,
                                        65535,
                                        65536,
                                        131072,
                                        0x7fffffff,
                                        0x80000000,
                                        0xfffffffe,
                                        0xffffffff,
                                        0x7fffffffffffffff,
                                        0xffffffffffffffff};
  const std::size_t width = std::size_t{1} << random.below(4);
  if (bytes.size() < width) return;
  const std::size_t at = random.below(bytes.size() - width + 1);
  const std::uint64_t number = kNumbers[random.below(std::size(kNumbers))];
  const bool big_endian = random.below(2) != 0;
  for (std::size_t i = 0; i < width; ++i) {
    const std::size_t place = big_endian ? width - 1 - i : i;
    bytes[at + place] = static_cast<std::uint8_t>(number >> (8 * i));
  }
}

void mutate_once(Bytes& bytes, const std::vector<Bytes>& corpus, rnbd::Random& random) {
  const auto index = [&] { return random.below(bytes.size()); };
  switch (random.below(8)) {
    case 0:
      if (!bytes.empty()) bytes[index()] ^= static_cast<std::uint8_t>(1U << random.below(8));
      break;
    case 1:
      if (!bytes.empty()) bytes[index()] = static_cast<std::uint8_t>(random.next());
      break;
    case 2:
    case 3:
      put_interesting(bytes, random);
      break;
    case 4:  // cut
      bytes.resize(random.below(bytes.size() + 1));
      break;
    case 5:  // grow
      bytes.resize(bytes.size() + random.below(kGrowthMax),
                   static_cast<std::uint8_t>(random.next()));
      break;
    case 6:  // remove one
      if (!bytes.empty()) bytes.erase(bytes.begin() + static_cast<std::ptrdiff_t>(index()));
      break;
    default: {  // the head of this one, the tail of another
      const Bytes& other = corpus[random.below(corpus.size())];
      const std::size_t cut = std::min<std::size_t>(random.below(bytes.size() + 1), other.size());
      bytes.resize(cut);
      bytes.insert(bytes.end(), other.begin() + static_cast<std::ptrdiff_t>(cut), other.end());
    }
  }
}

void run(const Bytes& bytes) {
  // A copy of exactly this size, so that a sanitizer sees one byte too far.
  const Bytes exact(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s CORPUS [MUTATIONS]\n", argv[0]);
    return 2;
  }
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1], error))
    files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    std::fprintf(stderr, "replay: no corpus in %s\n", argv[1]);
    return 1;
  }
  std::vector<Bytes> corpus;
  for (const auto& file : files) corpus.push_back(read_file(file));

  for (const int number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL})
    std::signal(number, on_signal);
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(report);

  const std::size_t mutations = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : kMutationsDefault;
  const std::size_t per_file = mutations / files.size() + 1;
  for (std::size_t i = 0; i < files.size(); ++i) {
    current_file = files[i].string();
    current_mutation = 0;
    run(corpus[i]);
    rnbd::SeededRandom random(i);
    for (std::size_t n = 1; n <= per_file; ++n) {
      current_mutation = n;
      Bytes bytes = corpus[i];
      for (std::uint64_t steps = 1 + random.below(4); steps > 0; --steps)
        mutate_once(bytes, corpus, random);
      run(bytes);
    }
  }
  std::printf("replay: %zu files, %zu mutations of each\n", files.size(), per_file);
  return 0;
}
