#pragma once
// What the tasks share: draws of one cell, and how the parts of a prompt are joined.

#include <string>
#include <string_view>
#include <vector>

#include "tools/needle/random.h"
#include "tools/needle/task.h"

namespace heddle::needle {

/// Which cells of one suite, task and seed draw the same.
enum class Same {
  kNone,     // every cell draws its own
  kDepths,   // those that differ in depth only: they share what they compute
  kLengths,  // those that differ in depth or length
  kSamples,  // all of them
};
/// `what` names the draw among those of a cell: "keys".
Random draw(const CellKey& key, std::string_view what, Same same);

/// "a"; "a, and b" or, plain, "a and b"; "a, b, and c".
std::string joined(const std::vector<std::string>& items, Wording wording);

/// Sets how the parts are joined: spaces in one line or, as RULER has it, line breaks around the
/// text and, by `lines`, between its sentences too.
void lay_out(Draft& draft, Wording wording, bool lines = false);

}  // namespace heddle::needle
