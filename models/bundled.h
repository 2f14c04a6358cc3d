#pragma once
// Models that come with Heddle, as folders that are found from wherever the program is.

#include <string>
#include <vector>

#include "models/registry.h"

namespace heddle {

/// Folders to look for bundled models in, in order. `data`, what $HEDDLE_DATA says, stands for
/// DATA/models alone. Where it is empty they follow `executable`, the real path of the running
/// program: share/heddle/models beside it, which is how CMake lays out a build tree (a link to
/// configs/models), then that of the prefix it is installed in. What is compiled in is relative, so
/// an installed prefix may be moved and never looks into the tree it was built in.
std::vector<std::string> bundled_places(const std::string& data, const std::string& executable);
std::vector<std::string> bundled_places();  // of this process

/// The real path of `entry`'s folder: the first that holds all of its files. Throws kBadInput with
/// what each of the places lacks.
std::string find_bundled(const RegistryEntry& entry, const std::vector<std::string>& places);

}  // namespace heddle
