#include "engine/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <vector>

#include "base/error.h"

namespace heddle {
namespace {

std::span<const std::byte> bytes_of(const auto& values) {
  return std::as_bytes(std::span(values));
}

void save_blocks(const SessionEnds& ends, const CachedPath& path, SessionWriter& writer) {
  const std::uint64_t group_bytes = ends.layout.group_bytes();
  std::vector<std::byte> block(ends.cache.block_bytes());
  std::vector<std::byte> kv;
  std::vector<std::byte> compressed(ends.layout.compressed_bytes(path.n_tokens));
  for (std::size_t i = 0; i < path.blocks.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    ends.cache.read_block(path.blocks[i], block);
    kv.resize(static_cast<std::uint64_t>(ends.layout.block_groups(index, path.n_tokens)) *
              group_bytes);
    ends.layout.gather(block, index, path.n_tokens, kv, compressed);
    writer.append(SessionPart::kKv, kv);
  }
  writer.append(SessionPart::kCompressed, compressed);
}

void save_states(const SessionEnds& ends, const CachedPath& path, SessionWriter& writer) {
  std::vector<std::uint64_t> positions;
  for (const auto& snapshot : path.snapshots) {
    positions.push_back(static_cast<std::uint64_t>(snapshot.position));
  }
  writer.append(SessionPart::kPositions, bytes_of(positions));
  std::vector<std::byte> slot(ends.cache.slot_bytes());
  std::vector<std::byte> state(ends.layout.state_bytes());
  for (const auto& snapshot : path.snapshots) {
    ends.cache.read_slot(snapshot.slot, slot);
    ends.layout.gather_state(slot, snapshot.position, state);
    writer.append(SessionPart::kStates, state);
  }
}

void fill(const SessionEnds& ends, const SessionView& session, const AdoptedPath& adopted) {
  const auto n_tokens = static_cast<std::int64_t>(session.tokens.size());
  std::vector<std::byte> block(ends.cache.block_bytes());
  std::uint64_t at = 0;
  for (std::size_t i = 0; i < adopted.blocks.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    const auto bytes =
        static_cast<std::uint64_t>(ends.layout.block_groups(index, n_tokens)) * session.group_bytes;
    if (adopted.blocks[i] >= 0) {
      ends.layout.scatter(session.kv.subspan(at, bytes), session.compressed, index, n_tokens,
                          block);
      ends.cache.write_block(adopted.blocks[i], block);
    }
    at += bytes;
  }
  std::vector<std::byte> slot(ends.cache.slot_bytes());
  for (const auto& snapshot : adopted.snapshots) {
    ends.layout.scatter_state(session.state(snapshot.index), session.positions[snapshot.index],
                              slot);
    ends.cache.write_slot(snapshot.slot, slot);
  }
}

}  // namespace

SessionReport save_session(const SessionEnds& ends,
                           const std::string& path,
                           std::string_view scope,
                           std::span<const std::int32_t> tokens) {
  const CachedPath cached = ends.scheduler.cached_path(scope, tokens);
  if (cached.n_tokens == 0) {
    throw runtime_failure(fmt::format(
        "{}: nothing to save: the prefix cache has nothing of the text", session_source(path)));
  }
  HEDDLE_CHECK(ends.numerics_id.size() == SessionHeader().numerics_id.size());
  SessionHeader header;
  std::ranges::copy(ends.numerics_id, header.numerics_id.begin());
  header.weights = ends.weights;
  header.n_tokens = static_cast<std::uint64_t>(cached.n_tokens);
  header.n_snapshots = cached.snapshots.size();
  header.group_bytes = ends.layout.group_bytes();
  header.state_bytes = ends.layout.state_bytes();
  SessionWriter writer(path, header);
  writer.append(SessionPart::kTokens,
                bytes_of(tokens.first(static_cast<std::size_t>(cached.n_tokens))));
  save_blocks(ends, cached, writer);
  save_states(ends, cached, writer);
  return {.tokens = cached.n_tokens,
          .snapshots = static_cast<std::int64_t>(cached.snapshots.size()),
          .bytes = writer.finish()};
}

SessionReport restore_session(const SessionEnds& ends,
                              const SessionView& session,
                              std::string_view scope,
                              const std::string& source) {
  const auto n_tokens = static_cast<std::int64_t>(session.tokens.size());
  check_session(session,
                {.numerics_id = ends.numerics_id,
                 .weights = ends.weights,
                 .vocab = ends.vocab,
                 .group_bytes = ends.layout.group_bytes(),
                 .state_bytes = ends.layout.state_bytes(),
                 .compressed_bytes = ends.layout.compressed_bytes(n_tokens)},
                source);
  const AdoptedPath adopted = ends.scheduler.adopt(scope, session.tokens, session.positions);
  try {
    fill(ends, session, adopted);
  } catch (...) {
    try {
      ends.scheduler.clear_cache();    // what was not filled must not be found
    } catch (const std::bad_alloc&) {  // the scheduler forgets it all by itself then
    }
    throw;
  }
  const auto n_snapshots = static_cast<std::int64_t>(adopted.snapshots.size());
  return {.tokens = adopted.n_tokens,
          .snapshots = n_snapshots,
          .left_out_tokens = n_tokens - adopted.n_tokens,
          .left_out_snapshots = static_cast<std::int64_t>(session.positions.size()) - n_snapshots};
}

}  // namespace heddle
