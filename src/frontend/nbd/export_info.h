#pragma once
// What a client is told about an export, derived from what its device can do.

#include <string>
#include <string_view>
#include <vector>

#include "block/device.h"
#include "wire/nbd.h"

namespace rnbd::nbd {

struct ExportInfo {
  std::uint64_t id = 0;  // of this export, never used again for another
  std::string name;
  std::string description;
  wire::NbdExport geometry;  // size, transmission flags, limits: as announced, and as enforced
  std::uint32_t block_size_preferred = 4096;
};

struct Announce {
  bool read_only = false;   // asked for by the user, whatever the device takes
  bool structured = false;  // structured replies were agreed on
  std::uint32_t payload_max = wire::kNbdPayloadMax;
};
// Every flag is kept: FLUSH and FUA always (block::SplitRequest makes FUA of a flush where the
// device has none), TRIM and WRITE_ZEROES only where the device has them, never FAST_ZERO, which
// cannot be promised.
ExportInfo describe(std::string name, std::string description, const block::Limits& limits,
                    Announce announce);

// The exports a client may ask for. Looked at from the server's home thread only.
class ExportDirectory {
 public:
  virtual ~ExportDirectory() = default;
  virtual std::vector<std::string> names() const = 0;
  // The export of that name; "" finds the only one there is. False: no such export.
  virtual bool find(std::string_view name, bool structured, ExportInfo& info) const = 0;
};

}  // namespace rnbd::nbd
