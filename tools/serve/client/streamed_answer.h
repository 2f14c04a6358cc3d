#pragma once
// An answer of OpenAI's API as a client sees it come: the events of a stream, and a refusal.

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tools/serve/client/http_client.h"
#include "tools/serve/client/response_reader.h"

namespace heddle::serve {

/// "/v1" + path, behind the path of the URL, which may hold the /v1.
std::string api_target(const Url& url, std::string_view path);
/// `api_key`: "": none
HeaderList api_headers(const std::string& api_key);
/// "HTTP 400: what the server says", in one line.
std::string http_error_text(int status, const std::string& body);

/// As the server counts; 0: it does not say.
struct AnswerUsage {
  std::int64_t n_prompt = 0;
  std::int64_t n_output = 0;
  std::int64_t n_cached = 0;  // of the prompt
};

/// One streamed request, from its making; times are seconds from then.
class StreamedAnswer {
 public:
  explicit StreamedAnswer(bool chat) : chat_(chat), sent_(Clock::now()) {}

  /// For ClientCallbacks::received.
  void received(int status, std::string_view bytes);
  /// What went wrong; "": the answer is whole and has text. Once, at the end.
  std::string end(const ClientResult& result);
  /// For clients to whom an answer without text is one.
  bool allow_empty = false;

  bool begun() const { return n_pieces_ > 0; }
  const std::string& text() const { return text_; }  // of the first choice, without thoughts
  const std::string& thoughts() const { return thoughts_; }
  const std::string& finish_reason() const { return finish_reason_; }  // "": not told
  const AnswerUsage& usage() const { return usage_; }
  std::int64_t n_pieces() const { return n_pieces_; }  // with text, thoughts or calls
  double first_s() const { return first_s_; }
  double last_s() const { return last_s_; }
  const std::vector<double>& gaps_s() const { return gaps_s_; }

 private:
  using Clock = std::chrono::steady_clock;
  void take(std::string_view data, double now_s);
  void take_choice(const Json& choice, double now_s);
  void fail(const std::string& error);

  bool chat_;
  Clock::time_point sent_;
  EventReader events_;
  std::string error_;
  std::string error_body_;
  std::string text_;
  std::string thoughts_;
  AnswerUsage usage_;
  std::int64_t n_pieces_ = 0;
  double first_s_ = 0.0;
  double last_s_ = 0.0;
  std::vector<double> gaps_s_;
  bool finished_ = false;
  std::string finish_reason_;
};

}  // namespace heddle::serve
