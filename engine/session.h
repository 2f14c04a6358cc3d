#pragma once
// Saving and restoring sessions: between session files, the scheduler's ids and the cache's bytes.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "engine/cache_storage.h"
#include "engine/session_file.h"
#include "engine/session_layout.h"
#include "scheduler/scheduler.h"

namespace heddle {

/// The parts of an engine that sessions are made of. Not between plan() and commit().
struct SessionEnds {
  Scheduler& scheduler;
  CacheStorage& cache;
  const SessionLayout& layout;
  std::string numerics_id;
  std::int64_t vocab = 0;
  Hash128 weights;  // engine/weights_hash.h
};

/// What the prefix cache has of `tokens` in `scope` (engine/request.h: prefix_scope), in a file of
/// its own. Throws kBadInput where no file can
/// be made; kRuntime for a full disk, or where the cache has nothing of the tokens: an older file
/// is as it was.
SessionReport save_session(const SessionEnds& ends,
                           const std::string& path,
                           std::string_view scope,
                           std::span<const std::int32_t> tokens);
/// Puts a session into the prefix cache, in `scope`; what has no room is left out and evicts
/// nothing. Throws kBadInput for a session of another model; nothing is changed then. `source`
/// names it in errors.
SessionReport restore_session(const SessionEnds& ends,
                              const SessionView& session,
                              std::string_view scope,
                              const std::string& source);

}  // namespace heddle
