#pragma once
// Keys and values: adjective-noun pairs, numbers, pass keys, UUIDs.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/needle/random.h"

namespace heddle::needle {

/// Words that keys, values and made-up facts are made of.
std::span<const std::string_view> adjectives();
std::span<const std::string_view> nouns();

/// What keys and values are.
enum class ValueKind { kNumber, kWord, kUuid };
std::string_view name(ValueKind kind);  // "number", "word", "uuid"

std::string word_pair(Random& random);  // "quiet-harbor"
std::string number7(Random& random);    // "4830172": 1000000 to 9999999
std::string passkey(Random& random);    // "48213": 1 to 50000
std::string uuid(Random& random);       // version 4
std::string value_of(ValueKind kind, Random& random);

/// A value that is neither among `used`, nor part of one of them, nor has one as its part; it is
/// put there.
std::string fresh_value(ValueKind kind, Random& random, std::vector<std::string>& used);

}  // namespace heddle::needle
