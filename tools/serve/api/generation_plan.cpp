#include "tools/serve/api/generation_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

#include "tools/serve/api/answer_form.h"
#include "tools/serve/api/api_error.h"
#include "tools/serve/api/chat_input.h"

namespace heddle::serve {
namespace {

std::uint64_t fresh_seed() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return generator() >> 11U;
}

std::string checked_salt(const Fields& fields, std::string_view name) {
  const auto text = fields.text(name);
  if (text && !is_name(*text)) {
    throw invalid_value(
        name, fmt::format("{}: allowed 1 to {} of [A-Za-z0-9_-]", name, ServerLimits::name_bytes));
  }
  return text.value_or("");
}

std::vector<std::string> read_stops(const Fields& fields, const ServerLimits& limits) {
  const Json* stop = fields.find("stop");
  if (stop == nullptr) return {};
  std::vector<std::string> stops;
  if (stop->is_string()) {
    stops.push_back(stop->get<std::string>());
  } else if (stop->is_array()) {
    if (static_cast<std::int64_t>(stop->size()) > limits.stops) {
      throw invalid_value("stop", fmt::format("stop: got {} texts, allowed at most {}",
                                              stop->size(), limits.stops));
    }
    for (const Json& text : *stop) {
      if (!text.is_string()) throw invalid_type("stop", "stop: allowed texts");
      stops.push_back(text.get<std::string>());
    }
  } else {
    throw invalid_type("stop", "stop: allowed a text or an array of texts");
  }
  for (const std::string& text : stops) {
    if (text.empty() || text.size() > limits.stop_bytes) {
      throw invalid_value("stop", fmt::format("stop: a text has {} bytes, allowed 1 to {}",
                                              text.size(), limits.stop_bytes));
    }
  }
  return stops;
}

std::vector<std::int32_t> read_ids(const Json& list, const std::string& where, std::int64_t vocab) {
  std::vector<std::int32_t> ids;
  ids.reserve(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    const auto id = whole_number(list[i]);
    if (!id || *id < 0 || *id >= vocab) {
      throw ApiError(
          {.code = "invalid_token_id",
           .message = fmt::format("{}[{}] is not a token id, allowed 0 to {}", where, i, vocab - 1),
           .param = where});
    }
    ids.push_back(static_cast<std::int32_t>(*id));
  }
  return ids;
}

std::map<std::int32_t, float> read_biases(const Fields& fields, const PlanContext& context) {
  const Json* object = fields.find("logit_bias");
  std::map<std::int32_t, float> biases;
  if (object == nullptr) return biases;
  if (static_cast<std::int64_t>(object->size()) > context.limits.logit_biases) {
    throw invalid_value("logit_bias", fmt::format("logit_bias: got {} entries, allowed at most {}",
                                                  object->size(), context.limits.logit_biases));
  }
  for (const auto& [key, value] : object->items()) {
    std::int32_t id = -1;
    const auto read = std::from_chars(key.data(), key.data() + key.size(), id);
    if (read.ec != std::errc() || read.ptr != key.data() + key.size() || id < 0 ||
        id >= context.facts.vocab) {
      throw invalid_value("logit_bias",
                          fmt::format("logit_bias: a key is no token id, allowed 0 to {}",
                                      context.facts.vocab - 1));
    }
    if (!value.is_number() || !(std::fabs(value.get<double>()) <= 100.0)) {
      throw invalid_value("logit_bias",
                          fmt::format("logit_bias: the bias of token {} is not a number from -100 "
                                      "to 100",
                                      id));
    }
    biases[id] = value.get<float>();
  }
  return biases;
}

SamplingParams read_sampling(const Fields& fields, const PlanContext& context) {
  SamplingParams p = context.facts.sampling;
  const auto set = [&](const char* name, float& field) {
    if (const auto value = fields.number(name)) field = static_cast<float>(*value);
  };
  set("temperature", p.temperature);
  set("min_p", p.min_p);
  set("repetition_penalty", p.repetition_penalty);
  set("presence_penalty", p.presence_penalty);
  set("frequency_penalty", p.frequency_penalty);
  if (const auto top_k = fields.integer("top_k")) {
    p.top_k = static_cast<int>(std::max<std::int64_t>(*top_k, 0));
  }
  set("top_p", p.top_p);
  if (fields.number("top_p") && p.top_p <= 0.0F) {
    p.top_p = 1.0F;
    p.temperature = 0.0F;
  }
  p.logit_bias = read_biases(fields, context);
  const auto seed = fields.integer("seed");
  p.seed = seed ? static_cast<std::uint64_t>(*seed) : fresh_seed();
  return p;
}

int read_choices(const Fields& fields, const PlanContext& context) {
  const std::int64_t n = fields.integer("n").value_or(1);
  if (n > context.limits.choices) {
    throw invalid_value("n", fmt::format("n: got {}, allowed 1 to {}", n, context.limits.choices));
  }
  if (fields.integer("best_of").value_or(n) != n) {
    throw unsupported("best_of", "best_of: allowed what n is; ask for n and choose");
  }
  return static_cast<int>(n);
}

void read_stream(const Fields& fields, GenerationPlan& plan) {
  plan.stream = fields.on("stream");
  plan.progress = fields.on("return_progress") && plan.stream;
  const Json* options = fields.find("stream_options");
  if (options == nullptr) return;
  if (!plan.stream) throw invalid_value("stream_options", "stream_options: only with stream");
  for (const auto& [key, value] : options->items()) {
    const bool known = key == "include_usage" || key == "include_obfuscation" ||
                       (key == "continuous_usage_stats" && plan.endpoint != Endpoint::kResponses);
    if (!known) {
      throw ApiError({.code = "unknown_parameter",
                      .message = "stream_options: has a member that is not known here",
                      .param = "stream_options"});
    }
  }
  const auto on = [&](const char* name) {
    if (!options->contains(name) || (*options)[name].is_null()) return false;
    if (!(*options)[name].is_boolean()) {
      throw invalid_type("stream_options", fmt::format("stream_options.{}: not a boolean", name));
    }
    return (*options)[name].get<bool>();
  };
  on("include_obfuscation");
  plan.include_usage = on("include_usage");
  plan.continuous_usage = on("continuous_usage_stats");
}

std::size_t n_code_points(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

void check_metadata(const Fields& fields, const ServerLimits& limits) {
  const Json* pairs = fields.find("metadata");
  if (pairs == nullptr) return;
  if (pairs->size() > limits.metadata_pairs) {
    throw invalid_value("metadata", fmt::format("metadata: got {} pairs, allowed at most {}",
                                                pairs->size(), limits.metadata_pairs));
  }
  for (const auto& [key, value] : pairs->items()) {
    if (!value.is_string()) throw invalid_type("metadata", "metadata: values are texts");
    if (n_code_points(key) > limits.metadata_key_chars ||
        n_code_points(value.get_ref<const std::string&>()) > limits.metadata_value_chars) {
      throw invalid_value("metadata",
                          fmt::format("metadata: keys have at most {} characters, values {}",
                                      limits.metadata_key_chars, limits.metadata_value_chars));
    }
  }
}

/// Of /v1/responses: what there is none of is not in an answer; what would be must be asked for
/// elsewhere.
void check_include(const Fields& fields) {
  const Json* list = fields.find("include");
  if (list == nullptr) return;
  constexpr std::string_view kNothing[] = {
      "reasoning.encrypted_content",   "file_search_call.results",
      "web_search_call.results",       "web_search_call.action.sources",
      "message.input_image.image_url", "computer_call_output.output.image_url",
      "code_interpreter_call.outputs"};
  for (const Json& item : *list) {
    if (!item.is_string()) throw invalid_type("include", "include: allowed texts");
    const auto& text = item.get_ref<const std::string&>();
    if (text == "message.output_text.logprobs") {
      throw unsupported("include", "include: for log probabilities use /v1/chat/completions");
    }
    if (std::ranges::find(kNothing, text) == std::end(kNothing)) {
      throw invalid_value("include",
                          fmt::format("include: allowed: {}", fmt::join(kNothing, ", ")));
    }
  }
}

/// Everything of a request but its prompt and length.
Request read_common(const Fields& fields, const PlanContext& context, GenerationPlan& plan) {
  Request request;
  check_metadata(fields, context.limits);
  request.sampling = read_sampling(fields, context);
  request.stop = read_stops(fields, context.limits);
  if (const Json* ids = fields.find("stop_token_ids")) {
    if (static_cast<std::int64_t>(ids->size()) > context.limits.logit_biases) {
      throw invalid_value("stop_token_ids",
                          fmt::format("stop_token_ids: got {}, allowed at most {}", ids->size(),
                                      context.limits.logit_biases));
    }
    request.stop_ids = read_ids(*ids, "stop_token_ids", context.facts.vocab);
  }
  request.ignore_eos = fields.on("ignore_eos");
  request.min_new_tokens = fields.integer("min_tokens").value_or(0);
  request.priority = static_cast<int>(fields.integer("priority").value_or(0));
  if (request.priority < 0 && !context.client.empty()) {
    throw invalid_value("priority",
                        fmt::format("priority: got {}, allowed with several keys 0 to 100: no key "
                                    "goes before the others",
                                    request.priority));
  }
  request.client = context.client;
  request.queue_deadline = context.limits.queue_seconds;
  request.cache_scope = checked_salt(fields, "cache_salt");
  plan.session_id = checked_salt(fields, "session_id");
  if (!plan.session_id.empty() && !request.cache_scope.empty()) {
    throw invalid_value("session_id",
                        "session_id: not beside cache_salt: what has a salt is not saved");
  }
  plan.n = read_choices(fields, context);
  request.n = plan.n;
  read_stream(fields, plan);
  request.report_progress = plan.progress || plan.continuous_usage;  // that tells what is reused
  plan.token_ids = fields.on("return_token_ids");
  plan.prompt_logprobs = static_cast<int>(fields.integer("prompt_logprobs").value_or(-1));
  if (plan.prompt_logprobs >= 0 && plan.stream) {
    throw invalid_value("prompt_logprobs", "prompt_logprobs: not with stream");
  }
  plan.unknown_fields = fields.unknown();
  return request;
}

ApiError too_long(std::int64_t n_prompt,
                  std::int64_t n_answer,
                  std::string_view field,
                  const PlanContext& context) {
  const std::string asked =
      n_answer > 0 ? fmt::format(" and max_tokens {}", n_answer) : std::string();
  return ApiError(
      {.code = "context_length_exceeded",
       .message = fmt::format("the prompt has {} tokens{}, the model's context is {} tokens",
                              n_prompt, asked, context.facts.context),
       .param = std::string(field)});
}

/// `asked` < 0: the request names no length. `field`: where its prompt is.
void set_length(Request& request,
                std::string_view field,
                std::int64_t asked,
                std::int64_t fallback,
                const PlanContext& context) {
  const auto n_prompt = static_cast<std::int64_t>(request.prompt.size());
  const std::int64_t room = context.facts.context - n_prompt;
  if (room < 1 && asked != 0) throw too_long(n_prompt, 0, field, context);
  if (asked > room) throw too_long(n_prompt, asked, field, context);
  request.max_new_tokens = asked >= 0 ? asked : std::min(fallback, room);
  if (request.min_new_tokens > request.max_new_tokens) {
    throw invalid_value("min_tokens",
                        fmt::format("min_tokens: got {}, the answer has at most {} tokens",
                                    request.min_new_tokens, request.max_new_tokens));
  }
  // A request that no empty cache could hold.
  const std::int64_t all = n_prompt + request.max_new_tokens;
  const std::int64_t blocks = (all + context.facts.block_tokens - 1) / context.facts.block_tokens;
  if (context.facts.kv_tokens > 0 &&
      blocks * context.facts.block_tokens > context.facts.kv_tokens) {
    throw ApiError({.code = "context_length_exceeded",
                    .message = fmt::format("prompt and answer may have {} tokens, the KV cache has "
                                           "room for {}",
                                           all, context.facts.kv_tokens),
                    .param = "max_tokens"});
  }
}

void read_chat_logprobs(const Fields& fields, GenerationPlan& plan) {
  const std::int64_t top = fields.integer("top_logprobs").value_or(0);
  const bool on = fields.on("logprobs");
  if (top > 0 && !on) throw invalid_value("top_logprobs", "top_logprobs: needs logprobs true");
  plan.logprobs = on ? static_cast<int>(top) : -1;
}

/// The prompt, the form of the answer, its length.
void add_chat(const Fields& fields,
              const ChatInput& input,
              Request request,
              std::int64_t asked,
              const PlanContext& context,
              GenerationPlan& plan) {
  RenderedChat chat = render_chat(input, context.facts, true);
  if (chat.tokens.empty()) {
    throw invalid_value("messages", "messages: the template makes an empty prompt of them");
  }
  plan.parallel_tools = fields.on("parallel_tool_calls", true);
  plan.style = context.style;
  plan.style.reasoning_open = ends_in_thoughts(chat.text);
  request.prompt = std::move(chat.tokens);
  request.snapshot_at = std::move(chat.departures);
  request.n_logprobs = plan.logprobs;
  request.prompt_logprobs = plan.prompt_logprobs;
  set_chat_form(fields, input, context, plan, request);
  set_length(request, fields.find("input") != nullptr ? "input" : "messages", asked,
             context.limits.reply_tokens, context);
  plan.requests.push_back(std::move(request));
}

GenerationPlan plan_chat(const Fields& fields, const PlanContext& context) {
  GenerationPlan plan{.endpoint = Endpoint::kChat};
  Request request = read_common(fields, context, plan);
  read_chat_logprobs(fields, plan);
  const ChatInput input = read_chat(fields, context.facts, context.limits);
  const auto asked = fields.integer("max_completion_tokens");
  add_chat(fields, input, std::move(request),
           asked ? *asked : fields.integer("max_tokens").value_or(-1), context, plan);
  return plan;
}

GenerationPlan plan_responses(const Fields& fields, const PlanContext& context) {
  GenerationPlan plan{.endpoint = Endpoint::kResponses};
  check_include(fields);
  Request request = read_common(fields, context, plan);
  const ChatInput input = read_responses(fields, context.facts, context.limits);
  add_chat(fields, input, std::move(request), fields.integer("max_output_tokens").value_or(-1),
           context, plan);
  Json echoed = Json::object();
  for (const char* name : {"instructions", "metadata", "temperature", "top_p", "tools",
                           "tool_choice", "text", "max_output_tokens", "user", "reasoning"}) {
    if (const Json* value = fields.find(name)) echoed[name] = *value;
  }
  plan.echoed = std::make_shared<const Json>(std::move(echoed));
  return plan;
}

/// The prompts of a completions request: a text, ids, or a list of either.
std::vector<Json> prompts_of(const Json& prompt, const ServerLimits& limits) {
  if (prompt.is_string()) return {prompt};
  if (!prompt.is_array() || prompt.empty()) {
    throw invalid_type("prompt", "prompt: allowed a text, token ids, or a list of either");
  }
  if (prompt[0].is_number()) return {prompt};
  if (static_cast<std::int64_t>(prompt.size()) > limits.prompts) {
    throw invalid_value("prompt", fmt::format("prompt: got {} prompts, allowed at most {}",
                                              prompt.size(), limits.prompts));
  }
  return {prompt.begin(), prompt.end()};
}

std::vector<std::int32_t> prompt_tokens(const Json& prompt,
                                        const std::string& where,
                                        const PlanContext& context) {
  if (prompt.is_string()) {
    const auto& text = prompt.get_ref<const std::string&>();
    check_text_length(text.size(), context.facts, "prompt");
    return context.facts.tokenizer->encode(text, {});
  }
  if (!prompt.is_array()) {
    throw invalid_type("prompt", where + ": allowed a text or a list of token ids");
  }
  return read_ids(prompt, where, context.facts.vocab);
}

GenerationPlan plan_completions(const Fields& fields, const PlanContext& context) {
  GenerationPlan plan{.endpoint = Endpoint::kCompletions};
  Request common = read_common(fields, context, plan);
  plan.echo = fields.on("echo");
  plan.logprobs = static_cast<int>(fields.integer("logprobs").value_or(-1));
  const std::int64_t asked = fields.integer("max_tokens").value_or(16);
  plan.prompt_only = asked == 0;
  if (plan.prompt_only && !plan.echo) {
    throw invalid_value("max_tokens", "max_tokens: 0 is allowed only with echo");
  }
  set_completion_form(fields, context, common);
  const std::vector<Json> prompts = prompts_of(*fields.find("prompt"), context.limits);
  const auto n_answers = static_cast<std::int64_t>(prompts.size()) * plan.n;
  if (n_answers > context.limits.prompts_by_choices) {
    throw invalid_value(
        "n", fmt::format("{} prompts with n {}: allowed {} answers in all", prompts.size(), plan.n,
                         context.limits.prompts_by_choices));
  }
  common.n_logprobs = plan.logprobs;
  common.prompt_logprobs = plan.echo && plan.logprobs >= 0
                               ? std::max(plan.logprobs, plan.prompt_logprobs)
                               : plan.prompt_logprobs;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    Request request = common;
    const std::string where = prompts.size() == 1 ? "prompt" : fmt::format("prompt[{}]", i);
    request.prompt = prompt_tokens(prompts[i], where, context);
    if (request.prompt.empty()) throw invalid_value("prompt", where + ": an empty prompt");
    set_length(request, "prompt", asked, 0, context);
    if (plan.prompt_only) {
      request.score = true;  // the prompt's log probabilities at most, and no answer
      request.max_new_tokens = 0;
    }
    plan.prompt_texts.push_back(prompts[i].is_string()
                                    ? prompts[i].get<std::string>()
                                    : context.facts.tokenizer->decode(request.prompt, true));
    plan.requests.push_back(std::move(request));
  }
  return plan;
}

}  // namespace

void check_model(std::string_view name, const ModelFacts& facts) {
  if (name == facts.id || std::ranges::find(facts.aliases, name) != facts.aliases.end()) return;
  std::string served = facts.id;
  for (const std::string& alias : facts.aliases) served += ", " + alias;
  throw ApiError({.status = 404,
                  .code = "model_not_found",
                  .message = "this model is not served here; allowed: " + served,
                  .param = "model"});
}

void check_model(const Fields& fields, const ModelFacts& facts) {
  check_model(fields.text("model").value_or(facts.id), facts);
}

std::int64_t GenerationPlan::n_tokens() const {
  std::int64_t n_all = 0;
  for (const Request& request : requests) {
    n_all += static_cast<std::int64_t>(request.prompt.size()) + request.n * request.max_new_tokens;
  }
  return n_all;
}

GenerationPlan plan_generation(std::string_view body,
                               Endpoint endpoint,
                               const PlanContext& context) {
  const Fields fields = Fields::read(body, endpoint, context.limits, context.strict_fields);
  check_model(fields, context.facts);
  GenerationPlan plan = endpoint == Endpoint::kChat        ? plan_chat(fields, context)
                        : endpoint == Endpoint::kResponses ? plan_responses(fields, context)
                                                           : plan_completions(fields, context);
  plan.model = fields.text("model").value_or(context.facts.id);
  std::int64_t n_scored = 0;
  for (const Request& request : plan.requests) {
    if (request.prompt_logprobs < 0) continue;
    n_scored += static_cast<std::int64_t>(request.prompt.size()) * (1 + request.prompt_logprobs);
  }
  if (n_scored > context.limits.scored_logprobs) {
    throw ApiError({.code = "invalid_value",
                    .message = fmt::format("the log probabilities of the prompts are {} numbers, "
                                           "allowed {}: ask with fewer alternatives, or in parts",
                                           n_scored, context.limits.scored_logprobs),
                    .param = plan.endpoint == Endpoint::kChat ? "messages" : "prompt"});
  }
  for (const Request& request : plan.requests) {
    try {
      validate(request, context.facts.vocab);
    } catch (const Error& e) {
      throw ApiError({.code = "invalid_value", .message = e.what()});
    }
  }
  return plan;
}

}  // namespace heddle::serve
