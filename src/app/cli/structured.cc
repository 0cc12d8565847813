#include "app/cli/structured.h"

#include "daemon/admin/json_fields.h"

namespace rnbd::cli {
namespace {

using daemon::AdminResponse;
using daemon::Json;

std::string dumped(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

Json parsed(const std::string& text) { return Json::parse(text, nullptr, false); }

Json json_of(const Answers& answers) {
  Json json = parsed(to_json_text(answers.first));
  if (answers.both) {
    Json server = parsed(to_json_text(answers.server));
    for (const char* member : {"version", "ok", "already"}) server.erase(member);
    json["server"] = std::move(server);
  }
  return json;
}

// One line per thing: {"version":1,"type":"device","program":"rnbd-client",...}
void add_lines(std::string& text, const Json& answer) {
  const Json program = answer.contains("daemon") ? answer["daemon"]["program"] : Json("");
  constexpr std::pair<const char*, const char*> kLists[] = {
      {"devices", "device"}, {"sessions", "session"}, {"opens", "open"}, {"nodes", "node"}};
  for (const auto& [list, type] : kLists) {
    if (!answer.contains(list)) continue;
    for (const Json& item : answer[list]) {
      Json line{{"version", daemon::kAdminVersion}, {"type", type}, {"program", program}};
      line.update(item);
      text += dumped(line, -1) + "\n";
    }
  }
}

void add_yaml(std::string& text, const Json& json, std::size_t depth, bool in_list);

void add_yaml_value(std::string& text, const Json& value, std::size_t depth) {
  if (value.is_structured() && !value.empty()) {
    text += "\n";
    add_yaml(text, value, depth, false);
  } else {
    text += " " + dumped(value, -1) + "\n";  // a JSON scalar is a YAML scalar
  }
}

// Block style; `in_list`: the first line continues a "- ".
void add_yaml(std::string& text, const Json& json, std::size_t depth, bool in_list) {
  const std::string indent(2 * depth, ' ');
  bool first = in_list;
  if (json.is_object()) {
    for (const auto& [name, value] : json.items()) {
      text += (std::exchange(first, false) ? "" : indent) + name + ":";
      add_yaml_value(text, value, depth + 1);
    }
    return;
  }
  for (const Json& item : json) {
    text += (std::exchange(first, false) ? "" : indent) + "-";
    if (item.is_structured() && !item.empty()) {
      text += " ";
      add_yaml(text, item, depth + 1, true);
    } else {
      text += " " + dumped(item, -1) + "\n";
    }
  }
}

std::string in_form(const Json& json, Output output) {
  if (output == Output::jsonl) return dumped(json, -1) + "\n";
  if (output != Output::yaml) return dumped(json, 2) + "\n";
  std::string text;
  add_yaml(text, json, 0, false);
  return text;
}

}  // namespace

std::string render_structured(const Answers& answers, Output output) {
  const Json json = json_of(answers);
  if (output != Output::jsonl) return in_form(json, output);
  std::string text;
  add_lines(text, json);
  if (answers.both) add_lines(text, json["server"]);
  return text;
}

std::string render_object(const std::string& json, Output output) {
  return in_form(parsed(json), output);
}

}  // namespace rnbd::cli
