#pragma once
// Makes a failing operation stream small: delta debugging over operations, then over bytes.

#include <cstddef>
#include <functional>

#include "tests/scheduler/model/op_stream.h"

namespace heddle::test {

/// `fails` says whether a stream still shows the fault; it does for `stream`. Asks at most
/// `most_runs` times. Of the result no single operation can go, if that was enough.
OpStream shrink(OpStream stream,
                const std::function<bool(const OpStream&)>& fails,
                std::size_t most_runs = 20000);

}  // namespace heddle::test
