// Bytes of a connection. The first byte says how they are cut. However they are cut, the same
// requests and the same refusal come out; what a reader says it used adds up to all bytes up to the
// end of the last request; a request is one that a server can answer.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/fuzz.h"
#include "tools/serve/http/request_reader.h"

namespace heddle::serve {
namespace {

struct Outcome {
  std::vector<HttpRequest> requests;
  std::size_t complete_bytes = 0;  // up to the end of the last of them
  int refused = 0;                 // 0: no
  std::string message;
  int continues = 0;
  RequestReader::State state = RequestReader::State::kIdle;
};

ServerLimits small_limits() {
  ServerLimits limits;
  limits.target_bytes = 64;
  limits.header_bytes = 512;
  limits.header_lines = 8;
  limits.body_bytes = 256;
  return limits;
}

/// `cut` 0: in one piece; 1: byte by byte; else pieces of random lengths.
Outcome read(std::string_view bytes, unsigned cut) {
  const ServerLimits limits = small_limits();
  RequestReader reader(limits);
  Outcome out;
  fuzz::Rng rng(cut);
  std::size_t at = 0;
  std::size_t n_used = 0;
  while (at < bytes.size()) {
    const std::size_t n = cut == 0 ? bytes.size() : cut == 1 ? 1 : 1 + fuzz::pick(rng, 40);
    std::string_view piece = bytes.substr(at, n);
    at += piece.size();
    while (!piece.empty()) {
      const std::size_t used = reader.push(piece);
      fuzz::require(used <= piece.size());
      n_used += used;
      piece.remove_prefix(used);
      if (reader.take_continue()) ++out.continues;
      if (reader.state() == RequestReader::State::kComplete) {
        out.complete_bytes = n_used;
        out.requests.push_back(reader.take());
        fuzz::require(reader.state() == RequestReader::State::kIdle);
        continue;
      }
      if (reader.state() == RequestReader::State::kRefused) {
        out.refused = reader.refusal().status;
        out.message = reader.refusal().message;
        out.state = reader.state();
        return out;
      }
      fuzz::require(piece.empty());  // it takes all that it is given
    }
  }
  fuzz::require(n_used == bytes.size());
  out.state = reader.state();
  return out;
}

void check_request(const HttpRequest& request) {
  const ServerLimits limits = small_limits();
  fuzz::require(!request.method.empty() && request.method.size() <= 32);
  fuzz::require(request.path == "*" || request.path.starts_with('/'));
  fuzz::require(request.path.size() + request.query.size() <= limits.target_bytes);
  fuzz::require(request.body.size() <= limits.body_bytes);
  fuzz::require(request.headers.size() <= 8);
  fuzz::require(request.minor_version == 0 || request.header("host").has_value());
  for (const auto& [name, value] : request.headers) {
    fuzz::require(!name.empty() &&
                  value.find_first_of(std::string_view("\r\n\0", 3)) == value.npos);
  }
}

bool same(const HttpRequest& a, const HttpRequest& b) {
  return a.method == b.method && a.path == b.path && a.query == b.query && a.headers == b.headers &&
         a.body == b.body && a.minor_version == b.minor_version && a.keep_alive == b.keep_alive;
}

void check(unsigned cut, std::string_view bytes) {
  const Outcome whole = read(bytes, 0);
  for (const HttpRequest& request : whole.requests) check_request(request);
  fuzz::require(whole.refused == 0 || (whole.refused >= 400 && whole.refused < 506));
  for (const unsigned way : {1U, cut + 2}) {
    const Outcome other = read(bytes, way);
    fuzz::require(other.requests.size() == whole.requests.size());
    for (std::size_t i = 0; i < whole.requests.size(); ++i) {
      fuzz::require(same(whole.requests[i], other.requests[i]));
    }
    fuzz::require(other.complete_bytes == whole.complete_bytes);
    // Which of several faults is told may depend on how much was seen at once; that one is, not.
    fuzz::require((other.refused == 0) == (whole.refused == 0) && other.state == whole.state);
  }
}

}  // namespace
}  // namespace heddle::serve

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 0) heddle::serve::check(data[0], {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
