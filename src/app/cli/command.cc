#include "app/cli/command.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "app/cli/fields.h"
#include "base/log.h"
#include "daemon/admin/map_request.h"
#include "daemon/admin/suggest.h"
#include "daemon/admin/units.h"

namespace rnbd::cli {
namespace {

using daemon::Outcome;
using daemon::usage_problem;

template <class T>
std::optional<T> find(std::span<const Word<T>> words, std::string_view text) {
  for (const Word<T>& word : words)
    if (word.text == text) return word.meaning;
  return std::nullopt;
}

template <class T>
void add_texts(std::vector<std::string_view>& texts, std::span<const Word<T>> words) {
  for (const Word<T>& word : words) texts.push_back(word.text);
}

// Commands that list things: words after them are options before they are names.
bool lists(Verb verb) {
  return verb == Verb::list || verb == Verb::show || verb == Verb::dump || verb == Verb::tree ||
         verb == Verb::top;
}
// Commands without arguments that could be mistaken for an option said as a word.
bool takes_no_name(Verb verb) {
  return lists(verb) || verb == Verb::events || verb == Verb::ping || verb == Verb::apply ||
         verb == Verb::diff || verb == Verb::doctor;
}
bool names_devices(Verb verb) {
  return verb == Verb::map || verb == Verb::unmap || verb == Verb::resize || verb == Verb::remap ||
         verb == Verb::close;
}
// Their arguments are anything.
bool takes_anything(Verb verb) {
  return verb == Verb::attr || verb == Verb::help || verb == Verb::completion || verb == Verb::demo;
}

// "name,size", "+error", "-users", "all"
bool says_fields(std::string_view word) {
  if (word.starts_with('+') || word.starts_with('-')) word.remove_prefix(1);
  if (word.empty() || word.ends_with(',')) return false;
  for (;;) {
    const std::size_t comma = word.find(',');
    if (!is_field_name(word.substr(0, comma))) return false;
    if (comma == std::string_view::npos) return true;
    word.remove_prefix(comma + 1);
  }
}

class Parser {
 public:
  explicit Parser(const std::vector<std::string>& words) : words_(words) {}

  Outcome<Command> parse(std::string_view default_output) {
    if (!default_output.empty())
      if (auto set = set_output(default_output); !set) return tl::unexpected(set.error());
    while (at_ < words_.size()) {
      const std::string& word = words_[at_++];
      if (!only_words_ && word == "--") {
        only_words_ = true;
        continue;
      }
      auto taken = is_option(word) ? take_option(word) : take_word(word);
      if (!taken) return tl::unexpected(taken.error());
    }
    if (help_) {
      // "rnbd map --help" is "rnbd help map".
      if (verb_ != nullptr && command_.verb != Verb::help)
        command_.words = {std::string(verb_->name)};
      command_.verb = Verb::help;
      return command_;
    }
    if (verb_ == nullptr && command_.target != Target::any) {  // "rnbd sessions"
      verb_ = find_verb("list");
      command_.verb = verb_->verb;
    }
    if (verb_ == nullptr) return usage_problem("no command given", "'rnbd help' lists them");
    // "unmap path": there is nothing else it could be the target of.
    if (!target_word_.empty() && command_.words.empty() && names_devices(command_.verb)) {
      command_.words = {target_word_};
      command_.target = Target::any;
    }
    if (auto fits = check(); !fits) return tl::unexpected(fits.error());
    return command_;
  }

 private:
  bool is_option(const std::string& word) const {
    if (only_words_ || word.size() < 2 || word[0] != '-') return false;
    return !(verb_ != nullptr && lists(command_.verb) && says_fields(word));
  }

  // The mode and the target must be ones the command is for.
  Outcome<void> check() const {
    const auto side = command_.side == Side::client ? kClient : kServer;
    if (command_.side != Side::any && verb_->sides != kNoDaemon && (verb_->sides & side) == 0)
      return usage_problem(
          fmt::format("'{}' is the {}'s", verb_->name, side == kClient ? "server" : "client"),
          fmt::format("leave '{}' out", side == kClient ? "client" : "server"));
    const unsigned target = command_.target == Target::device    ? kDevices
                            : command_.target == Target::session ? kSessions
                                                                 : kPaths;
    if (command_.target == Target::any || verb_->targets == kNothing ||
        (verb_->targets & target) != 0)
      return {};
    std::vector<std::string_view> right;
    if ((verb_->targets & kDevices) != 0) right.push_back("device");
    if ((verb_->targets & kSessions) != 0) right.push_back("session");
    if ((verb_->targets & kPaths) != 0) right.push_back("path");
    return usage_problem(
        fmt::format("'{}' is for a {}", verb_->name, daemon::join(right, " or a ")),
        fmt::format("rnbd {} {}", verb_->name, verb_->usage));
  }

  Outcome<void> take_word(const std::string& word) {
    if (verb_ != nullptr) return take_argument(word);
    if (const VerbInfo* verb = find_verb(word)) {
      verb_ = verb;
      command_.verb = verb->verb;
      return {};
    }
    if (auto side = find(side_words(), word); side && command_.side == Side::any)
      return void(command_.side = *side), Outcome<void>{};
    if (auto target = find(target_words(), word); target && command_.target == Target::any)
      return void(command_.target = *target), Outcome<void>{};
    std::vector<std::string_view> known;
    for (const VerbInfo& verb : verbs()) known.push_back(verb.name);
    std::string meant = daemon::nearest(word, known);
    add_texts(known, side_words());
    add_texts(known, target_words());
    if (meant.empty()) meant = daemon::nearest(word, known);
    return usage_problem(
        fmt::format("unknown command '{}'", printable(word)),
        meant.empty() ? "'rnbd help' lists them" : fmt::format("did you mean '{}'?", meant));
  }

  // Words after the verb: options said as words, fields and units where they cannot be a name, else
  // arguments.
  Outcome<void> take_argument(const std::string& word) {
    const Verb verb = command_.verb;
    if (word == "help" && command_.words.empty() && verb != Verb::help && !only_words_)
      return set(help_);
    const bool may_be_option =
        !only_words_ && !takes_anything(verb) && (takes_no_name(verb) || !command_.words.empty());
    if (may_be_option && take_option_word(word)) return {};
    // "add path …" is "path add …".
    if (!only_words_ && command_.words.empty() && command_.target == Target::any &&
        verb != Verb::help && verb_->targets != kNothing) {
      if (auto target = find(target_words(), word)) {
        command_.target = *target;
        target_word_ = word;
        return {};
      }
    }
    if (!only_words_ && lists(verb) && take_listing_word(word)) return {};
    command_.words.push_back(word);
    return {};
  }

  bool take_option_word(const std::string& word) {
    if (auto output = find(output_words(), word)) {
      command_.output = *output;
      command_.old_shape =
          *output == Output::json || *output == Output::csv || *output == Output::xml;
      return true;
    }
    const OptionInfo* option = find_option_word(word);
    if (option == nullptr) return false;
    // A host may have such a name; these take effect with their own command only.
    const bool map_only = option->option == Option::exclusive || option->option == Option::once;
    if (map_only && command_.verb != Verb::map) return false;
    return take(*option, word).has_value();
  }

  bool take_listing_word(const std::string& word) {
    const bool named = command_.verb == Verb::list || command_.verb == Verb::top ||
                       command_.verb == Verb::dump || !command_.words.empty();
    if (named && word.size() == 1 && kUnits.find(word[0]) != std::string_view::npos) {
      command_.unit = word[0];
      return true;
    }
    if ((named || word[0] == '+' || word[0] == '-') && says_fields(word)) {
      command_.fields.push_back(word);
      return true;
    }
    return false;
  }

  Outcome<void> take_option(const std::string& word) {
    if (!word.starts_with("--")) return take_letters(word);
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    value_ = equals == std::string::npos ? std::nullopt : std::optional(word.substr(equals + 1));
    const OptionInfo* option = find_option(name);
    if (option == nullptr) {
      std::vector<std::string_view> known;
      for (const OptionInfo& each : options()) known.push_back(each.name);
      const std::string meant = daemon::nearest(name, known);
      return usage_problem(
          fmt::format("unknown option '{}'", printable(name)),
          meant.empty() ? "'rnbd help' lists them" : fmt::format("did you mean '{}'?", meant));
    }
    auto taken = take(*option, name);
    if (taken && value_) return usage_problem(fmt::format("{} takes no value", name));
    return taken;
  }

  Outcome<void> take_letters(const std::string& word) {
    for (std::size_t i = 1; i < word.size(); ++i) {
      value_.reset();
      const OptionInfo* option = find_option(word[i]);
      // Of top, as of every top, -n is how often and -d how long in between.
      if (command_.verb == Verb::top && verb_ != nullptr) {
        if (word[i] == 'n') option = find_option("--count");
        if (word[i] == 'd') option = find_option("--interval");
      }
      const std::string name = fmt::format("-{}", printable(word.substr(i, 1)));
      if (option == nullptr)
        return usage_problem(fmt::format("unknown option '{}'", name), "'rnbd help' lists them");
      const bool takes_value = !option->value.empty();
      if (takes_value && i + 1 < word.size()) value_ = word.substr(i + 1);
      auto taken = take(*option, name);
      if (!taken || takes_value) return taken;
    }
    return {};
  }

  Outcome<void> take(const OptionInfo& option, const std::string& name) {
    if (!option.value.empty()) {
      std::optional<std::string> value = std::exchange(value_, std::nullopt);
      if (!value && at_ < words_.size()) value = words_[at_++];
      if (!value || value->empty()) return usage_problem(fmt::format("{} needs a value", name));
      return take_value(option.option, *value);
    }
    return take_flag(option.option);
  }

  Outcome<void> take_flag(Option option) {
    switch (option) {
      case Option::help:
        return set(help_);
      case Option::version:
        verb_ = &info(Verb::version);
        command_.verb = Verb::version;
        return {};
      case Option::no_headers:
        return set(command_.headers, false);
      case Option::no_totals:
        return set(command_.totals, false);
      case Option::no_tree:
        return set(command_.tree, false);
      case Option::verbose:
        return set(command_.verbose);
      case Option::quiet:
        return set(command_.quiet);
      case Option::dry_run:
        return set(command_.dry_run);
      case Option::wait:
        return set(command_.wait);
      case Option::force:
        return set(command_.force);
      case Option::exclusive:
        return set(command_.exclusive);
      case Option::once:
        return set(command_.once);
      case Option::prune:
        return set(command_.prune);
      case Option::unmap:
        return set(command_.unmap);
      case Option::batch:
        return set(command_.batch);
      case Option::keep:
        return set(command_.keep);
      case Option::json:
        return set_output("json");
      default:  // --yes: nothing asks; --errno-exit: see run_command_line
        return {};
    }
  }

  Outcome<void> take_value(Option option, const std::string& value) {
    switch (option) {
      case Option::output:
        return set_output(value);
      case Option::fields:
        command_.fields.push_back(value);
        return {};
      case Option::socket:
        command_.socket = value;
        return {};
      case Option::config:
        command_.config = value;
        return {};
      case Option::frontend:
        if (!daemon::is_frontend_name(value))
          return usage_problem(fmt::format("unknown frontend '{}'", printable(value)),
                               "ublk, loop, fuse, nbd or auto");
        command_.frontend = value;
        return {};
      case Option::timeout:
        return set_time(command_.timeout, value);
      case Option::interval:
        return set_time(command_.interval, value);
      default:
        return set_count(value);
    }
  }

  static Outcome<void> set(bool& flag, bool value = true) {
    flag = value;
    return {};
  }
  Outcome<void> set_output(std::string_view text) {
    auto output = find(output_words(), text);
    if (!output) {
      std::vector<std::string_view> known;
      add_texts(known, output_words());
      return usage_problem(fmt::format("unknown output '{}'", printable(text)),
                           daemon::suggestion(text, known));
    }
    command_.output = *output;
    command_.old_shape = false;
    return {};
  }
  static Outcome<void> set_time(Duration& time, std::string_view text) {
    auto parsed = daemon::parse_duration(text);
    if (!parsed || parsed->count() <= 0)
      return usage_problem(fmt::format("'{}' is not a time", printable(text)), "5s, 500ms, 2m");
    time = *parsed;
    return {};
  }
  Outcome<void> set_count(std::string_view text) {
    auto number = daemon::parse_kernel_number(text);
    if (!number || *number < 1)
      return usage_problem(fmt::format("'{}' is not a count", printable(text)), "1 or more");
    command_.count = static_cast<std::uint64_t>(*number);
    return {};
  }

  const std::vector<std::string>& words_;
  std::size_t at_ = 0;
  bool only_words_ = false;
  bool help_ = false;
  const VerbInfo* verb_ = nullptr;
  std::optional<std::string> value_;  // of --name=value
  std::string target_word_{};         // said after the verb
  Command command_;
};

}  // namespace

Outcome<Command> parse_command(const std::vector<std::string>& words,
                               std::string_view default_output) {
  return Parser(words).parse(default_output);
}

}  // namespace rnbd::cli
