#pragma once
// What a client reads: an HTTP/1.1 response and the events in it, without a socket.

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace heddle::serve {

/// Reads one response; the result does not depend on how its bytes are cut. Interim responses are
/// skipped.
class ResponseReader {
 public:
  enum class State { kHead, kBody, kComplete, kBroken };

  /// Returns how many of `bytes` belong to this response. Bytes of its body, without framing, go to
  /// `on_body` as they come.
  std::size_t push(std::string_view bytes, const std::function<void(std::string_view)>& on_body);
  /// The peer sends no more: a body that lasts as long as the connection is complete, another is
  /// broken.
  void end();
  /// Begins anew.
  void reset();

  State state() const { return state_; }
  bool begun() const { return status_ != 0 || !head_.empty(); }
  int status() const { return status_; }
  bool keeps_alive() const { return keeps_alive_; }
  /// Of the head, trimmed; names are compared without case.
  std::optional<std::string> header(std::string_view name) const;

 private:
  enum class Framing { kLength, kChunked, kUntilEnd };
  enum class ChunkPart { kSize, kData, kDataEnd, kTrailer };

  std::size_t push_head(std::string_view bytes);
  void read_head();
  std::size_t push_chunked(std::string_view bytes,
                           const std::function<void(std::string_view)>& on_body);
  bool push_line(std::string_view bytes, std::size_t& used);
  void end_line();
  void fail() { state_ = State::kBroken; }

  State state_ = State::kHead;
  Framing framing_ = Framing::kLength;
  ChunkPart part_ = ChunkPart::kSize;
  std::string head_;
  std::string line_;      // of chunk framing, as far as it has come
  std::size_t left_ = 0;  // bytes of the body or chunk
  int status_ = 0;
  bool keeps_alive_ = true;
};

/// Server-sent events: the data of each, its lines joined by newlines.
class EventReader {
 public:
  /// False: a line is longer than any that is taken.
  bool push(std::string_view bytes, const std::function<void(std::string_view)>& on_data);

 private:
  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_cr_ = false;
};

}  // namespace heddle::serve
