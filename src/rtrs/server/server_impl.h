#pragma once
// The server: listens, admits connect requests or refuses them with the errno the kernel server
// gives, keeps the sessions and the limits over all of them. On the control loop, fabrics[0]'s.

#include <map>
#include <memory>
#include <vector>

#include "rtrs/server/session_impl.h"

namespace rnbd::rtrs::server {

class ServerImpl final : public Server, private fabric::ListenHandler, private SessionOwner {
 public:
  ServerImpl(std::span<fabric::Fabric* const> fabrics, RequestHandler& handler,
             const ServerOptions& options);

  std::error_code listen(const fabric::Address& address) override;
  std::vector<fabric::Address> listen_addresses() const override;
  void stop(std::function<void()> stopped) override;
  void list_sessions(std::function<void(std::vector<SessionInfo>)> result) override;
  bool disconnect(std::uint64_t session, const std::string& path) override;
  bool reset_counters(const std::string& session, const std::string& path,
                      CounterGroup group) override;

 private:
  void on_connect_request(std::unique_ptr<fabric::IncomingConnection> incoming) override;
  bool name_taken(const std::string& name, const SessionImpl& by_other_than) const override;
  void on_session_path_gone(SessionImpl& session) override;
  void on_session_released(SessionImpl& session) override;

  Result<Path*> admit(const wire::ConnectRequest& request,
                      const fabric::IncomingConnection& incoming);
  Result<SessionImpl*> find_or_create_session(const wire::ConnectRequest& request);
  Result<Path*> new_path(SessionImpl& session, const wire::ConnectRequest& request,
                         const fabric::IncomingConnection& incoming);
  void refuse(std::unique_ptr<fabric::IncomingConnection> incoming, std::error_code why);
  // Half-open paths, of one host or (nullptr) of all.
  std::size_t paths_connecting(const fabric::Address* source) const;
  std::size_t paths_total() const;
  void forget(SessionImpl& session);
  void maybe_stopped();

  const std::vector<fabric::Fabric*> fabrics_;
  RequestHandler& handler_;
  ServerOptions options_;
  std::vector<std::unique_ptr<fabric::Listener>> listeners_;
  std::map<Uuid, std::unique_ptr<SessionImpl>> sessions_;  // by paths_uuid
  std::uint64_t last_session_id_ = 0;
  bool stopping_ = false;
  std::function<void()> stopped_;
};

}  // namespace rnbd::rtrs::server
