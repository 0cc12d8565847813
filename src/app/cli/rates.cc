#include "app/cli/rates.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>

#include "app/cli/daemons.h"
#include "base/log.h"
#include "daemon/admin/json_fields.h"

namespace rnbd::cli {
namespace {

using daemon::AdminResponse;
using daemon::DeviceView;
using daemon::Json;
using daemon::OpenView;
using daemon::PathView;
using daemon::SessionView;
using daemon::StageView;

// The counters of one thing, now and before.
struct Counters {
  std::uint64_t reads = 0, read_bytes = 0, writes = 0, write_bytes = 0;
  std::uint64_t done = 0, time_us = 0;
};

template <class View>
Counters counters_of(const View& view, const std::vector<StageView>& stages) {
  Counters counters{view.reads, view.read_bytes, view.writes, view.write_bytes, 0, 0};
  for (const StageView& stage : stages) {
    counters.done = std::max(counters.done, stage.count);
    counters.time_us += stage.sum_us;
  }
  return counters;
}

Counters counters_of(const SessionView& session) {
  Counters all;
  for (const PathView& path : session.paths) {
    const Counters one = counters_of(path, path.stages);
    all.reads += one.reads;
    all.read_bytes += one.read_bytes;
    all.writes += one.writes;
    all.write_bytes += one.write_bytes;
    all.done += one.done;
    all.time_us += one.time_us;
  }
  return all;
}

double per_second(std::uint64_t now, std::uint64_t before, Duration interval) {
  if (now < before || interval.count() <= 0) return 0;
  return static_cast<double>(now - before) * 1e9 / static_cast<double>(interval.count());
}

void apply(Rate& rate, const Counters& now, const Counters& before, Duration interval) {
  rate.reads = per_second(now.reads, before.reads, interval);
  rate.writes = per_second(now.writes, before.writes, interval);
  rate.read_bytes = per_second(now.read_bytes, before.read_bytes, interval);
  rate.write_bytes = per_second(now.write_bytes, before.write_bytes, interval);
  if (now.done > before.done && now.time_us >= before.time_us)
    rate.mean_us = (now.time_us - before.time_us) / (now.done - before.done);
}

template <class View, class Same>
const View* find(const std::vector<View>& views, Same&& same) {
  const auto at = std::find_if(views.begin(), views.end(), same);
  return at == views.end() ? nullptr : &*at;
}

std::string path_name(const PathView& path) {
  return path.name.empty() ? path.destination : path.name;
}

void add_devices(std::vector<Rate>& rates, const AdminResponse& before, const AdminResponse& now,
                 Duration interval) {
  for (const DeviceView& d : now.devices) {
    const DeviceView* old = find(before.devices, [&](const DeviceView& o) {
      return o.name == d.name && o.volume == d.volume && o.session == d.session;
    });
    Rate rate{Target::device, false, d.name, d.volume, d.session, d.state};
    rate.inflight = d.inflight;
    rate.held = d.held;
    rate.errors = d.errors;
    rate.stages = d.stages;
    apply(rate, counters_of(d, d.stages), old ? counters_of(*old, old->stages) : Counters{},
          interval);
    rates.push_back(std::move(rate));
  }
  for (const OpenView& o : now.opens) {
    const OpenView* old = find(before.opens, [&](const OpenView& v) {
      return v.session == o.session && v.device_id == o.device_id && v.volume == o.volume;
    });
    Rate rate{Target::device, true, o.volume, o.volume, o.session, o.access_mode};
    rate.inflight = o.inflight;
    rate.errors = o.errors;
    rate.stages = o.stages;
    apply(rate, counters_of(o, o.stages), old ? counters_of(*old, old->stages) : Counters{},
          interval);
    rates.push_back(std::move(rate));
  }
}

void add_sessions(std::vector<Rate>& rates, const AdminResponse& before, const AdminResponse& now,
                  Duration interval) {
  const bool server = of_server(now);
  for (const SessionView& s : now.sessions) {
    const SessionView* old =
        find(before.sessions, [&](const SessionView& v) { return v.name == s.name; });
    Rate whole{Target::session, server, s.name, "", s.name, s.state};
    whole.stages = s.stages;
    for (const PathView& p : s.paths) whole.inflight += p.inflight, whole.errors += p.errors;
    whole.reconnects = s.reconnects;
    apply(whole, counters_of(s), old ? counters_of(*old) : Counters{}, interval);
    rates.push_back(std::move(whole));
    for (const PathView& p : s.paths) {
      const PathView* old_path =
          old ? find(old->paths,
                     [&](const PathView& v) {
                       return v.number == p.number && path_name(v) == path_name(p);
                     })
              : nullptr;
      Rate rate{Target::path, server, path_name(p), "", s.name, p.state};
      rate.inflight = p.inflight;
      rate.errors = p.errors;
      rate.reconnects = p.reconnects;
      rate.stages = p.stages;
      apply(rate, counters_of(p, p.stages),
            old_path ? counters_of(*old_path, old_path->stages) : Counters{}, interval);
      if (rate.mean_us == 0 && p.stages.empty()) rate.mean_us = p.latency_us;
      rates.push_back(std::move(rate));
    }
  }
}

// What one reads of it. Of both daemons the same names come up: `both` tells them apart.
std::string label_of(const Rate& rate, bool both) {
  std::string name = printable(rate.name);
  if (rate.kind == Target::device)
    return rate.server ? fmt::format("{}@{}", name, printable(rate.session))
                       : fmt::format("{} {}", name, printable(rate.volume));
  if (rate.kind == Target::path) name = fmt::format("{} {}", printable(rate.session), name);
  return both && rate.server ? name + " (server)" : name;
}

// Percentiles of where most of the time goes: the wire on a client, the disk on a server.
const StageView* main_stage(const Rate& rate) {
  return find(rate.stages, [&](const StageView& s) {
    return s.stage == (rate.server ? "backend" : "wire") && s.count != 0;
  });
}

Json rate_json(const Rate& rate) {
  Json json{{"program", rate.server ? "rnbd-server" : "rnbd-client"},
            {"name", rate.name},
            {"volume", rate.volume},
            {"session", rate.session},
            {"state", rate.state},
            {"iops", std::llround(rate.reads + rate.writes)},
            {"read_iops", std::llround(rate.reads)},
            {"write_iops", std::llround(rate.writes)},
            {"read_bytes_per_second", std::llround(rate.read_bytes)},
            {"write_bytes_per_second", std::llround(rate.write_bytes)},
            {"inflight", rate.inflight},
            {"held", rate.held},
            {"errors", rate.errors},
            {"reconnects", rate.reconnects},
            {"mean_us", rate.mean_us}};
  Json& stages = json["stages"] = Json::array();
  for (const StageView& s : rate.stages)
    stages.push_back({{"stage", s.stage},
                      {"count", s.count},
                      {"sum_us", s.sum_us},
                      {"p50_us", s.p50_us},
                      {"p90_us", s.p90_us},
                      {"p99_us", s.p99_us},
                      {"p999_us", s.p999_us},
                      {"max_us", s.max_us},
                      {"buckets", s.buckets}});
  return json;
}

}  // namespace

std::vector<Rate> rates_between(const Answers& before, const Answers& now, Duration interval) {
  std::vector<Rate> rates;
  add_devices(rates, before.first, now.first, interval);
  if (now.both) add_devices(rates, before.server, now.server, interval);
  add_sessions(rates, before.first, now.first, interval);
  if (now.both) add_sessions(rates, before.server, now.server, interval);
  return rates;
}

std::string rates_text(const std::vector<Rate>& rates, Target only, const Style& style) {
  static constexpr FieldInfo kColumns[] = {
      {"name", "name", "NAME"},
      {"state", "state", "STATE"},
      {"iops", "iops", "IOPS", Kind::count, true, true},
      {"read", "read", "READ/S", Kind::bytes, true, true},
      {"written", "written", "WRITTEN/S", Kind::bytes, true, true},
      {"mean", "mean", "MEAN", Kind::time},
      {"p50", "p50", "P50", Kind::time},
      {"p99", "p99", "P99", Kind::time},
      {"inflight", "inflight", "INFLIGHT", Kind::count, true, true},
      {"errors", "errors", "ERRORS", Kind::count, true, true},
  };
  static constexpr FieldInfo kHeld{"held", "held", "HELD", Kind::count, true, true};
  static constexpr FieldInfo kReconnects{"reconnects", "reconnects", "RECONNECTS",
                                         Kind::count,  true,         true};
  const auto of_server = [](const Rate& rate) { return rate.server; };
  const bool both = std::any_of(rates.begin(), rates.end(), of_server) &&
                    !std::all_of(rates.begin(), rates.end(), of_server);
  std::vector<Table> tables;
  const std::pair<Target, const char*> kinds[] = {
      {Target::device, "DEVICE"}, {Target::session, "SESSION"}, {Target::path, "PATH"}};
  for (const auto& [kind, title] : kinds) {
    if (only != Target::any && only != kind) continue;
    Table table{title, {std::begin(kColumns), std::end(kColumns)}, {}};
    table.columns[0].title = title;
    const bool devices = kind == Target::device;
    table.columns.push_back(devices ? kHeld : kReconnects);
    for (const Rate& rate : rates) {
      if (rate.kind != kind) continue;
      const StageView* stage = main_stage(rate);
      table.rows.push_back(
          {{{label_of(rate, both)},
            {rate.state},
            {{}, static_cast<std::uint64_t>(std::llround(rate.reads + rate.writes))},
            {{}, static_cast<std::uint64_t>(rate.read_bytes)},
            {{}, static_cast<std::uint64_t>(rate.write_bytes)},
            {{}, rate.mean_us, rate.mean_us != 0},
            {{}, stage ? stage->p50_us : 0, stage != nullptr},
            {{}, stage ? stage->p99_us : 0, stage != nullptr},
            {{}, rate.inflight},
            {{}, rate.errors},
            {{}, devices ? rate.held : rate.reconnects, !rate.server}}});
    }
    tables.push_back(std::move(table));
  }
  return render_tables(tables, style);
}

std::string rates_json(const std::vector<Rate>& rates, const std::string& time, Duration interval) {
  Json json{
      {"version", daemon::kAdminVersion},
      {"time", time},
      {"interval_ms", std::chrono::duration_cast<std::chrono::milliseconds>(interval).count()}};
  for (const char* list : {"devices", "opens", "sessions", "paths"}) json[list] = Json::array();
  for (const Rate& rate : rates) {
    const char* list = rate.kind == Target::session ? "sessions"
                       : rate.kind == Target::path  ? "paths"
                       : rate.server                ? "opens"
                                                    : "devices";
    json[list].push_back(rate_json(rate));
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string rfc3339(std::chrono::system_clock::time_point time) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch());
  const std::time_t seconds = static_cast<std::time_t>(ms.count() / 1000);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(seconds), ms.count() % 1000);
}

}  // namespace rnbd::cli
