#include "base/start_thread.h"

#include <fmt/format.h>
#include <pthread.h>

#include <system_error>
#include <utility>

#include "base/error.h"

namespace heddle {

std::thread start_thread(const std::string& name, std::function<void()> body) {
  try {
    std::thread thread(std::move(body));
    pthread_setname_np(thread.native_handle(), name.c_str());
    return thread;
  } catch (const std::system_error& e) {
    throw Error(ErrorKind::kMemory, fmt::format("cannot start thread {}: {}", name, e.what()));
  }
}

}  // namespace heddle
