#include "models/tensor_error.h"

#include <fmt/format.h>

#include "models/quote_text.h"

namespace heddle {

Error tensor_error(std::string_view source,
                   std::string_view tensor,
                   std::string_view what,
                   std::string_view got,
                   std::string_view allowed) {
  return bad_input(fmt::format("{}: tensor {}: {}, got {}, allowed {}", source, quote_text(tensor),
                               what, got, allowed));
}

Error tensor_missing(std::string_view source, std::string_view tensor, std::string_view shape) {
  return bad_input(
      fmt::format("{}: tensor {} is missing, allowed shape {}", source, quote_text(tensor), shape));
}

}  // namespace heddle
