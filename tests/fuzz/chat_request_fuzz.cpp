// Bodies of requests. The first byte says the endpoint and what the server is told; the rest is the
// body. A body is refused with an ApiError that can be an answer, or gives a plan that is inside
// the table and the limits. The same body once more with a field of some endpoint, of some kind,
// and on the endpoints that make nothing write.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "tests/fuzz/fuzz.h"
#include "tools/serve/api/api_error.h"
#include "tools/serve/api/generation_plan.h"
#include "tools/serve/api/token_routes.h"
#include "tools/serve/fake_driver.h"

namespace heddle::serve {
namespace {

constexpr std::int64_t kContext = 2048;

const ModelFacts& facts() {
  static const FakeDriver kDriver({.id = "m", .aliases = {"alias"}, .context = kContext});
  return kDriver.facts();
}

ServerLimits small_limits() {
  ServerLimits limits;
  limits.messages = 64;
  limits.tools = 8;
  limits.prompts = 8;
  limits.prompts_by_choices = 16;
  limits.stops = 4;
  limits.stop_bytes = 64;
  limits.logit_biases = 16;
  limits.json_nodes = 20000;
  limits.reply_tokens = 256;
  limits.schema_bytes = 4096;
  return limits;
}

void check_error(const ApiErrorSpec& error) {
  fuzz::require(error.status == 400 || error.status == 404);
  fuzz::require(!error.code.empty() && !error.message.empty());
  fuzz::require(nlohmann::json::accept(error_body(error)));
}

/// Of every number that a plan was made from.
void check_fields(const nlohmann::json& body, Endpoint endpoint) {
  for (const FieldSpec* field : fields_of(endpoint)) {
    const auto it = body.find(std::string(field->name));
    if (it == body.end() || it->is_null() || field->support == Support::kRefused) continue;
    if (field->kind != FieldKind::kInt && field->kind != FieldKind::kNumber) continue;
    fuzz::require(it->is_number());
    const double value = it->get<double>();
    fuzz::require(value >= field->low && value <= field->high);
    fuzz::require(!field->low_open || value > field->low);
    fuzz::require(field->kind == FieldKind::kNumber || value == std::floor(value));
  }
}

void check_request(const Request& request, const ServerLimits& limits) {
  const auto n_prompt = static_cast<std::int64_t>(request.prompt.size());
  fuzz::require(n_prompt > 0 && n_prompt + request.max_new_tokens <= kContext);
  fuzz::require(request.max_new_tokens > 0 || request.score);
  for (const std::int32_t id : request.prompt) fuzz::require(id >= 0 && id < facts().vocab);
  for (const std::int32_t id : request.stop_ids) fuzz::require(id >= 0 && id < facts().vocab);
  fuzz::require(request.n >= 1 && request.n <= limits.choices);
  fuzz::require(request.stop.size() <= static_cast<std::size_t>(limits.stops));
  for (const std::string& stop : request.stop) {
    fuzz::require(!stop.empty() && stop.size() <= limits.stop_bytes);
  }
  fuzz::require(request.n_logprobs <= limits.top_logprobs);
  fuzz::require(request.prompt_logprobs <= limits.top_logprobs);
  fuzz::require(request.sampling.logit_bias.size() <=
                static_cast<std::size_t>(limits.logit_biases));
  const SamplingParams& s = request.sampling;
  fuzz::require(s.temperature >= 0.0F && s.temperature <= 2.0F);
  fuzz::require(s.top_p > 0.0F && s.top_p <= 1.0F && s.top_k >= 0);
  fuzz::require(request.priority >= -100 && request.priority <= 100);
  fuzz::require(request.cache_scope.size() <= 64);
  for (const std::int64_t at : request.snapshot_at) fuzz::require(at >= 0 && at <= n_prompt);
  validate(request, facts().vocab);
}

void check(unsigned flags, std::string_view body) {
  constexpr Endpoint kEndpoints[] = {Endpoint::kChat, Endpoint::kCompletions, Endpoint::kResponses};
  const Endpoint endpoint = kEndpoints[flags % 3];
  const ServerLimits limits = small_limits();
  GrammarStore grammars;
  ReplyStyle style;
  style.tools = static_cast<ToolStyle>(flags / 3 % 5);
  if ((flags & 128U) != 0) style.reasoning = ReasoningStyle::kThink;
  const PlanContext context{.facts = facts(),
                            .limits = limits,
                            .style = style,
                            .grammars = grammars,
                            .client = "c",
                            .strict_fields = (flags & 64U) != 0};
  try {
    const GenerationPlan plan = plan_generation(body, endpoint, context);
    check_fields(nlohmann::json::parse(body), endpoint);
    fuzz::require(plan.model == "m" || plan.model == "alias");
    fuzz::require(!plan.requests.empty() && plan.requests.size() <= 8);
    fuzz::require(plan.n_tokens() > 0);
    fuzz::require(static_cast<std::int64_t>(plan.requests.size()) * plan.n <=
                  std::max(limits.prompts_by_choices, limits.choices));
    fuzz::require(!plan.continuous_usage || plan.stream);
    fuzz::require(!context.strict_fields || plan.unknown_fields.empty());
    for (const Request& request : plan.requests) check_request(request, limits);
  } catch (const ApiError& e) {
    check_error(e.spec());
  }
}

/// What the endpoints read that only look at tokens.
void check_token_routes(std::string_view body) {
  const ServerLimits limits = small_limits();
  for (const Endpoint endpoint :
       {Endpoint::kTokenize, Endpoint::kDetokenize, Endpoint::kTemplate, Endpoint::kEmbeddings}) {
    try {
      const Fields fields = Fields::read(body, endpoint, limits, false);
      check_model(fields, facts());
      if (endpoint == Endpoint::kTokenize) tokenize(fields, facts(), limits);
      if (endpoint == Endpoint::kDetokenize) detokenize(fields, facts());
      if (endpoint == Endpoint::kTemplate) apply_template(fields, facts(), limits);
    } catch (const ApiError& e) {
      check_error(e.spec());
    }
  }
}

/// The body with a field of the table that the input chooses, whatever endpoint has it.
std::string with_field(std::string_view body, unsigned flags) {
  nlohmann::json object = nlohmann::json::parse(body, nullptr, false);
  if (!object.is_object()) return std::string(body);
  const auto table = field_table();
  const std::size_t hash = std::hash<std::string_view>()(body) + flags;
  const nlohmann::json values[] = {true,
                                   -1,
                                   0.5,
                                   "x",
                                   {nullptr},
                                   {3},
                                   {"x"},
                                   nlohmann::json::object(),
                                   {{"type", 3}},
                                   {{"type", "function"}, {"function", 3}},
                                   nlohmann::json::array({nlohmann::json::object()})};
  object[std::string(table[hash % table.size()].name)] =
      values[hash / table.size() % std::size(values)];
  return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace
}  // namespace heddle::serve

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string more = heddle::serve::with_field(body, data[0]);
  for (const std::string_view text : {body, std::string_view(more)}) {
    heddle::serve::check(data[0], text);
    heddle::serve::check_token_routes(text);
  }
  return 0;
}
