#pragma once
// A session on disk: one text's tokens with its keys, values and recurrent states, so that another
// process begins behind it. Version 2; numbers as the machine has them, offsets from the begin:
//
//     0  8 bytes  89 'H' 'D' 'L' 'S' 'E' 'S' 0a
//     8  u32      version
//    12  u32      01020304, in the machine's order of bytes
//    16  16 bytes numerics id, hex digits
//    32  128-bit  hash of all the model's weights (engine/weights_hash.h)
//    48  u64      bytes of the file
//    56  u64      tokens                     n, at least 1
//    64  u64      snapshots                  m
//    72  u64      bytes of 16 tokens' keys and values
//    80  u64      bytes of a snapshot        0 where the model has no states
//    88  5 times {u64 bytes, 128-bit checksum} of the sections
//   208  128-bit checksum of all before it
//   224  tokens       n i32
//        keys, values groups of 16 tokens (engine/session_layout.h)
//        compressed   compressed keys (the same)
//        positions    m u64, ascending, 1 .. n: the state after so many tokens
//        states       m states
//
// Checksums find damage, not malice: who writes a session decides what the model remembers. But
// nothing in a file can make its reader read or allocate beyond what the file holds.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/mapped_file.h"
#include "base/new_file.h"
#include "base/sip_hash.h"

namespace heddle {

inline constexpr std::uint32_t kSessionVersion = 2;

enum class SessionPart : std::uint8_t { kTokens, kKv, kCompressed, kPositions, kStates };
inline constexpr std::size_t kSessionParts = 5;

/// The first 224 bytes, field by field.
struct SessionHeader {
  std::array<char, 8> magic = {'\x89', 'H', 'D', 'L', 'S', 'E', 'S', '\n'};
  std::uint32_t version = kSessionVersion;
  std::uint32_t byte_order = 0x01020304;
  std::array<char, 16> numerics_id = {};
  Hash128 weights;
  std::uint64_t file_bytes = 0;
  std::uint64_t n_tokens = 0;
  std::uint64_t n_snapshots = 0;
  std::uint64_t group_bytes = 0;
  std::uint64_t state_bytes = 0;
  struct Section {
    std::uint64_t bytes = 0;
    Hash128 checksum;
  };
  std::array<Section, kSessionParts> sections = {};
  Hash128 checksum;
};
static_assert(sizeof(SessionHeader) == 224);

/// A header's or a section's checksum: SipHash of the SipHashes of its 64 KiB pieces.
class SessionChecksum {
 public:
  void add(std::span<const std::byte> bytes);
  Hash128 finish();

 private:
  void finish_piece();
  std::vector<std::uint64_t> words_;   // of the piece
  std::size_t piece_bytes_ = 0;        // so far
  std::vector<std::uint64_t> pieces_;  // their hashes
  std::uint64_t bytes_ = 0;
};
Hash128 session_checksum(std::span<const std::byte> bytes);

/// A file's content. The spans lie in the bytes that were parsed.
struct SessionView {
  std::string numerics_id;
  Hash128 weights;
  std::uint64_t group_bytes = 0;
  std::uint64_t state_bytes = 0;
  std::vector<std::int32_t> tokens;  // none negative
  std::vector<std::int64_t> positions;
  std::span<const std::byte> kv;  // a whole number of groups: all that the tokens need
  std::span<const std::byte> compressed;
  std::span<const std::byte> states;
  std::span<const std::byte> state(std::size_t snapshot) const {
    return states.subspan(snapshot * state_bytes, state_bytes);
  }
};

/// Checks all that can be checked without a model. Throws kBadInput, naming `source` and what is
/// wrong.
SessionView parse_session(std::span<const std::byte> bytes, const std::string& source);

/// What a session must agree with to be used by an engine.
struct SessionFacts {
  std::string numerics_id;
  Hash128 weights;
  std::int64_t vocab = 0;
  std::uint64_t group_bytes = 0;
  std::uint64_t state_bytes = 0;
  std::uint64_t compressed_bytes = 0;  // of the session's tokens
};
/// Throws kBadInput; of other numerics ids or weights both are named.
void check_session(const SessionView& session,
                   const SessionFacts& facts,
                   const std::string& source);

/// "FILE: session", which begins every message.
std::string session_source(const std::string& path);

/// A session's file, checked and mapped. What shortens it meanwhile ends the process
/// (base/mapping_guard.h); renaming another one over it does not matter.
class SessionFile {
 public:
  /// nullopt: there is no file of that name. Throws kBadInput for all else that is wrong with the
  /// file, its folder, or the place for a new one.
  static std::optional<SessionFile> open(const std::string& path);
  const std::string& path() const { return file_.path(); }
  const SessionView& view() const { return view_; }

 private:
  SessionFile(MappedFile file, SessionView view) : file_(std::move(file)), view_(std::move(view)) {}
  MappedFile file_;
  SessionView view_;
};

/// What was saved or restored.
struct SessionReport {
  std::int64_t tokens = 0;
  std::int64_t snapshots = 0;
  std::int64_t left_out_tokens = 0;     // restore: no room in the KV cache
  std::int64_t left_out_snapshots = 0;  // restore: no slot, or past the tokens that had room
  std::uint64_t bytes = 0;              // save: of the file
  /// "600 tokens and 3 snapshots", with what was left out.
  std::string describe() const;
};

/// Writes a session part by part, in order; the file takes its name at the end.
class SessionWriter {
 public:
  /// `header`: id, counts and sizes. Throws kBadInput where no file can be made.
  SessionWriter(const std::string& path, const SessionHeader& header);
  void append(SessionPart part, std::span<const std::byte> bytes);  // kRuntime: disk full
  /// Bytes of the file.
  std::uint64_t finish();

 private:
  void end_part();
  NewFile file_;
  SessionHeader header_;
  std::size_t part_ = 0;
  SessionChecksum checksum_;
};

}  // namespace heddle
