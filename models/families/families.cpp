#include "models/families/families.h"

#include <array>

namespace heddle {

std::span<const Family> families() {
  static constexpr std::array<Family, 1> kFamilies = {{{"llama", read_llama_gguf}}};
  return kFamilies;
}

}  // namespace heddle
