#pragma once
// Numbers of JSON documents compared by their exact values. Internal to engine/grammar/.

#include <string>

#include "base/json.h"

namespace heddle {

/// A decimal number of a schema: digits without leading zeros before, without trailing ones behind
/// the point.
struct Decimal {
  bool negative = false;
  std::string whole = "0";
  std::string fraction;
};

/// Of a JSON number: exactly from 2^53 on, below in the digits that read back to it, which lie on
/// the same side of every integer.
Decimal decimal_of(const Json& number);

/// Below 0, 0, above 0: as a is less than b, equal, greater. Integers are not rounded to doubles.
int compare_numbers(const Json& a, const Json& b);

/// Whether two documents are the same; numbers by their values (1 and 1.0), members in order.
bool same_value(const Json& a, const Json& b);

}  // namespace heddle
