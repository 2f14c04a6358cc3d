#include "base/error.h"

#include <cstring>

namespace heddle {

void fail_check(const char* condition, const char* file, int line) {
  const char* slash = std::strrchr(file, '/');
  throw Error(ErrorKind::kRuntime, std::string("internal: ") + condition + " does not hold (" +
                                       (slash != nullptr ? slash + 1 : file) + ":" +
                                       std::to_string(line) + ")");
}

}  // namespace heddle
