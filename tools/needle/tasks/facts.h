#pragma once
// Documents about people and towns that there never were.

#include <string>
#include <unordered_set>
#include <vector>

#include "tools/needle/random.h"

namespace heddle::needle {

struct Town {
  std::string name;
  std::string river;
};

struct Person {
  std::string name;
  std::string town;    // of birth
  std::string legacy;  // "copper lantern"
};

/// Draws facts. No name, river or legacy comes twice, and none is part of another where that is
/// kept from it.
class FactMaker {
 public:
  explicit FactMaker(Random random) : random_(random) {}

  Town town();
  Person person(const std::string& town);
  std::string river();
  std::string town_name();
  std::string legacy();  // two words
  /// What is drawn from now on neither holds `text` nor is part of it.
  void keep_from(const std::string& text) { kept_.push_back(text); }

  std::string document(const Town& town);
  std::string document(const Person& person);

 private:
  template <typename Make>
  std::string fresh(const Make& make);
  std::string person_name();

  Random random_;
  std::unordered_set<std::string> used_;
  std::vector<std::string> kept_;
};

}  // namespace heddle::needle
