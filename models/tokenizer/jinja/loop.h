#pragma once
// A running for loop, as the template sees it through `loop`.

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "models/tokenizer/jinja/runtime.h"

namespace heddle::jinja {

/// Items are pulled one by one, since a filter may depend on what the body did before. Lives as
/// long as the render: a template may keep `loop` in a namespace.
struct Loop {
  const std::vector<Value>* source = nullptr;
  std::function<bool(const Value&)> filter;  // empty: all items
  std::size_t n_read = 0;                    // of source
  std::vector<Value> kept;                   // what passed the filter
  std::size_t index = 0;
  int depth = 1;
  const Stmt* statement = nullptr;  // for recursive loops
  Scope* scope = nullptr;
  std::vector<Value> last_changed;
  bool changed_called = false;

  bool has(std::size_t i);  // pulls as far as item i
  const Value& item(std::size_t i) const { return filter ? kept[i] : (*source)[i]; }
};

/// loop.name, kMissing if there is no such attribute.
Value loop_attribute(Runtime& rt, const Value& loop, std::string_view name);

}  // namespace heddle::jinja
