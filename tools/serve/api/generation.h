#pragma once
// A generating request from its plan to its last byte.

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tools/serve/api/answer.h"
#include "tools/serve/api/api_error.h"
#include "tools/serve/api/generation_plan.h"
#include "tools/serve/engine_host.h"
#include "tools/serve/http/message.h"
#include "tools/serve/metrics.h"

namespace heddle::serve {

/// What a request is answered with that the host does not take.
ApiErrorSpec refusal_error(EngineHost::Refusal refusal);

/// What has become of a request, for the log and for sessions.
struct GenerationEnd {
  int status = 200;
  bool disconnected = false;
  std::int64_t n_prompt_tokens = 0;
  std::int64_t n_answer_tokens = 0;
  double seconds = 0.0;
  std::string session_id = {};
  std::vector<std::int32_t> tokens = {};  // prompt and answer of the first choice
};

struct GenerationContext {
  EngineHost& host;
  ServerMetrics& metrics;
  double ping_seconds = 15.0;
  HeaderList headers = {};  // of every answer
  std::function<void(const GenerationEnd&)> ended = {};
};

/// Lives until its answer is complete or its client gone. Runs on the exchange's thread.
class Generation : public std::enable_shared_from_this<Generation> {
 public:
  static void start(std::shared_ptr<Exchange> exchange,
                    GenerationPlan plan,
                    GenerationContext context);

  Generation(std::shared_ptr<Exchange> exchange, GenerationPlan plan, GenerationContext context);

 private:
  class Receiver;
  using Clock = std::chrono::steady_clock;

  void submit();
  void accepted();
  void write_begin();
  void refused(ErrorKind kind, const std::string& text);
  void progressed(std::size_t prompt, const std::vector<RequestEvent>& events);
  void take(std::size_t prompt, const RequestEvent& event, std::string& out);
  void take_begin(AnswerChoice& choice, const RequestEvent& event);
  void take_scores(std::size_t prompt, const RequestEvent& event);
  void take_token(AnswerChoice& choice, const RequestEvent& event);
  void take_text(AnswerChoice& choice, const RequestEvent& event, std::string& out);
  void end_choice(AnswerChoice& choice, const RequestEvent& event, std::string& out);
  void fail(const ApiErrorSpec& error);
  void complete(std::string out);
  void client_gone();
  void cancel_all();
  void send(const std::string& out);
  void ping_later();
  void tell_end(int status, bool disconnected);
  double seconds() const;

  std::shared_ptr<Exchange> exchange_;
  GenerationPlan plan_;
  GenerationContext context_;
  Answer answer_;
  std::unique_ptr<AnswerFormat> format_;
  std::vector<Ticket> tickets_;
  std::size_t n_accepted_ = 0;
  /// Of a stream: what came of one prompt before all were accepted.
  std::vector<std::pair<std::size_t, std::vector<RequestEvent>>> early_;
  std::size_t n_ended_ = 0;     // choices
  bool streaming_ = false;      // the status is out
  bool begin_written_ = false;  // and the stream's first events
  bool over_ = false;
  Clock::time_point started_ = Clock::now();
  Clock::time_point begun_ = {};  // the step that began the first of the prompts
  Clock::time_point first_token_ = {};
  Clock::time_point last_token_ = {};
  std::vector<Clock::time_point> last_tokens_;  // of each choice
  Clock::time_point last_sent_ = {};
};

}  // namespace heddle::serve
