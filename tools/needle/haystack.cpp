#include "tools/needle/haystack.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>

#include "base/error.h"
#include "base/sha256.h"
#include "models/tokenizer/jinja/unicode.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/utf8.h"
#include "tools/heddle/io.h"
#include "tools/needle/blanks.h"

namespace heddle::needle {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLongestSentence = 2000;  // bytes; with more it is text without ends
constexpr std::size_t kLongestWord = 4000;      // likewise, where no space comes
constexpr std::size_t kPart = 200;              // of text without ends and lines, at least
constexpr std::uint64_t kLargestHaystack = std::uint64_t{256} << 20;
constexpr std::size_t kMostFiles = 10'000;

constexpr auto kAbbreviations = std::to_array<std::string_view>(
    {"mr", "mrs", "ms", "dr", "st", "prof", "rev", "gen", "col", "capt", "sgt",
     "lt", "sr",  "jr", "vs", "cf", "no",   "vol", "fig", "e.g", "i.e",  "viz"});
constexpr auto kWideEnds = std::to_array<std::string_view>({"\u3002", "\uff01", "\uff1f"});
constexpr auto kClosers = std::to_array<std::string_view>(
    {"\"", "'", ")", "]", "\u201d", "\u2019", "\u00bb", "\u300d", "\u300f", "\uff09"});

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

/// As the scorer compares.
std::string lower(std::string_view text) {
  const auto is_ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  if (!std::all_of(text.begin(), text.end(), is_ascii)) return jinja::to_lower(utf8_lossy(text));
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

bool starts_with_at(std::string_view text, std::size_t at, std::string_view part) {
  return text.compare(at, part.size(), part) == 0;
}

/// Whether the period at the end of `sentence` belongs to an abbreviation or an initial. Takes as
/// long as the last word is: to be asked once a word.
bool is_abbreviation(std::string_view sentence) {
  const std::size_t end = sentence.size() - 1;
  std::size_t begin = end;
  while (begin > 0 && !is_space(sentence[begin - 1])) --begin;
  std::string word = lower(sentence.substr(begin, end - begin));
  word.erase(0, word.find_first_not_of("\"'(["));
  if (word.size() == 1 && std::isalpha(static_cast<unsigned char>(word[0])) != 0)
    return word != "i";
  return std::find(kAbbreviations.begin(), kAbbreviations.end(), word) != kAbbreviations.end();
}

/// Cuts a text as it is read from left to right.
class Splitter {
 public:
  explicit Splitter(std::string_view text) : text_(text) {}

  std::vector<std::string> run() {
    while (at_ < text_.size()) {
      if (is_space(text_[at_])) {
        take_space();
      } else if (!take_end()) {
        take_character();
      }
    }
    if (sentence_.size() > 2 * kPart) finish_parts();
    finish();
    return std::move(sentences_);
  }

 private:
  void take_space() {
    int n_lines = 0;
    for (; at_ < text_.size() && is_space(text_[at_]); ++at_) n_lines += text_[at_] == '\n' ? 1 : 0;
    if (sentence_.size() > kLongestSentence) {
      if (n_lines > 0) lines_.push_back(sentence_.size());
      finish_parts();
    } else if (n_lines >= 2) {
      finish();
    }
    if (!sentence_.empty()) {
      if (n_lines > 0) lines_.push_back(sentence_.size());
      sentence_ += ' ';
    }
  }

  void take_character() {
    if (sentence_.size() >= kLongestWord) finish_parts();
    const std::size_t length = utf8_step(text_, at_).length;
    sentence_ += text_.substr(at_, length);
    at_ += length;
  }

  /// At an end of a sentence: takes it with what closes behind it.
  bool take_end() {
    bool wide = false;
    while (take_wide_end()) wide = true;  // "?!" is one end
    if (wide) {
      finish();
      return true;
    }
    const char c = text_[at_];
    if (c != '.' && c != '?' && c != '!') return false;
    sentence_ += c;
    ++at_;
    const std::size_t end = sentence_.size();
    take_closers();
    const bool at_end = at_ == text_.size() || is_space(text_[at_]);
    if (!at_end) return true;
    if (c != '.' || !is_abbreviation(std::string_view(sentence_).substr(0, end))) finish();
    return true;
  }

  bool take_wide_end() {
    for (const std::string_view end : kWideEnds) {
      if (at_ == text_.size() || !starts_with_at(text_, at_, end)) continue;
      sentence_ += end;
      at_ += end.size();
      take_closers();
      return true;
    }
    return false;
  }

  void take_closers() {
    for (bool found = true; found && at_ < text_.size();) {
      found = false;
      for (const std::string_view closer : kClosers) {
        if (!starts_with_at(text_, at_, closer)) continue;
        sentence_ += closer;
        at_ += closer.size();
        found = true;
      }
    }
  }

  void finish() {
    while (!sentence_.empty() && sentence_.back() == ' ') sentence_.pop_back();
    if (!sentence_.empty()) sentences_.push_back(std::move(sentence_));
    sentence_.clear();
    lines_.clear();
  }

  /// Text without ends, a log file's: each line is one, and lines are cut at spaces, words between
  /// characters. A line that is not over begins the next.
  void finish_parts() {
    std::size_t begin = 0;
    const auto take = [&](std::size_t end) {
      std::string part = without_blanks(std::string_view(sentence_).substr(begin, end - begin));
      if (!part.empty()) sentences_.push_back(std::move(part));
      begin = end;
    };
    if (lines_.empty()) lines_.push_back(sentence_.size());
    for (const std::size_t end : lines_) {
      while (end - begin > 2 * kPart) {
        std::size_t cut = sentence_.find(' ', begin + kPart);
        if (cut >= end || cut - begin > 2 * kPart) cut = begin + kPart;
        while (cut < end && (static_cast<unsigned char>(sentence_[cut]) & 0xC0U) == 0x80U) ++cut;
        take(cut);
      }
      take(end);
    }
    sentence_.erase(0, begin);
    sentence_.erase(0, std::min(sentence_.find_first_not_of(' '), sentence_.size()));
    lines_.clear();
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::string sentence_;
  std::vector<std::size_t> lines_;  // where lines end in it
  std::vector<std::string> sentences_;
};

/// The file itself, or the .txt files of a folder in the order of their names.
std::vector<fs::path> files_of(const std::string& path) {
  std::error_code failure;
  if (!fs::is_directory(path, failure)) return {path};
  std::vector<fs::path> files;
  for (fs::directory_iterator it(path, failure), end; !failure && it != end;
       it.increment(failure)) {
    if (it->path().extension() == ".txt") files.push_back(it->path());
    if (files.size() > kMostFiles) {
      throw bad_input(fmt::format("--haystack: {}: more than {} files", path, kMostFiles));
    }
  }
  if (failure) {
    throw bad_input(fmt::format("--haystack: {}: cannot be listed: {}", path, failure.message()));
  }
  if (files.empty()) throw bad_input(fmt::format("--haystack: {}: no file *.txt in it", path));
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

std::vector<std::string> split_sentences(std::string_view text) {
  const std::string valid = utf8_lossy(text);
  return Splitter(valid).run();
}

Haystack::Haystack(std::vector<std::string> sentences) : sentences_(std::move(sentences)) {
  HEDDLE_CHECK(!sentences_.empty());
  Sha256 hash;
  for (const std::string& sentence : sentences_) {
    hash.update(sentence.data(), sentence.size()).update("\n", 1);
    lower_ += lower(sentence) + ' ';
  }
  hash_ = hash.hex();
}

Haystack Haystack::of_essays() {
  return Haystack(split_sentences(essays()));
}

Haystack Haystack::read(const std::string& path) {
  std::vector<std::string> sentences;
  std::uint64_t n_bytes = 0;
  for (const fs::path& file : files_of(path)) {
    std::string text;
    try {
      text = cli::read_input(file.string());
    } catch (const Error& error) {
      throw bad_input(fmt::format("--haystack: {}", error.what()));
    }
    if (text.find('\0') != std::string::npos) {
      throw bad_input(
          fmt::format("--haystack: {}: holds NUL bytes, which is no text", file.string()));
    }
    n_bytes += text.size();
    if (n_bytes > kLargestHaystack) {
      throw bad_input(fmt::format("--haystack: {}: more than {} bytes", path, kLargestHaystack));
    }
    std::vector<std::string> more = split_sentences(text);
    std::move(more.begin(), more.end(), std::back_inserter(sentences));
  }
  if (sentences.empty()) throw bad_input(fmt::format("--haystack: {}: no sentence in it", path));
  return Haystack(std::move(sentences));
}

bool Haystack::contains(std::string_view text) const {
  return !text.empty() && lower_.find(lower(text)) != std::string::npos;
}

std::vector<std::string> noise_sentences() {
  return {"The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.",
          "There and back again."};
}

}  // namespace heddle::needle
