#pragma once
#include <string>

#include "tools/needle/prompt.h"
#include "tools/needle/server_api.h"

namespace heddle::needle {

/// A model that says how good an answer is, on Kamradt's scale: 1 (nothing to do with it), 3, 5, 7,
/// 10 (right and whole).
class Judge {
 public:
  explicit Judge(ServerApi& api) : api_(api) {}
  /// The number from 1 to 10 in its reply by ten, thoughts and mentions of the scale ("/10", "out
  /// of 10", "1 to 10") left out. Throws kRuntime: the judge cannot be asked, or its reply has no
  /// such number or several.
  double score(const BuiltPrompt& prompt, const std::string& answer);

 private:
  ServerApi& api_;
};

}  // namespace heddle::needle
