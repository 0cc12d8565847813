#pragma once
// Histograms as views show them.

#include <string>
#include <vector>

#include "base/histogram.h"
#include "daemon/admin/views.h"

namespace rnbd::daemon {

StageView stage_view(std::string stage, const LatencyCounts& counts);

}  // namespace rnbd::daemon
