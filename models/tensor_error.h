#pragma once
// How a tensor that the model cannot use is refused, whoever finds out.

#include <string_view>

#include "base/error.h"

namespace heddle {

/// kBadInput: "FILE: tensor 'blk.0.attn_q.weight': shape, got [64, 32], allowed [64, 64]".
Error tensor_error(std::string_view source,
                   std::string_view tensor,
                   std::string_view what,
                   std::string_view got,
                   std::string_view allowed);

/// kBadInput: "FILE: tensor 'blk.0.attn_q.weight' is missing, allowed shape [64, 64]".
Error tensor_missing(std::string_view source, std::string_view tensor, std::string_view shape);

}  // namespace heddle
