#pragma once
// The text around the needles, as sentences.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace heddle::needle {

/// Sentences of a text, in order: ends are . ? ! (with closing quotes and brackets behind them)
/// before white space, their full-width forms, and blank lines; a period behind a title, an initial
/// or "e.g." is none. White space within becomes one space. What has no end for 2000 bytes (a
/// log file) ends with its lines, and long lines are cut at a space behind 200 bytes, or between
/// characters where none comes. Bytes that are not UTF-8 become U+FFFD.
std::vector<std::string> split_sentences(std::string_view text);

class Haystack {
 public:
  /// Of the essays that come with Heddle (tools/needle/essays), written for it and given to the
  /// public domain.
  static Haystack of_essays();
  /// A text file, or all files NAME.txt of a folder in the order of their names, one after the
  /// other. Throws kBadInput: none, not readable, more than 256 MiB, no sentence.
  static Haystack read(const std::string& path);
  explicit Haystack(std::vector<std::string> sentences);

  const std::vector<std::string>& sentences() const { return sentences_; }
  /// Whether `text` stands in it, without regard to case: answers that do are no proof.
  bool contains(std::string_view text) const;
  /// SHA-256 of the sentences, in hexadecimal: runs with different ones are not to be mixed.
  const std::string& hash() const { return hash_; }

 private:
  std::vector<std::string> sentences_;
  std::string lower_;  // all of it, in lower case
  std::string hash_;
};

/// The five sentences of Hay::kNoise.
std::vector<std::string> noise_sentences();

/// The essays, joined.
std::string_view essays();

}  // namespace heddle::needle
