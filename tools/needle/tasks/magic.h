#pragma once
// Needles of RULER's kind, "One of the special magic numbers for K is: V.", and what asks for them.

#include "tools/needle/task.h"
#include "tools/needle/words.h"

namespace heddle::needle {

/// A task of such needles. Several keys with several values each there are not.
struct MagicForm {
  Hay hay = Hay::kProse;
  ValueKind keys = ValueKind::kWord;
  ValueKind values = ValueKind::kNumber;
  int n_keys = 1;     // needles with keys of their own, beside those of a haystack of needles
  int n_queries = 1;  // keys asked for
  int n_values = 1;   // needles of the asked key
};

/// Cells that differ in depth only share all but the first needle, whose key and value are new at
/// each depth; where a key has several values, all its needles are new, and none stands before the
/// depth. Lines of a haystack of needles are the same at every length, too, and never have a key or
/// a value that is asked for. A cell without depth has its needles where RULER's stand: in prose at
/// different points of 40 even ones, else anywhere.
Draft magic_draft(const MagicForm& form, const CellKey& key, Wording wording);

/// For the tables of tasks: TaskSpec::draft of a form.
template <MagicForm form>
Draft magic(const TaskSpec&, const CellKey& key, const DraftOptions& options) {
  return magic_draft(form, key, options.wording);
}

}  // namespace heddle::needle
