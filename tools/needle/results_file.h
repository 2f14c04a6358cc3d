#pragma once
// OUT/results.jsonl: a line a row, on the disk before the next is asked for.

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "base/descriptor.h"
#include "base/json.h"
#include "tools/needle/row.h"

namespace heddle::needle {

/// Throws kBadInput where `folder` has results and `resume` is not asked for: what is known before
/// a model is loaded.
void require_free(const std::string& folder, bool resume);

/// Belongs to one process at a time.
class ResultsFile {
 public:
  /// Makes `folder` if it is missing. `facts`, a flat object, says what decides a row beside its
  /// key; it is kept in run.json. Without `resume` a folder that has results is refused. With it
  /// its facts must be equal; a line that was cut off by a crash is dropped, and so are rows with
  /// an error, which are asked again (the file is then written anew and put in its place). Throws
  /// kBadInput, kRuntime (disk).
  ResultsFile(const std::string& folder, const Json& facts, bool resume);

  /// Those of the file, in its order.
  const std::vector<Row>& rows() const { return rows_; }
  bool has(const CellKey& key) const { return keys_.contains(key); }
  /// Appended and on the disk. Throws kRuntime.
  void append(Row row);
  /// As a run without a break would have written them: rows with an error that were asked again
  /// stand at the end, and go back to their places (the file is then written anew). Rows that
  /// `order` does not name come first. Throws as the constructor does.
  void put_in_order(const std::vector<CellKey>& order);

 private:
  void lock_folder();
  void open_file();
  void publish_rows() const;
  void check_facts(const Json& facts, bool has_results) const;
  void read(const std::string& text);
  void add(Row row);

  std::string folder_;
  std::string path_;
  Descriptor lock_;  // of the folder
  Descriptor file_;
  std::vector<Row> rows_;
  std::set<CellKey> keys_;
};

}  // namespace heddle::needle
