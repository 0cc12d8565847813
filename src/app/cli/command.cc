#include "app/cli/command.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "app/cli/change.h"
#include "base/log.h"
#include "daemon/admin/suggest.h"
#include "daemon/admin/units.h"

namespace rnbd::cli {
namespace {

using daemon::MapRequest;
using daemon::Outcome;
using daemon::usage_problem;

template <class T>
struct Word {
  std::string_view text;
  T meaning;
};

constexpr std::array kVerbs{
    Word<Verb>{"map", Verb::map},
    Word<Verb>{"unmap", Verb::unmap},
    Word<Verb>{"list", Verb::list},
    Word<Verb>{"show", Verb::show},
    Word<Verb>{"ping", Verb::ping},
    Word<Verb>{"demo", Verb::demo},
    Word<Verb>{"help", Verb::help},
    Word<Verb>{"version", Verb::version},
    Word<Verb>{"add", Verb::add},
    Word<Verb>{"remove", Verb::remove},
    Word<Verb>{"delete", Verb::remove},
    Word<Verb>{"del", Verb::remove},
    Word<Verb>{"disconnect", Verb::disconnect},
    Word<Verb>{"dis", Verb::disconnect},
    Word<Verb>{"reconnect", Verb::reconnect},
    Word<Verb>{"set", Verb::set},
};
constexpr std::array kSides{
    Word<Side>{"client", Side::client}, Word<Side>{"clt", Side::client},
    Word<Side>{"cli", Side::client},    Word<Side>{"server", Side::server},
    Word<Side>{"serv", Side::server},   Word<Side>{"srv", Side::server},
};
constexpr std::array kTargets{
    Word<Target>{"device", Target::device},    Word<Target>{"devices", Target::device},
    Word<Target>{"dev", Target::device},       Word<Target>{"session", Target::session},
    Word<Target>{"sessions", Target::session}, Word<Target>{"sess", Target::session},
    Word<Target>{"path", Target::path},        Word<Target>{"paths", Target::path},
};
constexpr std::array kOutputs{
    Word<Output>{"table", Output::table},
    Word<Output>{"json", Output::json},
    Word<Output>{"csv", Output::csv},
    Word<Output>{"xml", Output::xml},
};
constexpr std::array<std::string_view, 3> kModes{"ro", "rw", "migration"};
constexpr std::array<std::string_view, 16> kOptions{
    "--help",    "--version", "--output",    "--no-headers", "--verbose", "--quiet",
    "--dry-run", "--force",   "--exclusive", "--timeout",    "--socket",  "--json",
    "--yes",     "--keep",    "--wait",      "--frontend"};

template <class T, std::size_t N>
std::optional<T> find(const std::array<Word<T>, N>& words, std::string_view text) {
  for (const Word<T>& word : words)
    if (word.text == text) return word.meaning;
  return std::nullopt;
}

template <class T, std::size_t N>
std::vector<std::string_view> texts(const std::array<Word<T>, N>& words) {
  std::vector<std::string_view> all;
  for (const Word<T>& word : words) all.push_back(word.text);
  return all;
}

class Parser {
 public:
  explicit Parser(const std::vector<std::string>& words) : words_(words) {}

  Outcome<Command> parse(std::string_view default_output) {
    if (!default_output.empty())
      if (auto set = set_output(default_output); !set) return tl::unexpected(set.error());
    while (at_ < words_.size()) {
      const std::string& word = words_[at_++];
      bool option = !only_words_ && word.size() > 1 && word.starts_with('-');
      if (option && word == "--") {
        only_words_ = true;
        continue;
      }
      auto taken = option ? take_option(word) : take_word(word);
      if (!taken) return tl::unexpected(taken.error());
    }
    if (help_) {
      // "rnbd map --help" is "rnbd help map".
      if (have_verb_ && command_.verb != Verb::help) command_.words = {std::string(verb_text_)};
      command_.verb = Verb::help;
      return command_;
    }
    if (!have_verb_) return usage_problem("no command given", "'rnbd help' lists them");
    return command_;
  }

 private:
  Outcome<void> take_word(const std::string& word) {
    if (have_verb_) return take_argument(word);
    if (auto verb = find(kVerbs, word)) {
      command_.verb = *verb;
      have_verb_ = true;
      verb_text_ = word;
      return {};
    }
    if (auto side = find(kSides, word); side && command_.side == Side::any) {
      command_.side = *side;
      return {};
    }
    if (auto target = find(kTargets, word); target && command_.target == Target::any) {
      command_.target = *target;
      return {};
    }
    std::vector<std::string_view> known = texts(kVerbs);
    std::string meant = daemon::nearest(word, known);
    if (meant.empty()) {
      known.insert(known.end(), {"client", "server", "device", "devices", "session", "sessions",
                                 "path", "paths"});
      return usage_problem(fmt::format("unknown command '{}'", printable(word)),
                           daemon::suggestion(word, known));
    }
    return usage_problem(fmt::format("unknown command '{}'", printable(word)),
                         fmt::format("did you mean '{}'?", meant));
  }

  // Words after the verb: options said as words where the verb has no such argument, else
  // arguments.
  Outcome<void> take_argument(const std::string& word) {
    bool listing = command_.verb == Verb::list || command_.verb == Verb::show;
    if (word == "help" && command_.words.empty() && command_.verb != Verb::help) {
      help_ = true;
      return {};
    }
    if (listing) {
      if (auto output = find(kOutputs, word))
        return void(command_.output = *output), Outcome<void>{};
      if (word == "noheaders") return void(command_.headers = false), Outcome<void>{};
      if (word == "verbose") return void(command_.verbose = true), Outcome<void>{};
      if (word == "nototals" || word == "notree") return {};  // there are none here
      if (auto target = find(kTargets, word);
          target && command_.target == Target::any && command_.verb == Verb::list)
        return void(command_.target = *target), Outcome<void>{};
    }
    // "add path …" is "path add …".
    if (is_change(command_.verb) && command_.words.empty() && command_.target == Target::any)
      if (auto target = find(kTargets, word))
        return void(command_.target = *target), Outcome<void>{};
    command_.words.push_back(word);
    return {};
  }

  Outcome<void> take_option(const std::string& word) {
    if (!word.starts_with("--")) return take_short_options(word);
    std::size_t equals = word.find('=');
    std::string name = word.substr(0, equals);
    value_ = equals == std::string::npos ? std::nullopt : std::optional(word.substr(equals + 1));
    auto taken = take_long(name);
    if (taken && value_) return usage_problem(fmt::format("{} takes no value", name));
    return taken;
  }

  Outcome<void> take_long(const std::string& name) {
    if (name == "--help") return set(help_);
    if (name == "--version") return set_verb(Verb::version);
    if (name == "--no-headers") return set_false(command_.headers);
    if (name == "--verbose") return set(command_.verbose);
    if (name == "--quiet") return set(command_.quiet);
    if (name == "--dry-run") return set(command_.dry_run);
    if (name == "--force") return set(command_.force);
    if (name == "--exclusive") return set(command_.exclusive);
    if (name == "--keep") return set(command_.keep);
    if (name == "--json") return set_output("json");
    if (name == "--yes" || name == "--wait") return {};  // we never ask, and always wait
    if (name == "--output")
      return with_value(name, [this](std::string_view v) { return set_output(v); });
    if (name == "--socket")
      return with_value(name, [this](std::string_view v) { return set_socket(v); });
    if (name == "--frontend")
      return with_value(name, [this](std::string_view v) { return set_frontend(v); });
    if (name == "--timeout")
      return with_value(name, [this](std::string_view v) { return set_timeout(v); });
    return usage_problem(fmt::format("unknown option '{}'", printable(name)),
                         daemon::suggestion(name, kOptions));
  }

  Outcome<void> take_short_options(const std::string& word) {
    for (std::size_t i = 1; i < word.size(); ++i) {
      value_.reset();
      bool takes_value = word[i] == 'o';
      if (takes_value && i + 1 < word.size()) value_ = word.substr(i + 1);
      auto taken = take_short(word[i]);
      if (!taken) return taken;
      if (takes_value) return {};
    }
    return {};
  }

  Outcome<void> take_short(char letter) {
    switch (letter) {
      case 'h':
        return set(help_);
      case 'V':
        return set_verb(Verb::version);
      case 'v':
        return set(command_.verbose);
      case 'q':
        return set(command_.quiet);
      case 'n':
        return set(command_.dry_run);
      case 'f':
        return set(command_.force);
      case 'y':
        return {};
      case 'o':
        return with_value("-o", [this](std::string_view v) { return set_output(v); });
      default:
        return usage_problem(fmt::format("unknown option '-{}'", printable(std::string(1, letter))),
                             "'rnbd help' lists them");
    }
  }

  template <class F>
  Outcome<void> with_value(const std::string& name, F&& use) {
    std::optional<std::string> value = std::exchange(value_, std::nullopt);
    if (!value && at_ < words_.size()) value = words_[at_++];
    if (!value || value->empty()) return usage_problem(fmt::format("{} needs a value", name));
    return use(std::string_view(*value));
  }

  static Outcome<void> set(bool& flag) {
    flag = true;
    return {};
  }
  static Outcome<void> set_false(bool& flag) {
    flag = false;
    return {};
  }
  Outcome<void> set_verb(Verb verb) {
    command_.verb = verb;
    have_verb_ = true;
    return {};
  }
  Outcome<void> set_output(std::string_view text) {
    auto output = find(kOutputs, text);
    if (!output)
      return usage_problem(fmt::format("unknown output '{}'", printable(text)),
                           daemon::suggestion(text, texts(kOutputs)));
    command_.output = *output;
    return {};
  }
  Outcome<void> set_socket(std::string_view text) {
    command_.socket = text;
    return {};
  }
  Outcome<void> set_frontend(std::string_view text) {
    if (!daemon::is_frontend_name(text))
      return usage_problem(fmt::format("unknown frontend '{}'", printable(text)),
                           "ublk, loop, fuse, nbd or auto");
    command_.frontend = text;
    return {};
  }
  Outcome<void> set_timeout(std::string_view text) {
    auto timeout = daemon::parse_duration(text);
    if (!timeout || timeout->count() <= 0)
      return usage_problem(fmt::format("'{}' is not a time", printable(text)), "5s, 500ms, 2m");
    command_.timeout = *timeout;
    return {};
  }

  const std::vector<std::string>& words_;
  std::size_t at_ = 0;
  bool only_words_ = false;
  bool have_verb_ = false;
  bool help_ = false;
  std::string verb_text_;
  std::optional<std::string> value_;  // of --name=value
  Command command_;
};

std::string join_words(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + word;
  return line;
}

// "<volume> from <address>[, <address>…] [mode]"
Outcome<MapRequest> parse_from(const std::vector<std::string>& words, const std::string& host) {
  MapRequest request;
  request.device_path = words[0];
  if (words.size() < 3)
    return usage_problem("'from' needs a server", "rnbd map vol0 from 10.0.0.1");
  for (std::size_t i = 2; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (std::find(kModes.begin(), kModes.end(), word) != kModes.end()) {
      request.access_mode = word;
      continue;
    }
    auto path = daemon::parse_path_spec(word, daemon::kDefaultPort);
    for (std::string_view prefix : {"ip:", "host:"})
      if (!path) path = daemon::parse_path_spec(std::string(prefix) + word, daemon::kDefaultPort);
    if (!path)
      return usage_problem(fmt::format("'{}' is no address and no host name", printable(word)),
                           "rnbd map vol0 from 10.0.0.1");
    request.paths.push_back(*path);
  }
  if (request.paths.empty())
    return usage_problem("'from' needs a server", "rnbd map vol0 from 10.0.0.1");
  request.session = daemon::default_session_name(host, request.paths[0]);
  return request;
}

bool says_key(const std::vector<std::string>& words) {
  return std::any_of(words.begin(), words.end(),
                     [](const std::string& w) { return w.find('=') != std::string::npos; });
}

}  // namespace

Outcome<Command> parse_command(const std::vector<std::string>& words,
                               std::string_view default_output) {
  return Parser(words).parse(default_output);
}

Outcome<MapRequest> parse_map_words(const std::vector<std::string>& words, const std::string& host,
                                    int cpus) {
  if (words.empty())
    return usage_problem("map what?",
                         "rnbd map rnbd://host/volume, or sessname=… path=ip:… device_path=…");
  if (daemon::looks_like_uri(words[0])) {
    if (words.size() > 1)
      return usage_problem(fmt::format("'{}' after the URI is not understood", printable(words[1])),
                           "options of a URI go behind '?': ?mode=ro");
    auto request = daemon::parse_uri(words[0]);
    if (request && request->session.empty())
      request->session = daemon::default_session_name(host, request->paths[0]);
    return request;
  }
  if (words.size() > 1 && words[1] == "from") return parse_from(words, host);
  if (!says_key(words))
    return usage_problem(fmt::format("where is '{}'?", printable(words[0])),
                         fmt::format("rnbd map {} from 10.0.0.1, or rnbd://10.0.0.1/{}",
                                     printable(words[0]), printable(words[0])));
  return daemon::parse_map_line(join_words(words), cpus);
}

Outcome<TargetWords> parse_target_words(const std::vector<std::string>& words,
                                        const std::string& host, int cpus) {
  TargetWords result;
  std::vector<std::string> rest = words;
  if (rest.size() > 1 && (rest.back() == "force" || rest.back() == "normal")) {
    result.force = rest.back() == "force";
    rest.pop_back();
  }
  if (rest.empty())
    return usage_problem(
        "which one?",
        "name the device: rnbd0, its volume, or the words that mapped it; see 'rnbd list'");
  bool mapping_words = (daemon::looks_like_uri(rest[0]) && rest[0].starts_with("rnbd")) ||
                       says_key(rest) || (rest.size() > 1 && rest[1] == "from");
  bool nbd = rest[0].starts_with("nbd");
  if (mapping_words && !nbd) {
    auto request = parse_map_words(rest, host, cpus);
    if (!request) return tl::unexpected(request.error());
    result.target = request->device_path;
    result.session = request->session;
    return result;
  }
  if (rest.size() > 1)
    return usage_problem(
        fmt::format("'{}' after '{}' is not understood", printable(rest[1]), printable(rest[0])),
        "one device at a time");
  result.target = rest[0];
  return result;
}

}  // namespace rnbd::cli
