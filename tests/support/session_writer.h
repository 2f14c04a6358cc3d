#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/session_file.h"

namespace heddle::test {

/// A session file in parts; every field may lie.
struct SessionDoc {
  SessionHeader header;
  std::vector<std::int32_t> tokens;
  std::vector<std::uint64_t> positions;
  std::array<std::vector<std::byte>, kSessionParts> parts;

  std::span<std::byte> part(SessionPart p) { return parts[static_cast<std::size_t>(p)]; }
  void fill(SessionPart p, const void* data, std::size_t bytes) {
    const auto* begin = static_cast<const std::byte*>(data);
    parts[static_cast<std::size_t>(p)].assign(begin, begin + bytes);
  }
  /// The header says what the parts are.
  void finish() {
    fill(SessionPart::kTokens, tokens.data(), tokens.size() * sizeof tokens[0]);
    fill(SessionPart::kPositions, positions.data(), positions.size() * sizeof positions[0]);
    header.n_tokens = tokens.size();
    header.n_snapshots = positions.size();
    header.file_bytes = sizeof header;
    for (std::size_t i = 0; i < kSessionParts; ++i) {
      header.sections[i] = {.bytes = parts[i].size(), .checksum = session_checksum(parts[i])};
      header.file_bytes += parts[i].size();
    }
  }
  /// With a header whose checksum fits.
  std::vector<std::byte> bytes() {
    const auto head = std::as_bytes(std::span(&header, 1));
    header.checksum = session_checksum(head.first(offsetof(SessionHeader, checksum)));
    std::vector<std::byte> all(head.begin(), head.end());
    for (const auto& p : parts) all.insert(all.end(), p.begin(), p.end());
    return all;
  }
};

}  // namespace heddle::test
