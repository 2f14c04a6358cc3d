#include "tools/serve/limits.h"

#include <fmt/format.h>

#include <iterator>
#include <string_view>

#include "base/log.h"
#include "engine/grammar/grammar.h"
#include "models/tokenizer/chat_template.h"
#include "tools/serve/api/grammar_store.h"
#include "tools/serve/session_folder.h"

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
  line("bodies_bytes", l.bodies_bytes, "of all bodies under way that are not small");
  line("small_body_bytes", l.small_body_bytes, "of a body that is small");
  line("pipelined_bytes", l.pipelined_bytes,
       "read ahead while a request is answered; behind it the connection ends");
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
  line("json_members", l.json_members, "of one object of a body");
  line("waiting_bodies", l.waiting_bodies, "that wait to be read");
  line("queue", l.queue, "requests that wait (--max-queue)");
  line("queue_of_key", l.queue_of_key, "of one of several keys; 0: its share (--max-per-key)");
  line("queue_tokens", l.queue_tokens, "of prompts and answers that wait or run");
  line("queue_seconds", l.queue_seconds, "that a request waits at most (--queue-seconds)");
  line("messages", l.messages, "of a conversation");
  line("tools", l.tools, "of a request");
  line("name_bytes", l.name_bytes, "of a function, schema, cache_salt, session_id");
  line("metadata_pairs", l.metadata_pairs, "of metadata");
  line("metadata_key_chars", l.metadata_key_chars, "of a key of it");
  line("metadata_value_chars", l.metadata_value_chars, "of a value of it");
  line("choices", l.choices, "n (--max-choices)");
  line("prompts", l.prompts, "of a completions request");
  line("prompts_by_choices", l.prompts_by_choices, "answers of a completions request");
  line("stops", l.stops, "stop texts");
  line("stop_bytes", l.stop_bytes, "of a stop text");
  line("logit_biases", l.logit_biases, "entries of logit_bias, of stop_token_ids");
  line("top_logprobs", l.top_logprobs, "at each place");
  line("scored_logprobs", l.scored_logprobs, "of the tokens of prompts, with their alternatives");
  line("reply_tokens", l.reply_tokens, "of an answer that names no length (--max-reply-tokens)");
  line("schema_bytes", l.schema_bytes, "of a JSON Schema, regex or grammar");
  line("schema_depth", l.schema_depth, "of a JSON Schema");
  const GrammarLimits grammar;
  line("grammar_states", grammar.states, "of a compiled schema, regex or grammar");
  line("grammar_bytes", grammar.memory_bytes, "of one");
  line("grammar_seconds", grammar.seconds, "to compile one");
  line("grammar_store_bytes", GrammarStore::kMostBytes, "of all that are kept");
  const TemplateLimits chat;
  line("template_bytes", chat.source_bytes, "of a chat template");
  line("template_depth", chat.depth, "of what is nested in one");
  line("template_steps", chat.steps, "to render a conversation");
  line("template_milliseconds", chat.milliseconds, "likewise");
  line("template_output_bytes", chat.output_bytes, "of its text");
  line("sessions", SessionFolder::kMostSessions, "whose last answers are remembered");
  line("session_tokens", SessionFolder::kMostTokens, "of all of them");
  line("log_line_bytes", kLogLineBytes, "of a line of the log");
  return out;
}

}  // namespace heddle::serve
