#pragma once
// Exports at work. Sessions, mappings, volumes and grants live on the home loop, loops[0]; each
// loop has an IoHandler. An OPEN goes: loop of the request -> home (name, opener, arbitration) ->
// every loop (attach) -> home -> loop of the request (answer). A CLOSE goes the same way with
// detach, which waits for what runs.

#include <map>
#include <unordered_map>

#include "rnbd/server/access_table.h"
#include "rnbd/server/geometry.h"
#include "rnbd/server/io_handler.h"

namespace rnbd::server {

class ExportsImpl final : public Exports {
 public:
  ExportsImpl(std::span<Loop* const> loops, DeviceOpener& opener, std::uint32_t max_io_size,
              const ExportsOptions& options);
  ~ExportsImpl() override;

  void on_session_opened(rtrs::server::Session& session) override;
  void on_session_closed(rtrs::server::Session& session) override;
  void on_request(rtrs::server::Request& request) override;
  void look_at_sizes(std::function<void()> done) override;
  void list(std::function<void(std::vector<OpenInfo>)> result) override;
  void force_close(std::uint64_t session_id, std::uint32_t device_id,
                   std::function<void(std::error_code)> done) override;
  void forgive(const std::string& volume, std::function<void(std::error_code)> done) override;

 private:
  // A request that waits for the home loop; answered on its own.
  struct Asker {
    rtrs::server::Request* request = nullptr;
    std::size_t loop = 0;
  };
  enum class MappingState : std::uint8_t { opening, open, closing };
  struct Session;
  // One open of one session, from the OPEN to the end of its CLOSE.
  struct Mapping {
    Session* session = nullptr;
    std::uint32_t device_id = 0;
    std::string name;
    AccessMode mode = AccessMode::rw;
    MappingState state = MappingState::opening;
    bool granted = false;
    Volume* volume = nullptr;
    std::vector<std::unique_ptr<LoopMapping>> parts;  // one per loop
    std::vector<Asker> opening;                       // OPENs to be answered
    std::vector<std::function<void()>> closed;        // to be told
  };
  struct Session {
    rtrs::server::Session* rtrs = nullptr;
    std::uint64_t id = 0;
    bool closing = false;
    std::uint64_t next_device_id = 0;  // never reused within a session (safety rule R7)
    std::map<std::uint32_t, std::unique_ptr<Mapping>> mappings;
  };

  Loop& home() { return *loops_[0]; }
  void answer(const Asker& asker, std::error_code error);
  void answer_open(const Asker& asker, Mapping& mapping);
  void session_info(rtrs::server::Request& request, const wire::SessionInfo& message);

  void open(std::uint64_t session_id, const std::string& name, AccessMode mode, const Asker& asker);
  void opened(std::uint64_t session_id, std::uint32_t device_id, Result<OpenedDevice> result);
  std::error_code admit(Mapping& mapping, const OpenedDevice& opened);
  bool may_have_lost_writes(const Mapping& mapping, const OpenedDevice& opened) const;
  void adopt(Mapping& mapping, OpenedDevice opened);
  void attach(Mapping& mapping);
  void attached(Mapping& mapping, std::error_code error);
  void refuse(Mapping& mapping, std::error_code error);

  void close(Mapping& mapping, std::function<void()> done);
  void detach(Mapping& mapping);
  void give_back(Mapping& mapping);
  void forget(Mapping& mapping);
  void maybe_release(Session& session);

  // exports_size.cc
  void on_look_timer();
  void look(Volume& volume, std::function<void()> done);
  void looked(Volume& volume, std::uint64_t size);
  void tell_size(const Volume& volume);
  void look_and_answer(Mapping& mapping, const Asker& asker);

  Session* find_session(std::uint64_t id);
  Mapping* find_mapping(std::uint64_t session_id, std::uint32_t device_id);
  Mapping* find_name(Session& session, const std::string& name);
  Volume* find_volume(const std::string& identity, bool read_only);

  const std::vector<Loop*> loops_;
  DeviceOpener& opener_;
  const GeometryOptions geometry_;
  const ExportsOptions options_;
  std::vector<std::unique_ptr<IoHandler>> handlers_;

  // The home loop's.
  AccessTable access_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Session>> sessions_;
  std::vector<std::unique_ptr<Volume>> volumes_;
  struct Named {
    std::string name, place;
    bool is(const std::string& volume) const { return volume == name || volume == place; }
  };
  std::map<std::string, Named> flush_failed_;  // by identity, also of volumes that are closed
  Timer look_timer_;
  // Shared with looks on their way back, which must not find us gone.
  std::shared_ptr<int> alive_ = std::make_shared<int>();
};

}  // namespace rnbd::server
