#pragma once

#include <string>
#include <vector>

namespace heddle::serve {

/// What the kernel says of each thread of this process, for the log of a server that hangs:
/// "thread 4711 heddle-engine: D, 12.30 s of CPU". Asks no other thread.
std::vector<std::string> thread_states();

}  // namespace heddle::serve
