#include "tools/needle/results_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/new_file.h"

namespace heddle::needle {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLargestFile = std::size_t{1} << 30;

std::string read_whole(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) {
    if (errno == ENOENT) return "";
    throw bad_input(fmt::format("{}: cannot open: {}", path, std::strerror(errno)));
  }
  return read_descriptor(file.get(), path, kLargestFile);
}

void publish(const std::string& path, const std::string& text) {
  NewFile file(path, path, NewFileReaders::kUmask);
  file.append(std::as_bytes(std::span(text)));
  file.publish();
}

std::string line_of(const Row& row) {
  return json_of(row).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

void require_free(const std::string& folder, bool resume) {
  if (resume) return;
  for (const char* name : {"/results.jsonl", "/compare.csv"}) {
    std::error_code failure;
    const auto size = fs::file_size(folder + name, failure);
    if (failure || size == 0) continue;
    throw bad_input(fmt::format(
        "--out: {}: has results already; --resume goes on with them, another --out DIR keeps them",
        folder));
  }
}

ResultsFile::ResultsFile(const std::string& folder, const Json& facts, bool resume)
    : folder_(folder), path_(folder + "/results.jsonl") {
  std::error_code failure;
  fs::create_directories(folder, failure);
  if (failure || !fs::is_directory(folder)) {
    throw bad_input(fmt::format("--out: {}: cannot be made: {}", folder,
                                failure ? failure.message() : "there is a file of that name"));
  }
  lock_folder();
  const std::string text = read_whole(path_);
  require_free(folder, resume);
  check_facts(facts, !text.empty());
  read(text);
  publish(folder_ + "/run.json", facts.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  open_file();
}

void ResultsFile::open_file() {
  file_ = Descriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (file_.get() < 0) {
    throw bad_input(fmt::format("--out: {}: cannot be written: {}", path_, std::strerror(errno)));
  }
}

void ResultsFile::lock_folder() {
  lock_ = Descriptor(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock_.get() < 0 || ::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    throw bad_input(
        fmt::format("--out: {}: {}", folder_,
                    errno == EWOULDBLOCK ? "another run is writing there" : std::strerror(errno)));
  }
}

void ResultsFile::check_facts(const Json& facts, bool has_results) const {
  const std::string path = folder_ + "/run.json";
  const std::string text = read_whole(path);
  if (!has_results) return;
  if (text.empty()) {
    throw bad_input(
        fmt::format("--resume: {}: is missing, so the results beside it cannot be gone "
                    "on with",
                    path));
  }
  const Json before = parse_json(text, path);
  for (const auto& [key, value] : facts.items()) {
    const auto old = before.is_object() ? before.find(key) : before.end();
    const bool is_there = before.is_object() && old != before.end();
    if (is_there && *old == value) continue;
    throw bad_input(fmt::format("--resume: {}: the results are of another run: {} was {}, is {}",
                                path, key, is_there ? old->dump() : "not given", value.dump()));
  }
}

void ResultsFile::read(const std::string& text) {
  const std::size_t end = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
  bool rewrite = end != text.size();
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < end;) {
    const std::size_t next = text.find('\n', begin) + 1;
    const std::string where = fmt::format("{}:{}", path_, ++number);
    Row row = read_row(std::string_view(text).substr(begin, next - begin - 1), where);
    begin = next;
    if (!row.error.empty()) {
      rewrite = true;
      continue;
    }
    if (has(row.key))
      throw bad_input(fmt::format("{}: {} is there twice", where, text_of(row.key)));
    add(std::move(row));
  }
  if (rewrite) publish_rows();
}

void ResultsFile::publish_rows() const {
  std::string text;
  for (const Row& row : rows_) text += line_of(row);
  publish(path_, text);
}

void ResultsFile::put_in_order(const std::vector<CellKey>& order) {
  std::map<CellKey, std::size_t> places;
  for (const CellKey& key : order) places.emplace(key, places.size() + 1);
  const auto place = [&](const Row& row) {
    const auto it = places.find(row.key);
    return it == places.end() ? 0 : it->second;
  };
  const auto before = [&](const Row& a, const Row& b) { return place(a) < place(b); };
  if (std::is_sorted(rows_.begin(), rows_.end(), before)) return;
  std::stable_sort(rows_.begin(), rows_.end(), before);
  publish_rows();
  open_file();
}

void ResultsFile::add(Row row) {
  keys_.insert(row.key);
  rows_.push_back(std::move(row));
}

void ResultsFile::append(Row row) {
  HEDDLE_CHECK(!has(row.key));  // a second one would not be read back
  const std::string line = line_of(row);
  std::string_view left = line;
  while (!left.empty()) {
    const ssize_t n = ::write(file_.get(), left.data(), left.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      throw runtime_failure(fmt::format("{}: a write failed: {}", path_, std::strerror(errno)));
    }
    left.remove_prefix(static_cast<std::size_t>(n));
  }
  if (::fsync(file_.get()) != 0) {
    throw runtime_failure(fmt::format("{}: cannot be kept: {}", path_, std::strerror(errno)));
  }
  add(std::move(row));
}

}  // namespace heddle::needle
