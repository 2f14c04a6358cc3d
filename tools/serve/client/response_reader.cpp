#include "tools/serve/client/response_reader.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace heddle::serve {
namespace {

constexpr std::size_t kMostHead = std::size_t{256} << 10U;
constexpr std::size_t kMostLine = 4096;  // of chunk framing
constexpr std::size_t kMostEvent = std::size_t{64} << 20U;

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

bool same(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, lower, lower);
}

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

template <int kBase>
std::optional<std::size_t> number(std::string_view text) {
  std::size_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value, kBase);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::size_t ResponseReader::push(std::string_view bytes,
                                 const std::function<void(std::string_view)>& on_body) {
  std::size_t used = 0;
  while (used < bytes.size() && (state_ == State::kHead || state_ == State::kBody)) {
    const std::string_view rest = bytes.substr(used);
    if (state_ == State::kHead) {
      used += push_head(rest);
    } else if (framing_ == Framing::kChunked) {
      used += push_chunked(rest, on_body);
    } else {
      const std::size_t n =
          framing_ == Framing::kLength ? std::min(left_, rest.size()) : rest.size();
      on_body(rest.substr(0, n));
      used += n;
      left_ -= framing_ == Framing::kLength ? n : 0;
      if (framing_ == Framing::kLength && left_ == 0) state_ = State::kComplete;
    }
  }
  return used;
}

std::size_t ResponseReader::push_head(std::string_view bytes) {
  const std::size_t known = head_.size();
  head_.append(bytes);
  const std::size_t end = head_.find("\r\n\r\n", known < 3 ? 0 : known - 3);
  if (end == std::string::npos) {
    if (head_.size() > kMostHead) fail();
    return bytes.size();
  }
  const std::size_t excess = head_.size() - (end + 4);
  head_.resize(end + 4);
  read_head();
  return bytes.size() - excess;
}

void ResponseReader::read_head() {
  const std::string_view line(head_.data(), head_.find("\r\n"));
  const auto status = line.size() >= 12 ? number<10>(line.substr(9, 3)) : std::nullopt;
  if (!line.starts_with("HTTP/1.") || !status || *status < 100) return fail();
  if (*status < 200) {
    head_.clear();
    return;
  }
  status_ = static_cast<int>(*status);
  state_ = State::kBody;
  keeps_alive_ = line[7] != '0' && !same(header("connection").value_or(""), "close");
  if (status_ == 204 || status_ == 304) {
    state_ = State::kComplete;
  } else if (same(header("transfer-encoding").value_or(""), "chunked")) {
    framing_ = Framing::kChunked;
  } else if (const auto length = header("content-length")) {
    const auto n = number<10>(*length);
    if (!n) return fail();
    framing_ = Framing::kLength;
    left_ = *n;
    if (left_ == 0) state_ = State::kComplete;
  } else {
    framing_ = Framing::kUntilEnd;
    keeps_alive_ = false;
  }
}

/// A line of chunk framing; true when its end has come.
bool ResponseReader::push_line(std::string_view bytes, std::size_t& used) {
  const std::size_t end = bytes.find('\n');
  used = end == std::string_view::npos ? bytes.size() : end + 1;
  line_.append(bytes.substr(0, used));
  if (line_.size() > kMostLine) fail();
  return end != std::string_view::npos && state_ != State::kBroken;
}

void ResponseReader::end_line() {
  const std::string_view line = trimmed(std::string_view(line_).substr(0, line_.size() - 1));
  if (part_ == ChunkPart::kSize) {
    const auto size = number<16>(trimmed(line.substr(0, line.find(';'))));
    if (!size) return fail();
    left_ = *size;
    part_ = left_ == 0 ? ChunkPart::kTrailer : ChunkPart::kData;
  } else if (part_ == ChunkPart::kDataEnd) {
    if (!line.empty()) return fail();
    part_ = ChunkPart::kSize;
  } else if (line.empty()) {
    state_ = State::kComplete;
  }
  line_.clear();
}

std::size_t ResponseReader::push_chunked(std::string_view bytes,
                                         const std::function<void(std::string_view)>& on_body) {
  std::size_t used = 0;
  if (part_ != ChunkPart::kData) {
    if (push_line(bytes, used)) end_line();
    return used;
  }
  used = std::min(left_, bytes.size());
  on_body(bytes.substr(0, used));
  left_ -= used;
  if (left_ == 0) part_ = ChunkPart::kDataEnd;
  return used;
}

void ResponseReader::end() {
  if (state_ == State::kBody && framing_ == Framing::kUntilEnd) {
    state_ = State::kComplete;
  } else if (state_ != State::kComplete) {
    fail();
  }
}

void ResponseReader::reset() {
  state_ = State::kHead;
  part_ = ChunkPart::kSize;
  head_.clear();
  line_.clear();
  left_ = 0;
  status_ = 0;
  keeps_alive_ = true;
}

std::optional<std::string> ResponseReader::header(std::string_view name) const {
  const std::string_view head(head_);
  std::size_t begin = head.find("\r\n");
  while (begin != std::string_view::npos && begin + 2 < head.size()) {
    const std::size_t end = head.find("\r\n", begin + 2);
    const std::string_view line = head.substr(begin + 2, end - begin - 2);
    const std::size_t colon = line.find(':');
    if (colon != std::string_view::npos && same(line.substr(0, colon), name)) {
      return std::string(trimmed(line.substr(colon + 1)));
    }
    begin = end;
  }
  return std::nullopt;
}

bool EventReader::push(std::string_view bytes,
                       const std::function<void(std::string_view)>& on_data) {
  for (std::size_t at = 0; at < bytes.size();) {
    if (std::exchange(after_cr_, false) && bytes[at] == '\n') {
      ++at;
      continue;
    }
    const std::size_t end = std::min(bytes.find_first_of("\r\n", at), bytes.size());
    line_.append(bytes.substr(at, end - at));
    if (line_.size() + data_.size() > kMostEvent) return false;
    if (end == bytes.size()) return true;
    after_cr_ = bytes[end] == '\r';
    at = end + 1;
    if (line_.empty()) {
      if (has_data_) on_data(data_);
      data_.clear();
      has_data_ = false;
    } else if (line_.starts_with("data:")) {
      if (std::exchange(has_data_, true)) data_ += '\n';
      data_ += std::string_view(line_).substr(line_.starts_with("data: ") ? 6 : 5);
    }
    line_.clear();
  }
  return true;
}

}  // namespace heddle::serve
