#pragma once

namespace heddle {

/// Several lambdas as one visitor of a variant.
template <typename... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <typename... F>
Overloaded(F...) -> Overloaded<F...>;

}  // namespace heddle
