#include "engine/session_file.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/checked_size.h"
#include "base/error.h"
#include "engine/session_layout.h"

namespace heddle {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{64} << 10U;
// Fixed: a checksum, not a secret.
constexpr std::array<std::uint64_t, 2> kKey = {0x656c64646568U, 0x6e6f6973736573U};
constexpr std::array<std::string_view, kSessionParts> kPartNames = {
    "tokens", "keys and values", "compressed keys", "snapshot positions", "states"};

std::span<const std::byte> covered(const SessionHeader& header) {
  return std::as_bytes(std::span(&header, 1)).first(offsetof(SessionHeader, checksum));
}

std::string hex(const Hash128& hash) {
  return fmt::format("{:016x}{:016x}", hash.high, hash.low);
}

SessionHeader::Section& section(SessionHeader& header, SessionPart part) {
  return header.sections[static_cast<std::size_t>(part)];
}

/// Reads and checks the header; what it says of lengths agrees with `bytes` and in itself.
class Parser {
 public:
  Parser(std::span<const std::byte> bytes, const std::string& source)
      : bytes_(bytes), source_(source) {}

  SessionView parse() {
    read_header();
    check_sizes();
    SessionView view;
    view.numerics_id.assign(header_.numerics_id.begin(), header_.numerics_id.end());
    view.weights = header_.weights;
    view.group_bytes = header_.group_bytes;
    view.state_bytes = header_.state_bytes;
    read_tokens(take(SessionPart::kTokens), view);
    view.kv = take(SessionPart::kKv);
    view.compressed = take(SessionPart::kCompressed);
    read_positions(take(SessionPart::kPositions), view);
    view.states = take(SessionPart::kStates);
    return view;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw bad_input(fmt::format("{}: {}", source_, what));
  }

  void read_header() {
    const SessionHeader ours;
    const std::size_t n = std::min(bytes_.size(), sizeof(SessionHeader));
    if (n > 0) std::memcpy(static_cast<void*>(&header_), bytes_.data(), n);
    if (n < sizeof ours.magic || header_.magic != ours.magic) fail("is not a session file");
    if (n < sizeof(SessionHeader)) {
      fail(fmt::format("has {} bytes, the header alone has {}", n, sizeof(SessionHeader)));
    }
    if (header_.byte_order != ours.byte_order) {
      fail("was written on a machine with another order of bytes");
    }
    if (header_.version != kSessionVersion) {
      fail(fmt::format("has version {}, allowed: {}", header_.version, kSessionVersion));
    }
    if (session_checksum(covered(header_)) != header_.checksum) {
      fail("the header is damaged (checksum)");
    }
    const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
    if (!std::ranges::all_of(header_.numerics_id, hex)) fail("the numerics id is not hex digits");
  }

  void require_bytes(SessionPart part, CheckedSize allowed) {
    const std::uint64_t got = section(header_, part).bytes;
    if (allowed && got == *allowed) return;
    fail(fmt::format("{}: {} bytes, allowed: {}", kPartNames[static_cast<std::size_t>(part)], got,
                     allowed ? fmt::format("{}", *allowed) : "none, the counts are too large"));
  }

  void check_sizes() {
    CheckedSize total = sizeof(SessionHeader);
    for (const auto& part : header_.sections) total = checked_add(total, part.bytes);
    if (header_.file_bytes != bytes_.size() || total != header_.file_bytes) {
      fail(fmt::format("has {} bytes, the header says {}; it was cut or is damaged", bytes_.size(),
                       header_.file_bytes));
    }
    if (header_.n_tokens == 0) fail("holds no tokens");
    const CheckedSize groups = checked_add(header_.n_tokens, SessionLayout::kGroup - 1);
    require_bytes(SessionPart::kTokens, checked_mul(header_.n_tokens, sizeof(std::int32_t)));
    require_bytes(SessionPart::kKv,
                  checked_mul(groups ? CheckedSize(*groups / SessionLayout::kGroup) : groups,
                              header_.group_bytes));
    require_bytes(SessionPart::kPositions, checked_mul(header_.n_snapshots, sizeof(std::uint64_t)));
    require_bytes(SessionPart::kStates, checked_mul(header_.n_snapshots, header_.state_bytes));
    if (header_.state_bytes == 0 && header_.n_snapshots > 0) fail("has snapshots without states");
  }

  /// The next section; sections lie in order and end where the file does.
  std::span<const std::byte> take(SessionPart part) {
    const SessionHeader::Section& wanted = section(header_, part);
    const auto bytes = bytes_.subspan(at_, wanted.bytes);
    at_ += wanted.bytes;
    if (session_checksum(bytes) != wanted.checksum) {
      fail(fmt::format("{}: damaged (checksum)", kPartNames[static_cast<std::size_t>(part)]));
    }
    return bytes;
  }

  void read_tokens(std::span<const std::byte> bytes, SessionView& view) const {
    view.tokens.resize(bytes.size() / sizeof(std::int32_t));
    std::memcpy(view.tokens.data(), bytes.data(), bytes.size());  // at least one
    const auto bad = std::ranges::find_if(view.tokens, [](std::int32_t t) { return t < 0; });
    if (bad != view.tokens.end()) {
      fail(fmt::format("token {} is {}, allowed: 0 or more", bad - view.tokens.begin(), *bad));
    }
  }

  void read_positions(std::span<const std::byte> bytes, SessionView& view) const {
    view.positions.resize(bytes.size() / sizeof(std::uint64_t));
    if (!bytes.empty()) std::memcpy(view.positions.data(), bytes.data(), bytes.size());
    const auto n_tokens = static_cast<std::int64_t>(header_.n_tokens);
    std::int64_t before = 0;
    for (std::size_t i = 0; i < view.positions.size(); ++i) {
      const std::int64_t position = view.positions[i];
      if (position <= before || position > n_tokens) {
        fail(fmt::format("snapshot {} is at position {}, allowed: {} .. {}", i,
                         static_cast<std::uint64_t>(position), before + 1, n_tokens));
      }
      before = position;
    }
  }

  std::span<const std::byte> bytes_;
  const std::string& source_;
  SessionHeader header_;
  std::size_t at_ = sizeof(SessionHeader);
};

}  // namespace

void SessionChecksum::add(std::span<const std::byte> bytes) {
  bytes_ += bytes.size();
  while (!bytes.empty()) {
    const std::size_t n = std::min(bytes.size(), kPieceBytes - piece_bytes_);
    words_.resize((piece_bytes_ + n + sizeof(std::uint64_t) - 1) / sizeof(std::uint64_t));
    std::memcpy(reinterpret_cast<std::byte*>(words_.data()) + piece_bytes_, bytes.data(), n);
    piece_bytes_ += n;
    bytes = bytes.subspan(n);
    if (piece_bytes_ == kPieceBytes) finish_piece();
  }
}

void SessionChecksum::finish_piece() {
  const Hash128 hash = sip_hash(words_, kKey);
  pieces_.insert(pieces_.end(), {hash.low, hash.high});
  words_.clear();
  piece_bytes_ = 0;
}

Hash128 SessionChecksum::finish() {
  if (piece_bytes_ > 0) finish_piece();
  pieces_.push_back(bytes_);
  const Hash128 hash = sip_hash(pieces_, kKey);
  pieces_.clear();
  bytes_ = 0;
  return hash;
}

Hash128 session_checksum(std::span<const std::byte> bytes) {
  SessionChecksum checksum;
  checksum.add(bytes);
  return checksum.finish();
}

SessionView parse_session(std::span<const std::byte> bytes, const std::string& source) {
  return Parser(bytes, source).parse();
}

void check_session(const SessionView& session,
                   const SessionFacts& facts,
                   const std::string& source) {
  if (session.numerics_id != facts.numerics_id) {
    throw bad_input(
        fmt::format("{}: made with numerics id {}, this run has {}: another model, or another "
                    "--kv-dtype, --attention, --ctx, --device, --force-kernel or version",
                    source, session.numerics_id, facts.numerics_id));
  }
  if (session.weights != facts.weights) {
    throw bad_input(fmt::format("{}: made with other weights: hash {}, this model's is {}", source,
                                hex(session.weights), hex(facts.weights)));
  }
  const auto same = [&](std::string_view what, std::uint64_t got, std::uint64_t allowed) {
    if (got == allowed) return;
    throw bad_input(fmt::format("{}: {}: {} bytes, allowed: {}", source, what, got, allowed));
  };
  if (session.group_bytes != facts.group_bytes && session.state_bytes != facts.state_bytes) {
    throw bad_input(fmt::format(
        "{}: keys and values of 16 tokens: {} bytes, a snapshot: {}, allowed: {} and {}: "
        "made with a --ctx that keeps sliding windows otherwise",
        source, session.group_bytes, session.state_bytes, facts.group_bytes, facts.state_bytes));
  }
  same("keys and values of 16 tokens", session.group_bytes, facts.group_bytes);
  same("a snapshot", session.state_bytes, facts.state_bytes);
  same("compressed keys", session.compressed.size(), facts.compressed_bytes);
  const auto last = std::ranges::max_element(session.tokens);
  if (*last >= facts.vocab) {
    throw bad_input(fmt::format("{}: token {} is {}, allowed: 0 .. {}", source,
                                last - session.tokens.begin(), *last, facts.vocab - 1));
  }
}

std::string session_source(const std::string& path) {
  return path + ": session";
}

std::optional<SessionFile> SessionFile::open(const std::string& path) {
  const std::string source = session_source(path);
  const NewFile place(path, source);  // goes again: there must be room for the new one
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0 && errno == ENOENT) return std::nullopt;
  std::optional<MappedFile> file;
  try {
    file.emplace(path);
  } catch (const Error& e) {
    throw bad_input(fmt::format("session: {}", e.what()));
  }
  SessionView view = parse_session(file->bytes(), source);
  return SessionFile(std::move(*file), std::move(view));
}

std::string SessionReport::describe() const {
  const auto counted = [](std::int64_t n, std::string_view what) {
    return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
  };
  std::string text =
      fmt::format("{} and {}", counted(tokens, "token"), counted(snapshots, "snapshot"));
  if (left_out_tokens > 0) {
    text += fmt::format("; the last {} tokens found no room (--kv-tokens)", left_out_tokens);
  }
  if (left_out_snapshots > 0) {
    text += fmt::format("; {} found no room", counted(left_out_snapshots, "snapshot"));
  }
  return text;
}

SessionWriter::SessionWriter(const std::string& path, const SessionHeader& header)
    : file_(path, session_source(path)), header_(header) {
  file_.append(std::as_bytes(std::span(&header_, 1)));  // its place
  header_.file_bytes = sizeof header_;
}

void SessionWriter::end_part() {
  header_.sections[part_].checksum = checksum_.finish();
  ++part_;
}

void SessionWriter::append(SessionPart part, std::span<const std::byte> bytes) {
  HEDDLE_CHECK(static_cast<std::size_t>(part) >= part_);
  while (part_ < static_cast<std::size_t>(part)) end_part();
  file_.append(bytes);
  checksum_.add(bytes);
  header_.sections[part_].bytes += bytes.size();
  header_.file_bytes += bytes.size();
}

std::uint64_t SessionWriter::finish() {
  while (part_ < kSessionParts) end_part();
  header_.checksum = session_checksum(covered(header_));
  file_.overwrite(0, std::as_bytes(std::span(&header_, 1)));
  file_.publish();
  return header_.file_bytes;
}

}  // namespace heddle
