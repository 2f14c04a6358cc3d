#pragma once
// What the files of a comparison share.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tools/needle/report/compare.h"

namespace heddle::needle {

/// Of all modes, one after the other.
std::vector<Row> all_rows(std::span<const ComparedMode> modes);

std::vector<std::string> extra_names(std::span<const ComparedMode> modes);  // sorted
std::optional<double> extra_value(const ComparedMode& mode,
                                  const std::string& name,
                                  std::int64_t length);

/// A head and the lines of the table; the first two columns are names.
std::vector<std::vector<std::string>> comparison_lines(std::span<const ComparedMode> modes);

}  // namespace heddle::needle
