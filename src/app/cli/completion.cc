#include "app/cli/completion.h"

#include <fmt/format.h>

#include <array>

#include "base/log.h"
#include "daemon/admin/suggest.h"

namespace rnbd::cli {
namespace {

constexpr std::array<std::string_view, 3> kShells{"bash", "zsh", "fish"};

// Completes with what `rnbd list` says; each shell's function of this name prints a kind's names.
struct NamedKind {
  std::string_view place, list;
};
constexpr std::array kKinds{
    NamedKind{"<device>", "client list devices --fields=name"},
    NamedKind{"<session>", "list sessions --fields=name"},
    NamedKind{"<path>", "client list paths --fields=name"},
    NamedKind{"<volume>", "server list devices --fields=volume"},
};

std::string names_command(std::string_view list) {
  return fmt::format("rnbd {} --no-headers --timeout=2s 2>/dev/null", list);
}

// A word list of a shell, the names asked for when it is used.
std::string words_of(std::string_view arguments, std::string_view open, std::string_view close) {
  std::string text;
  for (std::string_view word : split_words(arguments)) {
    std::string item(word);
    if (word == "<file>") continue;
    for (const NamedKind& kind : kKinds)
      if (word == kind.place) item = fmt::format("{}{}{}", open, names_command(kind.list), close);
    text += (text.empty() ? "" : " ") + item;
  }
  return text;
}

bool wants_file(std::string_view arguments) {
  return arguments.find("<file>") != std::string_view::npos;
}

std::string fish_quoted(std::string_view text) {
  std::string out = "'";
  for (char c : text) out += (c == '\'' || c == '\\' ? "\\" : "") + std::string(1, c);
  return out + "'";
}

std::string joined(std::span<const VerbInfo> all, std::string_view between, bool with_aliases) {
  std::string text;
  for (const VerbInfo& verb : all) {
    text += (text.empty() ? "" : std::string(between)) + std::string(verb.name);
    for (std::string_view alias : split_words(verb.aliases))
      if (with_aliases) text += fmt::format("{}{}", between, alias);
  }
  return text;
}

std::string option_words() {
  std::string text;
  for (const OptionInfo& option : options()) {
    text += fmt::format("{}{}{}", text.empty() ? "" : " ", option.name,
                        option.value.empty() ? "" : "=");
    if (option.letter != 0) text += fmt::format(" -{}", option.letter);
  }
  return text;
}

// "verb|alias) …;;" of bash and zsh: the words after each verb.
std::string cases_of_verbs() {
  std::string text;
  for (const VerbInfo& verb : verbs()) {
    const std::string words = words_of(verb.arguments, "$(", ")");
    text += fmt::format("    {}) words=\"{}\"{} ;;\n", joined(std::span(&verb, 1), "|", true),
                        words, wants_file(verb.arguments) ? " files=yes" : "");
  }
  return text;
}

std::string cases_of_options() {
  std::string text;
  for (const OptionInfo& option : options()) {
    if (option.value.empty()) continue;
    const std::string name = option.letter == 0 ? std::string(option.name)
                                                : fmt::format("{}|-{}", option.name, option.letter);
    text += fmt::format("    {}) words=\"{}\" valued=yes{} ;;\n", name,
                        words_of(option.values, "$(", ")"),
                        wants_file(option.values) ? " files=yes" : "");
  }
  return text;
}

// What both find out: $cur, and from $line the verb; then the words that may stand here.
constexpr std::string_view kChoose = R"(  local word words= files= valued= verb= option=
  for word in $before; do
    case $word in
    @VERBS@) [ -n "$verb" ] || verb=$word ;;
    esac
  done
  case $cur in
  --*=*) option=${cur%%=*} typed=${cur%%=*}= cur=${cur#*=} ;;
  *) option=$last ;;
  esac
  case $option in
@OPTION_CASES@  esac
  if [ -z "$valued" ]; then
    case $cur in
    -*) words="@OPTIONS@" ;;
    *)
      case $verb in
      '') words="client server device session path @NAMES@" ;;
@VERB_CASES@      esac
      ;;
    esac
  fi
)";

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos;
       at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

std::string choose_words() {
  std::string text(kChoose);
  text = replaced(text, "@VERBS@", joined(verbs(), "|", true));
  text = replaced(text, "@NAMES@", joined(verbs(), " ", false));
  text = replaced(text, "@OPTION_CASES@", cases_of_options());
  text = replaced(text, "@VERB_CASES@", cases_of_verbs());
  return replaced(text, "@OPTIONS@", option_words());
}

std::string bash_script() {
  return "# Completion of rnbd for bash, written by 'rnbd completion bash'.\n"
         "_rnbd() {\n"
         "  # Names hold ':', '=' and '@', which break words: the line is split here, at blanks.\n"
         "  local line=${COMP_LINE:0:COMP_POINT} typed= cur before last\n"
         "  cur=${line##*[[:blank:]]}\n"
         "  before=${line%\"$cur\"} before=${before#*[[:blank:]]}\n"
         "  last=${before%\"${before##*[![:blank:]]}\"} last=${last##*[[:blank:]]}\n" +
         choose_words() +
         "  # Never compgen -W, which expands its words: names are chosen by others. For the same\n"
         "  # reason nothing is offered that the shell would not take as it stands.\n"
         "  local word\n"
         "  local -a all\n"
         "  read -rd '' -a all <<<\"$words\"\n"
         "  COMPREPLY=()\n"
         "  for word in \"${all[@]}\"; do\n"
         "    [[ $word == \"$cur\"* && $word != *[^[:alnum:]_@:./=+,%-]* ]] || continue\n"
         "    COMPREPLY+=(\"$typed$word\")\n"
         "  done\n"
         "  [ -z \"$files\" ] || COMPREPLY+=($(compgen -P \"$typed\" -f -- \"$cur\"))\n"
         "  # What bash takes for the beginning of this word it keeps.\n"
         "  local part=${COMP_WORDS[COMP_CWORD]} whole=$typed$cur\n"
         "  case $part in ['=:@']) part= ;; esac\n"
         "  local kept=${whole%\"$part\"} i\n"
         "  for i in \"${!COMPREPLY[@]}\"; do COMPREPLY[i]=${COMPREPLY[i]#\"$kept\"}; done\n"
         "  [[ ${#COMPREPLY[@]} != 1 || ${COMPREPLY[0]} != *= ]] || compopt -o nospace\n"
         "}\n"
         "complete -F _rnbd rnbd\n";
}

std::string zsh_script() {
  return "#compdef rnbd\n"
         "# Completion of rnbd for zsh, written by 'rnbd completion zsh'.\n"
         "_rnbd() {\n"
         "  emulate -L zsh -o sh_word_split\n"
         "  local line=\"${words[2,CURRENT-1]}\" cur=\"${words[CURRENT]}\" typed=\n"
         "  local before=\"$line\" last=\"${words[CURRENT-1]}\"\n" +
         replaced(choose_words(), "words", "choices") +
         "  local -a all\n"
         "  all=(${=choices})\n"
         "  compadd -P \"$typed\" -- $all\n"
         "  [ -z \"$files\" ] || _files -P \"$typed\"\n"
         "}\n"
         "if [ \"$funcstack[1]\" = _rnbd ]; then _rnbd \"$@\"; else compdef _rnbd rnbd; fi\n";
}

std::string fish_script() {
  const std::string any = joined(verbs(), " ", true);
  std::string text =
      "# Completion of rnbd for fish, written by 'rnbd completion fish'.\n"
      "complete -c rnbd -f\n";
  const std::string none = fmt::format("-n 'not __fish_seen_subcommand_from {}'", any);
  for (std::string_view word : {"client", "server", "device", "session", "path"})
    text += fmt::format("complete -c rnbd {} -a {}\n", none, word);
  for (const VerbInfo& verb : verbs()) {
    text += fmt::format("complete -c rnbd {} -a {} -d {}\n", none, verb.name,
                        fish_quoted(verb.summary));
    const std::string words = words_of(verb.arguments, "(", ")");
    const std::string seen =
        fmt::format("-n '__fish_seen_subcommand_from {}'", joined(std::span(&verb, 1), " ", true));
    if (!words.empty())
      text += fmt::format("complete -c rnbd {} -a {}\n", seen, fish_quoted(words));
    if (wants_file(verb.arguments)) text += fmt::format("complete -c rnbd {} -F\n", seen);
  }
  for (const OptionInfo& option : options()) {
    text += fmt::format("complete -c rnbd -l {}", option.name.substr(2));
    if (option.letter != 0) text += fmt::format(" -s {}", option.letter);
    if (!option.value.empty())
      text += wants_file(option.values) ? " -r -F" : fmt::format(" -x -a '{}'", option.values);
    text += fmt::format(" -d {}\n", fish_quoted(option.meaning));
  }
  return text;
}

}  // namespace

std::string completion_script(std::string_view shell) {
  return shell == "bash"   ? bash_script()
         : shell == "zsh"  ? zsh_script()
         : shell == "fish" ? fish_script()
                           : "";
}

ExitStatus run_completion(const Command& command) {
  const std::string shell = command.words.empty() ? "" : command.words[0];
  const std::string script = completion_script(shell);
  if (script.empty() || command.words.size() > 1)
    return daemon::usage_problem(shell.empty()
                                     ? "completion for which shell?"
                                     : fmt::format("no completion for '{}'", printable(shell)),
                                 daemon::suggestion(shell, kShells));
  print(script);
  return 0;
}

}  // namespace rnbd::cli
