#pragma once
// Writes zip archives for tests as torch.save does, and with any single thing wrong.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace heddle::test {

template <typename T>
void append_number(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

/// An entry; what is set stands instead of the true value. "Own" is the header before the bytes.
struct ZipPart {
  std::string name;
  std::string data;
  std::uint16_t flags = 0, own_flags = 0;
  std::uint16_t method = 0, own_method = 0;
  std::string own_name = {};  // "": the same
  std::optional<std::uint64_t> packed = {}, bytes = {}, offset = {}, own_bytes = {};
  std::optional<std::string> extra = {}, own_extra = {};
};

/// An archive as its parts; change any of them, then serialise. Nothing is checked.
struct ZipDoc {
  std::vector<ZipPart> parts;
  bool sizes_behind = true;  // as torch writes them: in the header 0
  bool zip64 = true;         // end records of zip64 too
  bool all64 = false;        // every size and offset in the zip64 field
  std::string between;       // before each header
  std::uint64_t alignment = 64;
  std::optional<std::uint64_t> entries = {}, directory_bytes = {}, directory = {}, end64 = {};
  std::optional<std::uint16_t> entries32 = {}, disk = {};
  std::string comment, tail;

  ZipPart& part(std::string_view name) {
    for (ZipPart& p : parts) {
      if (p.name.size() >= name.size() &&
          std::string_view(p.name).substr(p.name.size() - name.size()) == name) {
        return p;
      }
    }
    return parts.at(parts.size());  // throws
  }

  std::string serialise() const {
    std::string file, entries_text;
    for (const ZipPart& p : parts) {
      file += between;
      const std::uint64_t at = p.offset.value_or(file.size());
      add_own(file, p);
      add_central(entries_text, p, at);
    }
    const std::uint64_t start = directory.value_or(file.size());
    const std::uint64_t bytes = directory_bytes.value_or(entries_text.size());
    const std::uint64_t n = entries.value_or(parts.size());
    file += entries_text;
    if (zip64) add_end64(file, n, bytes, start);
    file += "PK\x05\x06";
    append_number<std::uint16_t>(file, disk.value_or(0));
    append_number<std::uint16_t>(file, 0);
    append_number<std::uint16_t>(file, entries32.value_or(all64 ? 0xffff : n));
    append_number<std::uint16_t>(file, entries32.value_or(all64 ? 0xffff : n));
    append_number<std::uint32_t>(file, static_cast<std::uint32_t>(all64 ? ~0ULL : bytes));
    append_number<std::uint32_t>(file, static_cast<std::uint32_t>(all64 ? ~0ULL : start));
    append_number<std::uint16_t>(file, static_cast<std::uint16_t>(comment.size()));
    return file + comment + tail;
  }

 private:
  static std::uint16_t all_flags(const ZipDoc& doc, std::uint16_t more) {
    return static_cast<std::uint16_t>((doc.sizes_behind ? 0x808U : 0U) | more);
  }
  void add_own(std::string& file, const ZipPart& p) const {
    const std::string& name = p.own_name.empty() ? p.name : p.own_name;
    const std::uint64_t bytes = p.own_bytes.value_or(sizes_behind ? 0 : p.data.size());
    std::string extra;
    if (all64 && !sizes_behind) {
      append_number<std::uint16_t>(extra, 1);
      append_number<std::uint16_t>(extra, 16);
      append_number<std::uint64_t>(extra, bytes);
      append_number<std::uint64_t>(extra, bytes);
    }
    if (alignment > 0) {  // an extra field "FB" of what brings the data to a multiple
      const std::uint64_t data = file.size() + 30 + name.size() + extra.size() + 4;
      const std::uint64_t fill = (alignment - data % alignment) % alignment;
      extra += "FB";
      append_number<std::uint16_t>(extra, static_cast<std::uint16_t>(fill));
      extra.append(fill, 'Z');
    }
    if (p.own_extra) extra = *p.own_extra;
    file += "PK\x03\x04";
    append_number<std::uint16_t>(file, 0);
    append_number<std::uint16_t>(file, all_flags(*this, p.flags | p.own_flags));
    append_number<std::uint16_t>(file, p.own_method != 0 ? p.own_method : p.method);
    append_number<std::uint64_t>(file, 0);  // time, date, checksum
    const bool wide = all64 && !sizes_behind;
    append_number<std::uint32_t>(file, static_cast<std::uint32_t>(wide ? ~0ULL : bytes));
    append_number<std::uint32_t>(file, static_cast<std::uint32_t>(wide ? ~0ULL : bytes));
    append_number<std::uint16_t>(file, static_cast<std::uint16_t>(name.size()));
    append_number<std::uint16_t>(file, static_cast<std::uint16_t>(extra.size()));
    file += name + extra + p.data;
    if (!sizes_behind) return;
    file += "PK\x07\x08";
    append_number<std::uint32_t>(file, 0);
    append_number<std::uint32_t>(file, static_cast<std::uint32_t>(p.data.size()));
    append_number<std::uint32_t>(file, static_cast<std::uint32_t>(p.data.size()));
  }
  void add_central(std::string& out, const ZipPart& p, std::uint64_t at) const {
    const std::uint64_t packed = p.packed.value_or(p.data.size());
    const std::uint64_t bytes = p.bytes.value_or(p.data.size());
    std::string extra;
    if (all64) {
      append_number<std::uint16_t>(extra, 1);
      append_number<std::uint16_t>(extra, 24);
      for (const std::uint64_t value : {bytes, packed, at}) append_number(extra, value);
    }
    if (p.extra) extra = *p.extra;
    out += "PK\x01\x02";
    append_number<std::uint32_t>(out, 0);  // versions
    append_number<std::uint16_t>(out, all_flags(*this, p.flags));
    append_number<std::uint16_t>(out, p.method);
    append_number<std::uint64_t>(out, 0);
    append_number<std::uint32_t>(out, static_cast<std::uint32_t>(all64 ? ~0ULL : packed));
    append_number<std::uint32_t>(out, static_cast<std::uint32_t>(all64 ? ~0ULL : bytes));
    append_number<std::uint16_t>(out, static_cast<std::uint16_t>(p.name.size()));
    append_number<std::uint16_t>(out, static_cast<std::uint16_t>(extra.size()));
    append_number<std::uint64_t>(out, 0);  // comment, disk, attributes
    append_number<std::uint16_t>(out, 0);
    append_number<std::uint32_t>(out, static_cast<std::uint32_t>(all64 ? ~0ULL : at));
    out += p.name + extra;
  }
  void add_end64(std::string& file,
                 std::uint64_t n,
                 std::uint64_t bytes,
                 std::uint64_t start) const {
    const std::uint64_t at = file.size();
    file += "PK\x06\x06";
    append_number<std::uint64_t>(file, 44);
    append_number<std::uint32_t>(file, 0);
    append_number<std::uint64_t>(file, 0);
    for (const std::uint64_t value : {n, n, bytes, start}) append_number(file, value);
    file += "PK\x06\x07";
    append_number<std::uint32_t>(file, 0);
    append_number<std::uint64_t>(file, end64.value_or(at));
    append_number<std::uint32_t>(file, 1);
  }
};

}  // namespace heddle::test
