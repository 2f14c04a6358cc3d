#include "tools/needle/words.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"

namespace heddle::needle {
namespace {

constexpr auto kAdjectives = std::to_array<std::string_view>(
    {"able",    "amber",    "ample",    "ancient",  "angry",    "autumn",  "awake",   "bare",
     "basic",   "bitter",   "blank",    "blind",    "bold",     "brave",   "brief",   "bright",
     "brisk",   "broad",    "broken",   "bronze",   "busy",     "calm",    "careful", "cheap",
     "chief",   "civil",    "clean",    "clear",    "clever",   "close",   "cloudy",  "cold",
     "common",  "cool",     "copper",   "cosy",     "crimson",  "crisp",   "curious", "damp",
     "daring",  "dark",     "dear",     "deep",     "dense",    "distant", "double",  "dry",
     "dull",    "dusty",    "eager",    "early",    "easy",     "elder",   "empty",   "equal",
     "even",    "exact",    "faint",    "fair",     "faithful", "famous",  "fancy",   "fast",
     "fierce",  "final",    "fine",     "firm",     "first",    "flat",    "fleet",   "fond",
     "frank",   "free",     "fresh",    "friendly", "frosty",   "full",    "gentle",  "giant",
     "glad",    "golden",   "good",     "grand",    "grave",    "great",   "green",   "grey",
     "happy",   "hard",     "harsh",    "heavy",    "hidden",   "high",    "hollow",  "honest",
     "huge",    "humble",   "hungry",   "idle",     "inner",    "iron",    "jolly",   "keen",
     "kind",    "large",    "late",     "lazy",     "lean",     "light",   "little",  "lively",
     "local",   "lonely",   "long",     "loose",    "lost",     "loud",    "low",     "loyal",
     "lucky",   "mad",      "main",     "major",    "marble",   "mellow",  "merry",   "mild",
     "modern",  "modest",   "muddy",    "narrow",   "neat",     "new",     "nimble",  "noble",
     "noisy",   "northern", "odd",      "old",      "open",     "orange",  "outer",   "pale",
     "patient", "plain",    "pleasant", "polite",   "poor",     "prime",   "private", "proper",
     "proud",   "public",   "pure",     "purple",   "quick",    "quiet",   "rapid",   "rare",
     "raw",     "ready",    "red",      "rich",     "ripe",     "rough",   "round",   "royal",
     "rusty",   "sad",      "safe",     "salty",    "scarlet",  "shady",   "shallow", "sharp",
     "short",   "shy",      "silent",   "silver",   "simple",   "single",  "slender", "slim",
     "slow",    "small",    "smooth",   "sober",    "soft",     "solid",   "sour",    "southern",
     "spare",   "stable",   "steady",   "steep",    "stern",    "stiff",   "still",   "stormy",
     "strange", "strict",   "strong",   "subtle",   "sunny",    "sweet",   "swift",   "tall",
     "tame",    "tart",     "tender",   "thick",    "thin",     "tidy",    "tiny",    "tired",
     "tough",   "true",     "vague",    "vast",     "warm",     "wary",    "weak",    "western",
     "white",   "whole",    "wide",     "wild",     "windy",    "wise",    "wooden",  "worn",
     "yellow",  "young",    "zealous"});

constexpr auto kNouns = std::to_array<std::string_view>(
    {"acorn",   "anchor",  "apple",    "arrow",   "badge",  "badger",  "barn",    "barrel",
     "basin",   "basket",  "battle",   "beacon",  "beam",   "bear",    "bell",    "bench",
     "berry",   "bird",    "blade",    "boat",    "book",   "boot",    "bottle",  "bowl",
     "box",     "branch",  "bread",    "breeze",  "brick",  "bridge",  "brook",   "broom",
     "bucket",  "button",  "cabin",    "cable",   "camel",  "candle",  "canyon",  "carpet",
     "cart",    "castle",  "cave",     "chain",   "chair",  "chapel",  "cherry",  "chest",
     "circle",  "city",    "clock",    "cloud",   "coast",  "coat",    "coffee",  "coin",
     "comet",   "copper",  "corner",   "cottage", "cotton", "creek",   "crown",   "cup",
     "curtain", "dawn",    "deer",     "desert",  "desk",   "dinner",  "doctor",  "dog",
     "door",    "dragon",  "dream",    "drum",    "eagle",  "earth",   "echo",    "engine",
     "falcon",  "farm",    "father",   "feather", "fence",  "fern",    "ferry",   "field",
     "finger",  "fire",    "fish",     "flame",   "flute",  "forest",  "fork",    "fountain",
     "fox",     "frog",    "garden",   "gate",    "giant",  "glass",   "glove",   "goat",
     "grain",   "grape",   "grass",    "guitar",  "hall",   "hammer",  "harbor",  "harvest",
     "hat",     "hawk",    "heart",    "hedge",   "hill",   "honey",   "horn",    "horse",
     "house",   "island",  "ivory",    "jacket",  "jar",    "jewel",   "journey", "judge",
     "jungle",  "kettle",  "king",     "kitchen", "kite",   "knife",   "ladder",  "lake",
     "lamp",    "lantern", "leaf",     "lemon",   "letter", "library", "lion",    "lizard",
     "maple",   "market",  "mask",     "meadow",  "melon",  "mill",    "mirror",  "monkey",
     "moon",    "morning", "mountain", "mouse",   "museum", "music",   "needle",  "nest",
     "night",   "oak",     "oasis",    "ocean",   "olive",  "orchard", "otter",   "owl",
     "oyster",  "palace",  "paper",    "parrot",  "path",   "pebble",  "pencil",  "pepper",
     "piano",   "picnic",  "pigeon",   "pillow",  "pilot",  "pine",    "planet",  "plate",
     "pond",    "potato",  "prairie",  "prince",  "prison", "puzzle",  "queen",   "rabbit",
     "raven",   "ribbon",  "river",    "road",    "robin",  "rock",    "roof",    "room",
     "rope",    "rose",    "saddle",   "sailor",  "salmon", "sand",    "school",  "shadow",
     "sheep",   "shell",   "ship",     "shoe",    "silk",   "skate",   "smoke",   "snail",
     "snow",    "soldier", "song",     "spear",   "spider", "spoon",   "spring",  "star",
     "stone",   "storm",   "stove",    "stream",  "street", "summer",  "swan",    "sword",
     "table",   "tailor",  "temple",   "thunder", "tiger",  "tower",   "town",    "train",
     "tree",    "trumpet", "tunnel",   "turtle",  "valley", "velvet",  "village", "violin",
     "wagon",   "wall",    "walnut",   "water",   "wave",   "whale",   "wheat",   "wheel",
     "willow",  "window",  "winter",   "wolf",    "wood",   "zebra"});

/// Draws of a value that is not like another: bounded, for few values are left when most are used.
constexpr int kMostDraws = 10'000;

}  // namespace

std::span<const std::string_view> adjectives() {
  return kAdjectives;
}

std::span<const std::string_view> nouns() {
  return kNouns;
}

std::string_view name(ValueKind kind) {
  switch (kind) {
    case ValueKind::kNumber:
      return "number";
    case ValueKind::kWord:
      return "word";
    case ValueKind::kUuid:
      return "uuid";
  }
  HEDDLE_CHECK(false);
}

std::string word_pair(Random& random) {
  const std::string_view first = random.pick(kAdjectives);
  return fmt::format("{}-{}", first, random.pick(kNouns));
}

std::string number7(Random& random) {
  return fmt::format("{}", 1'000'000 + random.below(9'000'000));
}

std::string passkey(Random& random) {
  return fmt::format("{}", 1 + random.below(50'000));
}

std::string uuid(Random& random) {
  const std::uint64_t high = (random.bits() & ~std::uint64_t{0xF000}) | 0x4000;
  const std::uint64_t low = (random.bits() & ~(std::uint64_t{3} << 62)) | std::uint64_t{1} << 63;
  const std::string a = fmt::format("{:016x}", high);
  const std::string b = fmt::format("{:016x}", low);
  return fmt::format("{}-{}-{}-{}-{}", a.substr(0, 8), a.substr(8, 4), a.substr(12), b.substr(0, 4),
                     b.substr(4));
}

std::string value_of(ValueKind kind, Random& random) {
  switch (kind) {
    case ValueKind::kNumber:
      return number7(random);
    case ValueKind::kWord:
      return word_pair(random);
    case ValueKind::kUuid:
      return uuid(random);
  }
  HEDDLE_CHECK(false);
}

std::string fresh_value(ValueKind kind, Random& random, std::vector<std::string>& used) {
  for (int i = 0; i < kMostDraws; ++i) {
    std::string value = value_of(kind, random);
    const bool taken = std::any_of(used.begin(), used.end(), [&](const std::string& other) {
      return other.find(value) != std::string::npos || value.find(other) != std::string::npos;
    });
    if (taken) continue;
    used.push_back(value);
    return value;
  }
  throw bad_input(fmt::format("no {} is left beside {} in one prompt: it is too long for this task",
                              name(kind), used.size()));
}

}  // namespace heddle::needle
