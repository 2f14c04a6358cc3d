#pragma once
// The heatmap of a summary.

#include <string>

#include "tools/needle/report/heatmap.h"
#include "tools/needle/report/summary.h"

namespace heddle::needle {

/// A panel of depths by lengths for every task that has depths; the tasks of a suite that have
/// none are together in one, tasks by lengths. The title is given, so is the subtitle.
Heatmap heatmap_of(const Summary& summary, std::string title, std::string subtitle);

}  // namespace heddle::needle
