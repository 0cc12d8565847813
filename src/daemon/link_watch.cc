#include "daemon/link_watch.h"

#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/log.h"

namespace rnbd::daemon {
namespace {

constexpr std::size_t kBufferBytes = 65536;  // a dump's datagrams are at most half of it

}  // namespace

Result<std::unique_ptr<LinkWatch>> LinkWatch::start(Reactor& reactor, Heard heard) {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (!fd) return fail_errno(errno);
  sockaddr_nl name{};
  name.nl_family = AF_NETLINK;
  name.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0)
    return fail_errno(errno);
  return std::unique_ptr<LinkWatch>(new LinkWatch(reactor, std::move(fd), std::move(heard)));
}

LinkWatch::LinkWatch(Reactor& reactor, UniqueFd fd, Heard heard)
    : heard_(std::move(heard)), fd_(std::move(fd)), buffer_(kBufferBytes) {
  watch_.start(reactor, fd_.get(), POLLIN);
  table_.begin_dump();
  ask(Dump::links);
}

void LinkWatch::ask(Dump what) {
  dump_ = what;
  if (what == Dump::none) return;
  struct {
    nlmsghdr header;
    rtgenmsg family;
  } request{};
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.family);
  request.header.nlmsg_type = what == Dump::links ? RTM_GETLINK : RTM_GETADDR;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.family.rtgen_family = AF_UNSPEC;
  if (::send(fd_.get(), &request, request.header.nlmsg_len, 0) >= 0) return;
  log_warning("cannot ask for the links of this machine: {}", from_errno(errno).message());
  dump_ = Dump::none;
}

void LinkWatch::on_ready(std::uint32_t events) {
  if ((events & POLLNVAL) != 0) return log_warning("links of this machine are not watched");
  for (;;) {
    sockaddr_nl from{};
    socklen_t bytes = sizeof from;
    const ssize_t n = ::recvfrom(fd_.get(), buffer_.data(), buffer_.size(), 0,
                                 reinterpret_cast<sockaddr*>(&from), &bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == ENOBUFS) {  // more happened than the socket could hold
      again_ = true;
      if (dump_ != Dump::none) continue;
      again_ = false;
      table_.begin_dump();
      ask(Dump::links);
      continue;
    }
    if (n < 0) return;
    if (from.nl_pid == 0)  // others may send here too
      take(std::span(buffer_).first(static_cast<std::size_t>(n)));
  }
}

void LinkWatch::take(std::span<const std::byte> datagram) {
  const LinkTable::Taken taken = table_.take(datagram);
  tell(taken.changes);
  if (taken.dump_failed && dump_ != Dump::none) {
    // What was known stays known; the next word of a change, or of words missed, comes all the
    // same.
    log_warning("the kernel did not tell all links of this machine");
    again_ = false;
    return ask(Dump::none);
  }
  if (!taken.dump_done || dump_ == Dump::none) return;
  if (dump_ == Dump::links) return ask(Dump::addresses);
  ask(Dump::none);
  tell(table_.end_dump());
  if (!std::exchange(again_, false)) return;
  table_.begin_dump();
  ask(Dump::links);
}

void LinkWatch::tell(const std::vector<LinkChange>& changes) {
  for (const LinkChange& change : changes) {
    log_debug("address {} is {}", change.address.to_string(), change.up ? "up" : "down");
    heard_(change.address, change.up);
  }
}

}  // namespace rnbd::daemon
