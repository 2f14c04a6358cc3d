#pragma once
// Every bound of the server in one place; `heddle serve --show-limits` prints them.

#include <cstddef>
#include <cstdint>
#include <string>

namespace heddle::serve {

struct ServerLimits {
  // HTTP
  std::size_t target_bytes = std::size_t{8} << 10U;
  std::size_t header_bytes = std::size_t{64} << 10U;  // request line included
  int header_lines = 100;
  std::size_t body_bytes = std::size_t{16} << 20U;
  std::size_t bodies_bytes = std::size_t{256} << 20U;  // of all bodies over small_body_bytes
  std::size_t small_body_bytes = std::size_t{64} << 10U;
  std::size_t pipelined_bytes =
      std::size_t{64} << 10U;  // read ahead while a request is answered; behind it nothing is
  int connections = 4096;
  int connections_per_address = 256;  // not for loopback, where reverse proxies are
  double header_seconds = 10.0;       // from a request's first byte to the end of its header
  double idle_seconds = 75.0;         // between two requests
  double body_window_seconds = 30.0;  // in which a body must bring body_window_bytes
  std::size_t body_window_bytes = std::size_t{30} << 10U;
  double write_stall_seconds = 30.0;  // a client that takes nothing for so long is gone
  std::size_t unsent_bytes = std::size_t{16} << 20U;  // of one event stream
  double ping_seconds = 15.0;                         // silence before a comment; 0: none
  std::size_t request_id_bytes = 128;
  // JSON
  int json_depth = 64;
  std::size_t json_nodes = 1'000'000;
  std::size_t json_members = 10'000;  // of one object
  // Requests
  std::size_t waiting_bodies = 4096;    // that wait to be read
  std::int64_t queue = 1024;            // requests that wait
  std::int64_t queue_of_key = 0;        // of one of several keys, waiting or running; 0: its share
  std::int64_t queue_tokens = 4 << 20;  // prompt and answer tokens of all that wait or run
  double queue_seconds = 600.0;         // a request that has not begun by then is told 503; 0: none
  std::int64_t messages = 4096;
  std::int64_t tools = 128;
  static constexpr std::size_t name_bytes = 64;  // of a function, schema, cache_salt, session_id
  std::size_t metadata_pairs = 16;
  std::size_t metadata_key_chars = 64;
  std::size_t metadata_value_chars = 512;
  std::int64_t choices = 16;   // n
  std::int64_t prompts = 128;  // of one completions request
  std::int64_t prompts_by_choices = 256;
  std::int64_t stops = 32;
  std::size_t stop_bytes = 1024;
  std::int64_t logit_biases = 1024;  // and stop_token_ids
  std::int64_t top_logprobs = 20;
  std::int64_t scored_logprobs = 1 << 18;  // of all tokens of prompts, with their alternatives
  std::int64_t reply_tokens = 2048;        // where a request names no max_tokens
  std::size_t schema_bytes = std::size_t{64} << 10U;
  int schema_depth = 32;
};

/// A line for each: name, value, what it bounds.
std::string describe(const ServerLimits& limits);

}  // namespace heddle::serve
