#pragma once
// Help texts and docs/cli.md, made from the tables of flags.h.

#include <string>

#include "tools/heddle/flags.h"

namespace heddle::cli {

std::string help_overview();
std::string help_of(const CommandSpec& command);
std::string cli_markdown();       // docs/cli.md
std::string families_markdown();  // the table of families in README.md

}  // namespace heddle::cli
