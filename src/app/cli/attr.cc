#include "app/cli/attr.h"

#include <fmt/format.h>

#include <array>

#include "app/cli/daemons.h"
#include "base/log.h"
#include "daemon/admin/suggest.h"

namespace rnbd::cli {
namespace {

using daemon::AdminCommand;
using daemon::AdminRequest;
using daemon::NodeView;
using daemon::Outcome;
using daemon::usage_problem;

// As ls shows it: "-rw-r--r--".
std::string mode_text(const NodeView& node) {
  constexpr std::string_view kLetters = "rwxrwxrwx";
  std::string text(1, node.kind == "directory" ? 'd' : node.kind == "link" ? 'l' : '-');
  for (unsigned i = 0; i < kLetters.size(); ++i)
    text += (node.mode >> (8 - i) & 1U) != 0 ? kLetters[i] : '-';
  return text;
}

std::string nodes_text(const std::vector<NodeView>& nodes, bool with_modes) {
  std::string text;
  for (const NodeView& node : nodes) {
    const std::string name = printable(node.path, 4096);
    if (with_modes) text += mode_text(node) + "  ";
    text += name + (node.kind == "directory" ? "/" : "");
    if (node.kind == "link") text += " -> " + printable(node.target, 4096);
    text += "\n";
  }
  return text;
}

}  // namespace

Outcome<AdminRequest> parse_attr(const std::vector<std::string>& words) {
  constexpr std::array<std::string_view, 3> kKnown{"list", "get", "set"};
  const char* usage = "rnbd attr list [NODE] | get ATTRIBUTE | set ATTRIBUTE VALUE";
  if (words.empty()) return usage_problem("attr what?", usage);
  const std::string& what = words[0];
  const auto wrong = [&](std::size_t least, std::size_t most) {
    return words.size() < least || words.size() > most;
  };
  if (what == "list" || what == "ls") {
    if (wrong(1, 2)) return usage_problem("list the attributes of one node at a time", usage);
    return AdminRequest{.command = AdminCommand::list_attributes,
                        .target = words.size() > 1 ? words[1] : ""};
  }
  if (what == "get" || what == "cat" || what == "read") {
    if (wrong(2, 2)) return usage_problem("get takes one attribute", usage);
    return AdminRequest{.command = AdminCommand::read_attribute, .target = words[1]};
  }
  if (what == "set" || what == "write") {
    if (words.size() < 3) return usage_problem("set takes an attribute and its value", usage);
    AdminRequest request{.command = AdminCommand::write_attribute, .target = words[1]};
    for (std::size_t i = 2; i < words.size(); ++i)
      request.text += (i == 2 ? "" : " ") + words[i];  // as 'echo words > attribute'
    return request;
  }
  return usage_problem(fmt::format("attr cannot '{}'", printable(what)),
                       daemon::suggestion(what, kKnown));
}

bool is_server_node(std::string_view path) {
  return path.find("rnbd-server") != std::string_view::npos ||
         path.find("rtrs-server") != std::string_view::npos;
}

ExitStatus run_attr(const Command& command) {
  auto request = parse_attr(command.words);
  if (!request) return tl::unexpected(request.error());
  Command aimed = command;
  if (command.side == Side::any && is_server_node(request->target)) aimed.side = Side::server;
  auto daemons = Daemons::of(aimed);
  if (!daemons) return tl::unexpected(daemons.error());
  if (command.dry_run && request->command == AdminCommand::write_attribute) {
    print(fmt::format("would write '{}' to {}\n", printable(request->text),
                      printable(request->target)));
    return 0;
  }
  auto answer = daemons->ask(*request);
  if (!answer) return tl::unexpected(answer.error());
  std::string text;
  if (request->command == AdminCommand::list_attributes)
    text = nodes_text(answer->nodes, command.verbose);
  if (request->command == AdminCommand::read_attribute) text = answer->text;
  return print_answer(command, {std::move(*answer), {}, false}, {}, text);
}

}  // namespace rnbd::cli
