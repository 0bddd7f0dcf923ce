// SPDX-License-Identifier: Apache-2.0
// Every bound on what a client may ask for, in one place. All are checked before text becomes
// tokens.
#ifndef HGA_APPS_SERVER_LIMITS_H_
#define HGA_APPS_SERVER_LIMITS_H_

#include <cstdint>

namespace hga::server {

struct Limits {
  // HTTP.
  int64_t request_line_bytes = 8 << 10;
  int64_t head_bytes = 32 << 10;
  int64_t headers = 100;
  int64_t body_bytes = 32 << 20;
  int64_t bodies_bytes = 256 << 20;  // of all requests at a time
  int64_t pipelined_bytes = 64 << 10;
  int64_t send_queue_bytes = 4 << 20;  // of an answer that is not read; more ends the request
  int connections = 2048;
  int keep_alive_seconds = 75;
  int head_seconds = 10;
  int body_idle_seconds = 30;
  int body_seconds = 300;
  int write_stall_seconds = 30;
  // JSON.
  int json_depth = 64;
  int64_t json_values = 4 << 20;
  int64_t json_members = 2048;  // of one object
  int64_t json_all_members = 1 << 18;
  // Fields.
  int64_t messages = 4096;
  int64_t parts = 4096;  // of one message
  int64_t tools = 128;
  int64_t tool_calls = 128;  // of one message
  int64_t name_bytes = 64;   // of a tool
  int64_t model_bytes = 256;
  int64_t text_bytes = 32 << 20;          // of any one text
  int64_t max_tokens = int64_t{1} << 30;  // together with the prompt: the context
  int64_t n = 8;
  int64_t prompts = 64;
  int64_t answers = 64;  // n times prompts
  int64_t stops = 16;
  int64_t stop_bytes = 256;
  int64_t stop_ids = 64;
  int64_t logit_bias = 1024;
  int64_t top_logprobs = 20;
  int64_t top_k = 1 << 20;
  int64_t shown_tokens = 1 << 20;  // of /tokenize
  int64_t slot_name_bytes = 64;
  int64_t error_bytes = 200;  // of a client's text in a message
};

inline constexpr Limits kLimits;

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_LIMITS_H_
