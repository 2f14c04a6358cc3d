#include "tools/serve/histogram.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace heddle::serve {

void Histogram::observe(double value) {
  const auto at = std::ranges::lower_bound(bounds_, value) - bounds_.begin();
  counts_[static_cast<std::size_t>(at)].fetch_add(1, std::memory_order_relaxed);
  sum_micro_.fetch_add(static_cast<std::uint64_t>(std::max(value, 0.0) * 1e6),
                       std::memory_order_relaxed);
}

void Histogram::write(std::string& out, std::string_view name, std::string_view labels) const {
  std::uint64_t n = 0;
  for (std::size_t i = 0; i < bounds_.size(); ++i) {
    n += counts_[i].load(std::memory_order_relaxed);
    fmt::format_to(std::back_inserter(out), "{}_bucket{{{},le=\"{}\"}} {}\n", name, labels,
                   bounds_[i], n);
  }
  n += counts_[bounds_.size()].load(std::memory_order_relaxed);
  fmt::format_to(std::back_inserter(out),
                 "{0}_bucket{{{1},le=\"+Inf\"}} {2}\n{0}_sum{{{1}}} {3}\n"
                 "{0}_count{{{1}}} {2}\n",
                 name, labels, n,
                 static_cast<double>(sum_micro_.load(std::memory_order_relaxed)) / 1e6);
}

}  // namespace heddle::serve
