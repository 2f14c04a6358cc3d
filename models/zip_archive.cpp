#include "models/zip_archive.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/checked_size.h"
#include "base/error.h"
#include "models/file_guess.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

constexpr std::uint64_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22;
constexpr std::uint64_t kLocatorBytes = 20, kEnd64Bytes = 56;
constexpr std::uint32_t kLocalMark = 0x04034b50, kCentralMark = 0x02014b50, kEndMark = 0x06054b50;
constexpr std::uint32_t kLocatorMark = 0x07064b50, kEnd64Mark = 0x06064b50;
constexpr std::uint32_t kIn64 = 0xffffffff;  // the value is in the zip64 field
constexpr std::uint16_t kExtra64 = 1;
constexpr std::uint16_t kSizesBehind = 1U << 3U;  // the local header was written before the bytes
constexpr std::uint16_t kUtf8Name = 1U << 11U;

}  // namespace

class ZipParser {
 public:
  ZipParser(std::span<const std::byte> file, std::string source) : file_(file) {
    out_.source_ = std::move(source);
  }

  ZipArchive run() {
    find_directory();
    out_.entries_.reserve(n_entries_);
    std::uint64_t at = directory_;
    for (std::uint64_t i = 0; i < n_entries_; ++i) at = read_entry(at);
    if (at != directory_end_) {
      throw error(fmt::format("directory of {} entries, got {} bytes, allowed {}", n_entries_,
                              directory_end_ - directory_, at - directory_));
    }
    check_ranges();
    return std::move(out_);
  }

 private:
  struct Entry {  // as the central directory has it
    std::string_view name;
    std::uint16_t flags = 0;
    std::uint64_t packed = 0, bytes = 0, header = 0;
  };
  struct Range {
    std::uint64_t begin = 0, end = 0;
    std::size_t entry = 0;
  };

  Error error(const std::string& text) const {
    return bad_input(fmt::format("{}: zip_archive: {}", out_.source_, text));
  }
  Error error(std::string_view what,
              std::string_view name,
              std::uint64_t got,
              std::string_view ok) const {
    return error(fmt::format("{} of {}, got {}, allowed {}", what, quote_text(name), got, ok));
  }

  template <typename T>
  T load(std::uint64_t at) const {
    static_assert(std::endian::native == std::endian::little);
    HEDDLE_CHECK(sizeof(T) <= file_.size() && at <= file_.size() - sizeof(T));
    T value = 0;
    std::memcpy(&value, file_.data() + at, sizeof(T));
    return value;
  }
  std::uint16_t u16(std::uint64_t at) const { return load<std::uint16_t>(at); }
  std::uint32_t u32(std::uint64_t at) const { return load<std::uint32_t>(at); }
  std::uint64_t u64(std::uint64_t at) const { return load<std::uint64_t>(at); }
  std::string_view text(std::uint64_t at, std::uint64_t n) const {
    return {reinterpret_cast<const char*>(file_.data()) + at, n};
  }

  /// The end record must be the file's last bytes: a comment behind it could hold another one.
  void find_directory() {
    const std::uint64_t size = file_.size();
    if (size < kEndBytes || u32(size - kEndBytes) != kEndMark) throw no_end();
    const std::uint64_t end = size - kEndBytes;
    if (u16(end + 20) != 0) {
      throw error(fmt::format("bytes of the comment, got {}, allowed 0", u16(end + 20)));
    }
    std::uint64_t records_end = end;
    std::uint64_t bytes = u32(end + 12);
    n_entries_ = u16(end + 10);
    std::uint64_t here = u16(end + 8);
    directory_ = u32(end + 16);
    std::uint64_t disk = u16(end + 4) | u16(end + 6);
    if (end >= kLocatorBytes && u32(end - kLocatorBytes) == kLocatorMark) {
      records_end = find_end64(end - kLocatorBytes);
      disk |= u32(records_end + 16) | u32(records_end + 20);
      take64("entries on this disk", here, 0xffff, u64(records_end + 24));
      take64("entries", n_entries_, 0xffff, u64(records_end + 32));
      take64("bytes of the directory", bytes, kIn64, u64(records_end + 40));
      take64("offset of the directory", directory_, kIn64, u64(records_end + 48));
    }
    if (disk != 0) throw error(fmt::format("number of the disk, got {}, allowed 0", disk));
    if (here != n_entries_ || n_entries_ == 0 || n_entries_ > ZipLimits::kEntries) {
      throw error(fmt::format("entries, got {}, {} of them here, allowed 1 to {}, all here",
                              n_entries_, here, ZipLimits::kEntries));
    }
    const CheckedSize stop = checked_add(directory_, bytes);
    if (stop != records_end) {
      throw error(fmt::format("directory, got {} bytes at byte {}, allowed those up to byte {}",
                              bytes, directory_, records_end));
    }
    directory_end_ = records_end;
  }

  Error no_end() const {
    const std::string guess =
        file_.size() >= 4 && u32(0) == kLocalMark ? "" : guess_binary_file(file_);
    if (!guess.empty()) {
      return error(fmt::format("got {}, allowed a zip archive as torch.save writes it", guess));
    }
    return error(
        fmt::format("end record, got none in the last bytes of {}, allowed one ({} bytes; is the "
                    "file truncated?)",
                    file_.size(), kEndBytes));
  }

  std::uint64_t find_end64(std::uint64_t locator) const {
    const std::uint64_t at = u64(locator + 8);
    if (locator < kEnd64Bytes || at != locator - kEnd64Bytes || u32(at) != kEnd64Mark ||
        u64(at + 4) != kEnd64Bytes - 12) {
      throw error(fmt::format("zip64 end record, got byte {}, allowed {} bytes before byte {}", at,
                              kEnd64Bytes, locator));
    }
    if (u32(locator + 4) != 0 || u32(locator + 16) > 1) {
      throw error(fmt::format("disks, got {}, allowed 1", u32(locator + 16)));
    }
    return at;
  }

  /// A value of the end record, or of zip64's: both, if the first is there.
  void take64(std::string_view what,
              std::uint64_t& value,
              std::uint64_t absent,
              std::uint64_t value64) const {
    if (value != absent && value != value64) {
      throw error(
          fmt::format("{}, got {} and {} (zip64), allowed one value", what, value, value64));
    }
    value = value64;
  }

  std::uint64_t read_entry(std::uint64_t at) {
    if (directory_end_ - at < kCentralBytes || u32(at) != kCentralMark) {
      throw error(fmt::format("directory entry {}, got none at byte {}, allowed {}",
                              out_.entries_.size(), at, n_entries_));
    }
    const std::uint64_t n_name = u16(at + 28), n_extra = u16(at + 30), n_comment = u16(at + 32);
    const std::uint64_t end = at + kCentralBytes + n_name + n_extra + n_comment;
    if (end > directory_end_) {
      throw error(fmt::format("directory entry {}, got an end at byte {}, allowed up to {}",
                              out_.entries_.size(), end, directory_end_));
    }
    if (n_name == 0 || n_name > ZipLimits::kNameBytes) {
      throw error(fmt::format("length of an entry's name, got {}, allowed 1 to {}", n_name,
                              ZipLimits::kNameBytes));
    }
    Entry entry;
    entry.name = text(at + kCentralBytes, n_name);
    entry.flags = u16(at + 8);
    if ((entry.flags & ~(kSizesBehind | kUtf8Name)) != 0) {
      throw error("flags", entry.name, entry.flags, "3 and 11 (no encryption)");
    }
    if (u16(at + 10) != 0) throw error("method", entry.name, u16(at + 10), "0 (stored)");
    if (u16(at + 34) != 0) throw error("disk", entry.name, u16(at + 34), "0");
    entry.packed = u32(at + 20);
    entry.bytes = u32(at + 24);
    entry.header = u32(at + 42);
    read_extra64(entry, at + kCentralBytes + n_name, n_extra);
    if (entry.packed != entry.bytes) {
      throw error("stored bytes", entry.name, entry.packed, fmt::format("{}", entry.bytes));
    }
    add(entry);
    return end;
  }

  /// Where the zip64 field of `n` bytes at `at` begins, and how long it is; (0, 0): there is none.
  std::pair<std::uint64_t, std::uint64_t> extra64(const Entry& entry,
                                                  std::uint64_t at,
                                                  std::uint64_t n) const {
    const std::uint64_t end = at + n;
    while (end - at >= 4) {
      const std::uint64_t bytes = u16(at + 2);
      if (bytes > end - at - 4) {
        throw error("bytes of an extra field", entry.name, bytes, fmt::format("{}", end - at - 4));
      }
      if (u16(at) == kExtra64) return {at + 4, bytes};
      at += 4 + bytes;
    }
    return {0, 0};
  }

  void read_extra64(Entry& entry, std::uint64_t at, std::uint64_t n) const {
    auto [from, left] = extra64(entry, at, n);
    for (std::uint64_t* const value : {&entry.bytes, &entry.packed, &entry.header}) {
      if (*value != kIn64) continue;
      if (left < 8) throw error("bytes left in the zip64 field", entry.name, left, "8 or more");
      *value = u64(from);
      from += 8;
      left -= 8;
    }
  }

  void add(const Entry& entry) {
    const CheckedSize fixed = checked_add(entry.header, kLocalBytes);
    if (!fixed || *fixed > directory_) {
      throw error("offset", entry.name, entry.header,
                  fmt::format("up to the directory at byte {}", directory_));
    }
    const std::uint64_t n_name = u16(entry.header + 26), n_extra = u16(entry.header + 28);
    const std::uint64_t data = *fixed + n_name + n_extra;
    if (u32(entry.header) != kLocalMark || data > directory_) {
      throw error(fmt::format("header of {}, got none at byte {}, allowed one",
                              quote_text(entry.name), entry.header));
    }
    if (text(*fixed, n_name) != entry.name) {
      throw error(fmt::format("name in the header of {}, got {}, allowed the same",
                              quote_text(entry.name), quote_text(text(*fixed, n_name))));
    }
    check_local(entry, *fixed + n_name, n_extra);
    const CheckedSize end = checked_add(data, entry.bytes);
    if (!end || *end > directory_) {
      throw error("bytes", entry.name, entry.bytes,
                  fmt::format("up to {} (the directory)", directory_ - data));
    }
    const bool is_new = out_.by_name_.emplace(std::string(entry.name), out_.entries_.size()).second;
    if (!is_new) {
      throw error(fmt::format("entry {}, got it twice, allowed once", quote_text(entry.name)));
    }
    ranges_.push_back({entry.header, *end, out_.entries_.size()});
    out_.entries_.push_back({std::string(entry.name), data, entry.bytes});
  }

  /// The entry's own header: what it says must be what the directory says.
  void check_local(const Entry& entry, std::uint64_t extra, std::uint64_t n_extra) const {
    const std::uint64_t at = entry.header;
    if (u16(at + 6) != entry.flags) {
      throw error("flags in the header", entry.name, u16(at + 6), fmt::format("{}", entry.flags));
    }
    if (u16(at + 8) != 0)
      throw error("method in the header", entry.name, u16(at + 8), "0 (stored)");
    std::uint64_t packed = u32(at + 18), bytes = u32(at + 22);
    if ((entry.flags & kSizesBehind) != 0 && packed == 0 && bytes == 0) return;
    if (packed == kIn64 || bytes == kIn64) {
      auto [from, left] = extra64(entry, extra, n_extra);
      if (left < 16) {
        throw error("bytes of the zip64 field in the header", entry.name, left, "16 or more");
      }
      if (bytes == kIn64) bytes = u64(from);
      if (packed == kIn64) packed = u64(from + 8);
    }
    for (const std::uint64_t got : {bytes, packed}) {
      if (got == entry.bytes) continue;
      throw error("bytes in the header", entry.name, got, fmt::format("{}", entry.bytes));
    }
  }

  void check_ranges() {
    std::sort(ranges_.begin(), ranges_.end(),
              [](const Range& a, const Range& b) { return a.begin < b.begin; });
    for (std::size_t i = 1; i < ranges_.size(); ++i) {
      if (ranges_[i].begin >= ranges_[i - 1].end) continue;
      throw error(fmt::format("got {} and {} overlapping, allowed disjoint ones",
                              quote_text(out_.entries_[ranges_[i - 1].entry].name),
                              quote_text(out_.entries_[ranges_[i].entry].name)));
    }
    std::vector<ZipEntry> sorted;
    sorted.reserve(ranges_.size());
    for (const Range& range : ranges_) {
      out_.by_name_[out_.entries_[range.entry].name] = sorted.size();
      sorted.push_back(std::move(out_.entries_[range.entry]));
    }
    out_.entries_ = std::move(sorted);
  }

  std::span<const std::byte> file_;
  ZipArchive out_;
  std::uint64_t n_entries_ = 0, directory_ = 0, directory_end_ = 0;
  std::vector<Range> ranges_;
};

ZipArchive ZipArchive::parse(std::span<const std::byte> file, std::string source) {
  return ZipParser(file, std::move(source)).run();
}

const ZipEntry* ZipArchive::find(std::string_view name) const {
  const auto at = by_name_.find(std::string(name));
  return at == by_name_.end() ? nullptr : &entries_[at->second];
}

}  // namespace heddle
