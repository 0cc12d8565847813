#include "app/cli/events.h"

#include <fmt/format.h>
#include <poll.h>

#include "app/cli/daemons.h"
#include "app/cli/terminal.h"
#include "base/log.h"
#include "daemon/admin/admin_client.h"
#include "daemon/admin/json_fields.h"

namespace rnbd::cli {
namespace {

using daemon::EventStream;
using daemon::EventView;
using daemon::Outcome;

std::string event_json(const EventView& e) {
  daemon::Json json{{"version", daemon::kAdminVersion},
                    {"event",
                     {{"time", e.time},
                      {"level", e.level},
                      {"event", e.event},
                      {"device", e.device},
                      {"session", e.session},
                      {"volume", e.volume},
                      {"path", e.path},
                      {"text", e.text}}}};
  return json.dump(-1, ' ', false, daemon::Json::error_handler_t::replace);
}

// Of the daemon meant; without a mode, of rnbd-server where rnbd-client does not run.
Outcome<EventStream> open_stream(const Command& command, const Daemons& daemons) {
  auto stream = EventStream::open(daemons.socket(), command.timeout);
  const bool other = !stream && command.side == Side::any && command.socket.empty() &&
                     stream.error().code == daemon::ProblemCode::unreachable;
  if (!other) return stream;
  auto server = EventStream::open(daemons.server_socket(), command.timeout);
  return server ? std::move(server) : std::move(stream);
}

// Waits for bytes of the daemon; false when we are to end.
bool wait_for_more(int events, int signals) {
  pollfd entries[] = {{events, POLLIN, 0}, {signals, POLLIN, 0}};
  while (poll(entries, 2, -1) < 0) continue;
  return entries[1].revents == 0;
}

}  // namespace

std::string event_text(const EventView& e) {
  return fmt::format("{} {:<7} {:<20} {}", printable(e.time), printable(e.level),
                     printable(e.event), printable(e.text, 4096));
}

ExitStatus run_events(const Command& command) {
  auto daemons = Daemons::of(command);
  if (!daemons) return tl::unexpected(daemons.error());
  auto stream = open_stream(command, *daemons);
  if (!stream) return tl::unexpected(stream.error());
  const Terminal terminal(false);  // ends in order on a signal
  for (std::uint64_t shown = 0; command.count == 0 || shown < command.count;) {
    auto event = stream->next(Duration(0));
    if (!event) return tl::unexpected(event.error());
    if (!event->has_value()) {
      if (!wait_for_more(stream->fd(), terminal.signal_fd())) return 0;
      continue;
    }
    ++shown;
    const bool text = command.output == Output::table || command.output == Output::csv ||
                      command.output == Output::xml;
    // A line each, whatever the form: a stream has no end to wait for.
    if (text)
      print(event_text(**event) + "\n");
    else if (command.output == Output::yaml)
      print("---\n" + render_object(event_json(**event), Output::yaml));
    else
      print(event_json(**event) + "\n");
  }
  return 0;
}

}  // namespace rnbd::cli
