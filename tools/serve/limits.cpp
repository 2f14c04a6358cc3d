#include "tools/serve/limits.h"

#include <fmt/format.h>

#include <iterator>
#include <string_view>

namespace heddle::serve {

std::string describe(const ServerLimits& l) {
  std::string out;
  const auto line = [&out](std::string_view name, auto value, std::string_view what) {
    fmt::format_to(std::back_inserter(out), "{:24} {:>10}  {}\n", name, value, what);
  };
  line("target_bytes", l.target_bytes, "of a request's target");
  line("header_bytes", l.header_bytes, "of a request's head");
  line("header_lines", l.header_lines, "of it");
  line("body_bytes", l.body_bytes, "of a request's body");
  line("pipelined_bytes", l.pipelined_bytes, "read ahead while a request is answered");
  line("connections", l.connections, "open at one time (--max-connections)");
  line("connections_per_address", l.connections_per_address, "of one address but loopback");
  line("header_seconds", l.header_seconds, "for a head to arrive");
  line("idle_seconds", l.idle_seconds, "between two requests of a connection");
  line("body_window_seconds", l.body_window_seconds, "in which a body must bring");
  line("body_window_bytes", l.body_window_bytes, "so much, or its end");
  line("write_stall_seconds", l.write_stall_seconds, "in which a client must take something");
  line("unsent_bytes", l.unsent_bytes, "of a stream whose client is slow");
  line("ping_seconds", l.ping_seconds, "of silence before a comment in a stream");
  line("request_id_bytes", l.request_id_bytes, "of X-Request-Id");
  line("json_depth", l.json_depth, "of a body");
  line("json_nodes", l.json_nodes, "values of a body");
  line("queue", l.queue, "requests that wait (--max-queue)");
  line("queue_tokens", l.queue_tokens, "of prompts and answers that wait or run");
  line("queue_seconds", l.queue_seconds, "that a request waits at most (--queue-seconds)");
  line("messages", l.messages, "of a conversation");
  line("tools", l.tools, "of a request");
  line("choices", l.choices, "n (--max-choices)");
  line("prompts", l.prompts, "of a completions request");
  line("prompts_by_choices", l.prompts_by_choices, "answers of a completions request");
  line("stops", l.stops, "stop texts");
  line("stop_bytes", l.stop_bytes, "of a stop text");
  line("logit_biases", l.logit_biases, "entries of logit_bias");
  line("top_logprobs", l.top_logprobs, "at each place");
  line("reply_tokens", l.reply_tokens, "of an answer that names no length (--max-reply-tokens)");
  line("schema_bytes", l.schema_bytes, "of a JSON Schema, regex or grammar");
  line("schema_depth", l.schema_depth, "of a JSON Schema");
  return out;
}

}  // namespace heddle::serve
