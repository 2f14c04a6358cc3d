#pragma once

#include <functional>
#include <string>
#include <thread>

namespace heddle {

/// A thread that debuggers and /proc know by this name (15 bytes at most). Throws kMemory where no
/// more can be had.
std::thread start_thread(const std::string& name, std::function<void()> body);

}  // namespace heddle
