#pragma once
// The server's side of fixed newstyle negotiation, as a pure function of the bytes that arrive: no
// socket, no clock. EXPORT_NAME, ABORT, LIST, INFO, GO, STRUCTURED_REPLY; every other option is
// refused politely.

#include <string>
#include <vector>

#include "frontend/nbd/export_info.h"
#include "wire/nbd.h"

namespace rnbd::nbd {

class Handshake {
 public:
  enum class State {
    negotiating,
    transmission,  // the client got what it asked for: chosen(), structured()
    ended,         // aborted, or broke the protocol: close once the output is sent
  };

  explicit Handshake(const ExportDirectory& exports);

  // Looks at the bytes received and not yet consumed, at most one message at a time; returns how
  // many it consumed. 0: more bytes are needed, or the state is no longer negotiating.
  std::size_t feed(wire::ByteView bytes);
  // Longest message there is: never will more bytes than this be needed at once.
  static constexpr std::size_t kMessageMax =
      sizeof(wire::layout::NbdOptionHeader) + wire::kNbdOptionLengthMax;

  State state() const { return state_; }
  // Bytes to send, to be cleared by who sends them.
  std::vector<std::byte>& output() { return output_; }
  const ExportInfo& chosen() const { return chosen_; }
  bool structured() const { return structured_; }

 private:
  std::size_t feed_flags(wire::ByteView bytes);
  std::size_t feed_option(wire::ByteView bytes);
  void answer(wire::NbdOption option, wire::ByteView data);
  void answer_export_name(wire::ByteView data);
  void answer_list(wire::ByteView data);
  void answer_info(wire::NbdOption option, wire::ByteView data);
  void answer_structured(wire::ByteView data);
  void send_info(wire::NbdOption option, const ExportInfo& info,
                 const wire::NbdInfoRequest& request);
  void send_info_text(wire::NbdOption option, wire::NbdInfo type, const std::string& text);
  void reply(wire::NbdOption option, wire::NbdOptionReply type, wire::ByteView data = {});
  void append(wire::ByteView bytes) { output_.insert(output_.end(), bytes.begin(), bytes.end()); }

  const ExportDirectory& exports_;
  State state_ = State::negotiating;
  bool have_flags_ = false;
  bool no_zeroes_ = false;
  bool structured_ = false;
  std::uint64_t skip_ = 0;  // bytes of refused option data still to come
  ExportInfo chosen_;
  std::vector<std::byte> output_;
};

}  // namespace rnbd::nbd
