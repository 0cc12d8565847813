// The words of the command line, one per line: parsed, and what they ask for.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "app/cli/attr.h"
#include "app/cli/change.h"
#include "app/cli/command.h"
#include "app/cli/words.h"
#include "daemon/admin/protocol.h"

using namespace rnbd;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::string> words(1);
  for (std::size_t i = 0; i < size && words.size() < 64; ++i) {
    if (data[i] == '\n')
      words.emplace_back();
    else
      words.back() += static_cast<char>(data[i]);
  }
  const auto command = cli::parse_command(words, "");
  if (!command) {
    if (command.error().what.empty()) std::abort();  // a refusal says why
    return 0;
  }
  if (command->interval.count() <= 0 || command->timeout.count() <= 0) std::abort();
  if (cli::is_change(command->verb)) {
    const auto request = cli::parse_change(*command);
    if (!request) return 0;
    // What is asked for arrives as it was meant, unless it is no text at all.
    const auto again = daemon::decode_request(daemon::encode(*request));
    if (again && again->command != request->command) std::abort();
    (void)cli::intent(*request);
  }
  if (command->verb == cli::Verb::map) (void)cli::parse_map_words(command->words, "host", 4);
  if (command->verb == cli::Verb::unmap || command->verb == cli::Verb::show)
    (void)cli::parse_target_words(command->words, "host", 4);
  if (command->verb == cli::Verb::attr) (void)cli::parse_attr(command->words);
  return 0;
}
