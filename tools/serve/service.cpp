#include "tools/serve/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/log.h"
#include "tools/serve/api/answer.h"
#include "tools/serve/api/api_error.h"
#include "tools/serve/api/chat_input.h"
#include "tools/serve/api/fields.h"
#include "tools/serve/api/generation.h"
#include "tools/serve/api/generation_plan.h"
#include "tools/serve/api/grammar_store.h"
#include "tools/serve/api/openapi.h"
#include "tools/serve/api/routes.h"
#include "tools/serve/api/token_routes.h"
#include "tools/serve/api_keys.h"
#include "tools/serve/page/page.h"
#include "tools/serve/session_folder.h"
#include "tools/serve/workers.h"

namespace heddle::serve {
namespace {

bool is_request_id(std::string_view text, std::size_t most) {
  return !text.empty() && text.size() <= most && std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '_' || c == '-';
  });
}

/// A media type with parameters. Source: RFC 9110, sections 8.3.1 and 8.3.2.
bool is_json_in_utf8(std::string_view type) {
  std::string text(type);
  std::ranges::transform(text, text.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  std::erase_if(text, [](char c) { return c == ' ' || c == '\t' || c == '"'; });
  const std::size_t charset = text.find(";charset=");
  if (charset != std::string::npos) {
    const std::string value = text.substr(charset + 9, text.find(';', charset + 1) - charset - 9);
    if (value != "utf-8" && value != "utf8") return false;
  }
  return text.substr(0, text.find(';')) == "application/json";
}

Endpoint endpoint_of(RouteId route) {
  switch (route) {
    case RouteId::kCompletions:
      return Endpoint::kCompletions;
    case RouteId::kResponses:
      return Endpoint::kResponses;
    case RouteId::kEmbeddings:
      return Endpoint::kEmbeddings;
    case RouteId::kTokenize:
      return Endpoint::kTokenize;
    case RouteId::kDetokenize:
      return Endpoint::kDetokenize;
    case RouteId::kTemplate:
      return Endpoint::kTemplate;
    default:
      return Endpoint::kChat;
  }
}

}  // namespace

struct Service::Impl {
  Impl(EngineHost& h, ServiceOptions o)
      : host(h),
        options(std::move(o)),
        keys(options.api_keys),
        sessions(options.session_folder),
        openapi(to_text(openapi_document(options.limits, options.version))),
        model_list(model_list_text()),
        workers(options.worker_threads, options.limits.waiting_bodies) {}

  /// One request on its way: what its answer needs besides the answer.
  struct Call {
    std::shared_ptr<Exchange> exchange;
    RouteMatch route;
    std::string client = {};
    HeaderList headers = {};
  };

  void answer(Call call);
  void handle(Call call);
  void reply(const Call& call, HttpReply reply);
  void fail(const Call& call, const ApiErrorSpec& error) { reply(call, error_reply(error)); }
  std::string admit(const HttpRequest& request, const RouteMatch& route) const;
  HeaderList headers_of(const HttpRequest& request) const;
  void options_reply(const Call& call);
  void health(const Call& call);
  void models(const Call& call);
  void model(const Call& call);
  Json model_json(const std::string& id) const;
  std::string model_list_text() const;
  void body_route(Call call);
  void work(const Call& call);
  void generate(const Call& call, Endpoint endpoint);
  void session(const Call& call);
  void tell_unknown(const std::vector<std::string>& fields, HeaderList& headers);
  PlanContext plan_context(const std::string& client) {
    return {.facts = host.facts(),
            .limits = options.limits,
            .style = options.style,
            .grammars = grammars,
            .client = client,
            .strict_fields = options.strict_fields};
  }

  EngineHost& host;
  ServiceOptions options;
  const ApiKeys keys;
  SessionFolder sessions;
  ServerMetrics metrics;
  GrammarStore grammars;
  std::string openapi;
  std::string model_list;  // of /v1/models: many ask often
  std::atomic<const HttpServer*> http{nullptr};
  std::mutex mutex;
  std::set<std::string> told_unknown;  // under the mutex
  Workers workers;                     // last: its tasks use the others
};

Service::Service(EngineHost& host, ServiceOptions options)
    : impl_(std::make_unique<Impl>(host, std::move(options))) {}
Service::~Service() = default;

void Service::watch(const HttpServer* server) {
  impl_->http = server;
}

std::size_t Service::n_reading() const {
  return impl_->workers.n_tasks();
}

ServerMetrics& Service::metrics() {
  return impl_->metrics;
}

void Service::stop() {
  impl_->workers.stop();
}

HttpReply Service::refuse(const Refusal& refusal) {
  impl_->metrics.count_reply(RouteLabel::kOther, refusal.status);
  HttpReply reply = refusal_reply(refusal);
  reply.headers.emplace_back("x-request-id", random_id());
  return reply;
}

/// Of every answer to it.
HeaderList Service::Impl::headers_of(const HttpRequest& request) const {
  HeaderList headers;
  const auto given = request.header("x-request-id");
  const bool valid = given && is_request_id(*given, options.limits.request_id_bytes);
  headers.emplace_back("x-request-id", valid ? std::string(*given) : random_id());
  if (!options.cors_origin.empty()) {
    headers.emplace_back("access-control-allow-origin", options.cors_origin);
    headers.emplace_back("vary", "origin");
    headers.emplace_back("access-control-expose-headers",
                         "x-request-id, x-ignored-fields, retry-after, x-should-retry, "
                         "openai-processing-ms");
  }
  return headers;
}

std::optional<HttpReply> Service::check_head(const HttpRequest& request) {
  const RouteMatch route = match_route(request.method, request.path);
  try {
    impl_->admit(request, route);
    return std::nullopt;
  } catch (const ApiError& e) {
    impl_->metrics.count_reply(route.label, e.spec().status);
    HttpReply reply = error_reply(e.spec());
    const HeaderList headers = impl_->headers_of(request);
    reply.headers.insert(reply.headers.end(), headers.begin(), headers.end());
    return reply;
  }
}

void Service::handle(std::shared_ptr<Exchange> exchange) {
  const HttpRequest& request = exchange->request();
  Impl::Call call{.exchange = exchange, .route = match_route(request.method, request.path)};
  call.headers = impl_->headers_of(request);
  impl_->answer(std::move(call));
}

void Service::Impl::reply(const Call& call, HttpReply reply) {
  metrics.count_reply(call.route.label, reply.status);
  reply.headers.insert(reply.headers.end(), call.headers.begin(), call.headers.end());
  call.exchange->reply(std::move(reply));
}

/// Whatever goes wrong with a request is its own.
void Service::Impl::answer(Call call) {
  const Call kept = call;
  try {
    handle(std::move(call));
  } catch (const ApiError& e) {
    fail(kept, e.spec());
  } catch (const std::exception& e) {
    log(LogLevel::kError, fmt::format("a request failed: {}", e.what()));
    fail(kept, {.status = 500, .code = "internal_error", .message = "the server failed on this"});
  }
}

void Service::Impl::handle(Call call) {
  const HttpRequest& request = call.exchange->request();
  if (call.route.id == RouteId::kNone) {
    throw ApiError({.status = 404,
                    .code = "unknown_url",
                    .message = "there is no such path: the API is under /v1, and "
                               "/openapi.json names all of it"});
  }
  if (request.method == "OPTIONS") return options_reply(call);
  if (!call.route.allowed) {
    HttpReply refused = error_reply({.status = 405,
                                     .code = "method_not_allowed",
                                     .message = "allowed here: " + call.route.methods});
    refused.headers.emplace_back("allow", call.route.methods);
    return reply(call, std::move(refused));
  }
  call.client = admit(request, call.route);
  switch (call.route.id) {
    case RouteId::kPage:
      return reply(call, {.headers = {{"content-type", "text/html; charset=utf-8"},
                                      {"content-security-policy", std::string(kPagePolicy)},
                                      {"x-content-type-options", "nosniff"}},
                          .body = std::string(chat_page())});
    case RouteId::kHealth:
      return health(call);
    case RouteId::kVersion:
      return reply(call, json_reply({{"version", options.version}}));
    case RouteId::kMetrics:
      return reply(call,
                   {.headers = {{"content-type", "text/plain; version=0.0.4; charset=utf-8"}},
                    .body = metrics.write(host, http ? http.load()->stats() : HttpServerStats())});
    case RouteId::kOpenapi:
      return reply(call, {.headers = {{"content-type", "application/json"}}, .body = openapi});
    case RouteId::kModels:
      return models(call);
    case RouteId::kModel:
      return model(call);
    case RouteId::kSessions:
      return reply(call, json_reply(sessions.list(call.client)));
    case RouteId::kSession:
      return session(call);
    default:
      return body_route(std::move(call));
  }
}

/// Whose request it is. Throws ApiError for a wrong key, and for a page of another site: a browser
/// sends that without asking first.
std::string Service::Impl::admit(const HttpRequest& request, const RouteMatch& route) const {
  const auto origin = request.header("origin");
  if (origin && request.method == "POST" && options.cors_origin != "*" &&
      *origin != options.cors_origin) {
    const std::size_t authority = origin->find("://");
    const bool own = authority != std::string_view::npos &&
                     origin->substr(authority + 3) == request.header("host").value_or("");
    if (!own) {
      throw ApiError({.status = 403,
                      .code = "origin_not_allowed",
                      .message = "requests of another site's pages need --cors-origin"});
    }
  }
  return route.needs_key ? keys.client_of(request) : "";
}

void Service::Impl::options_reply(const Call& call) {
  HttpReply out{.status = 204, .headers = {{"allow", call.route.methods}}};
  if (!options.cors_origin.empty()) {
    out.headers.emplace_back("access-control-allow-methods", call.route.methods);
    // OpenAI's client for browsers has headers of its own.
    const auto asked = call.exchange->request().header("access-control-request-headers");
    out.headers.emplace_back(
        "access-control-allow-headers",
        asked ? std::string(*asked) : "authorization, content-type, x-request-id");
    out.headers.emplace_back("access-control-max-age", "600");
  }
  reply(call, std::move(out));
}

void Service::Impl::health(const Call& call) {
  switch (host.state()) {
    case HostState::kServing:
      return reply(call, json_reply({{"status", "ok"}}));
    case HostState::kDraining:
      return fail(call, {.status = 503,
                         .code = "draining",
                         .message = "the server is shutting down",
                         .retry_after_s = 5});
    case HostState::kStalled:
      return fail(call, {.status = 503,
                         .code = "engine_stalled",
                         .message = "the engine has not ended its step for a long time",
                         .retry_after_s = 30});
    case HostState::kDead:
      break;
  }
  fail(call, {.status = 503,
              .code = "engine_dead",
              .message = "the engine has ended; the server must be restarted",
              .retry_after_s = 30});
}

Json Service::Impl::model_json(const std::string& id) const {
  const ModelFacts& facts = host.facts();
  return {{"id", id},
          {"object", "model"},
          {"created", facts.created},
          {"owned_by", "heddle"},
          {"root", facts.id},
          {"max_model_len", facts.context},
          {"family", facts.family},
          {"numerics_id", facts.numerics_id}};
}

void Service::Impl::models(const Call& call) {
  reply(call, {.headers = {{"content-type", "application/json"}}, .body = model_list});
}

std::string Service::Impl::model_list_text() const {
  Json data = Json::array({model_json(host.facts().id)});
  for (const std::string& alias : host.facts().aliases) data.push_back(model_json(alias));
  return to_text({{"object", "list"}, {"data", std::move(data)}});
}

void Service::Impl::model(const Call& call) {
  const std::string& id = call.route.parameter;
  check_model(id, host.facts());
  reply(call, json_reply(model_json(id)));
}

/// What is to be read of a body is read on another thread than the streams'.
void Service::Impl::body_route(Call call) {
  const HttpRequest& request = call.exchange->request();
  const auto type = request.header("content-type");
  if (type && !is_json_in_utf8(*type)) {
    throw ApiError({.status = 415,
                    .code = "unsupported_media_type",
                    .message = "the body must be application/json in UTF-8: header Content-Type"});
  }
  const HostState state = host.state();
  if (state == HostState::kDead) {
    throw ApiError({.status = 503,
                    .code = "engine_dead",
                    .message = "the engine has ended; the server must be restarted",
                    .retry_after_s = 30});
  }
  // Where it would be refused in any case it need not be read: what is refused costs little.
  const RouteId route = call.route.id;
  const bool generates =
      route == RouteId::kChat || route == RouteId::kCompletions || route == RouteId::kResponses;
  if (generates && host.full()) throw ApiError(refusal_error(EngineHost::Refusal::kQueueFull));
  const auto shared = std::make_shared<Call>(std::move(call));
  const std::string& turn = shared->client.empty() ? shared->exchange->peer() : shared->client;
  const bool taken = workers.post(turn, [this, shared] {
    std::string failure;
    ApiErrorSpec error;
    try {
      return work(*shared);
    } catch (const ApiError& e) {
      error = e.spec();
    } catch (const std::exception& e) {
      log(LogLevel::kError, fmt::format("a request failed: {}", e.what()));
      error = {.status = 500, .code = "internal_error", .message = "the server failed on this"};
    }
    shared->exchange->post([this, shared, error] { fail(*shared, error); });
  });
  if (!taken) {
    throw ApiError({.status = 429,
                    .code = "rate_limit_exceeded",
                    .message = "too many requests wait to be read; try again later",
                    .retry_after_s = 1});
  }
}

/// On a worker.
void Service::Impl::work(const Call& call) {
  const RouteId route = call.route.id;
  if (route == RouteId::kChat || route == RouteId::kCompletions || route == RouteId::kResponses) {
    return generate(call, endpoint_of(route));
  }
  const Fields fields = Fields::read(call.exchange->request().body, endpoint_of(route),
                                     options.limits, options.strict_fields);
  check_model(fields, host.facts());
  if (route == RouteId::kEmbeddings) {
    throw ApiError({.code = "unsupported_model",
                    .message = "the model has no pooling head: it makes no embeddings",
                    .param = "model"});
  }
  Call told = call;
  tell_unknown(fields.unknown(), told.headers);
  Json out = route == RouteId::kTokenize     ? tokenize(fields, host.facts(), options.limits)
             : route == RouteId::kDetokenize ? detokenize(fields, host.facts())
                                             : apply_template(fields, host.facts(), options.limits);
  call.exchange->post([this, told, reply_out = json_reply(out)] { reply(told, reply_out); });
}

void Service::Impl::generate(const Call& call, Endpoint endpoint) {
  if (call.exchange->gone()) {
    ++metrics.disconnected;
    return;
  }
  auto plan = std::make_shared<GenerationPlan>(
      plan_generation(call.exchange->request().body, endpoint, plan_context(call.client)));
  GenerationContext context{.host = host,
                            .metrics = metrics,
                            .ping_seconds = options.limits.ping_seconds,
                            .headers = call.headers};
  tell_unknown(plan->unknown_fields, context.headers);
  context.ended = [this, label = call.route.label, client = call.client,
                   id = call.headers[0].second](const GenerationEnd& end) {
    metrics.count_reply(label, end.status);
    log_info(fmt::format("{} {} {}: {} prompt and {} answer tokens in {:.3f} s", id, name(label),
                         end.disconnected ? "gone" : std::to_string(end.status),
                         end.n_prompt_tokens, end.n_answer_tokens, end.seconds));
    if (!end.tokens.empty()) sessions.remember({client, end.session_id}, end.tokens);
  };
  call.exchange->post([exchange = call.exchange, plan, context = std::move(context)]() mutable {
    Generation::start(exchange, std::move(*plan), std::move(context));
  });
}

void Service::Impl::session(const Call& call) {
  const auto slash = call.route.parameter.find('/');
  const std::string id = call.route.parameter.substr(0, slash);
  const std::string action = call.route.parameter.substr(slash + 1);
  const SessionFolder::Key key{.client = call.client, .id = id};
  if (!sessions.on()) {
    throw ApiError({.status = 501,
                    .code = "sessions_off",
                    .message = "sessions are saved only with --session-dir"});
  }
  if (action == "delete") {
    if (sessions.remove(key)) {
      return reply(call, json_reply({{"id", id}, {"object", "session"}, {"deleted", true}}));
    }
    throw ApiError(
        {.status = 404, .code = "session_not_found", .message = "there is no session of this id"});
  }
  const SessionFolder::Done done = [this, call, id, action](const SessionReport* report,
                                                            const std::string& error,
                                                            bool missing) {
    HttpReply out;
    if (report != nullptr) {
      out = json_reply({{"id", id},
                        {"object", "session"},
                        {action == "save" ? "saved" : "restored", true},
                        {"tokens", report->tokens},
                        {"snapshots", report->snapshots},
                        {"bytes", report->bytes}});
    } else {
      const int failed = action == "save" ? 500 : 400;  // a full disk is no fault of who asks
      out = error_reply({.status = missing ? 404 : failed,
                         .code = missing ? "session_not_found" : "session_error",
                         .message = error});
    }
    call.exchange->post([this, call, out] { reply(call, out); });
  };
  const bool taken =
      action == "save" ? sessions.save(host, key, done) : sessions.restore(host, key, done);
  if (!taken) health(call);
}

/// In the answer's headers, and once in the log.
void Service::Impl::tell_unknown(const std::vector<std::string>& fields, HeaderList& headers) {
  if (fields.empty()) return;
  const auto n = std::min<std::ptrdiff_t>(std::ssize(fields), 16);
  headers.emplace_back("x-ignored-fields",
                       fmt::format("{}", fmt::join(fields.begin(), fields.begin() + n, ", ")));
  const std::scoped_lock lock(mutex);
  for (const std::string& field : fields) {
    if (told_unknown.size() >= 64 || !told_unknown.insert(field).second) continue;
    log_warning(
        fmt::format("requests have a field '{}' that is not known here: it is ignored", field));
  }
}

}  // namespace heddle::serve
