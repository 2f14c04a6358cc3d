#include "tools/needle/server_api.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "tools/needle/grid.h"

namespace heddle::needle {
namespace {

constexpr double kShortTimeout = 120.0;  // seconds, of what is no answer of a model
constexpr std::size_t kMostBody = std::size_t{256} << 20;

std::optional<std::int64_t> count_in(const Json& object, const char* name) {
  if (!object.is_object()) return std::nullopt;
  const auto it = object.find(name);
  if (it == object.end() || !it->is_number_unsigned()) return std::nullopt;
  const auto value = it->get<std::uint64_t>();
  if (value == 0 || value > static_cast<std::uint64_t>(kLongestLength)) return std::nullopt;
  return static_cast<std::int64_t>(value);
}

/// The entries of /v1/models that have an id.
std::vector<Json> models_in(const Json& body) {
  std::vector<Json> models;
  if (!body.is_object() || !body.contains("data") || !body["data"].is_array()) return models;
  for (const Json& model : body["data"]) {
    if (model.is_object() && model.contains("id") && model["id"].is_string())
      models.push_back(model);
  }
  return models;
}

}  // namespace

ServerApi::ServerApi(ServerOptions options)
    : options_(std::move(options)), client_(io_, options_.url, options_.flag) {
  if (options_.model.empty()) find_model();
}

void ServerApi::find_model() {
  const Response response = get("/v1/models");
  const std::vector<Json> models = models_in(response.body);
  if (response.error.empty() && !models.empty()) {
    options_.model = models[0]["id"].get<std::string>();
    return;
  }
  throw runtime_failure(
      fmt::format("{}: which model is served there is not known: {} ({} names it)", options_.flag,
                  response.error.empty() ? "GET /v1/models does not list one" : response.error,
                  options_.model_flag));
}

std::optional<std::int64_t> ServerApi::context() {
  for (const Json& model : models_in(get("/v1/models").body)) {
    if (model["id"] != options_.model) continue;
    if (const auto n = count_in(model, "max_model_len")) return n;
  }
  const Response props = get("/props");  // llama-server
  if (props.body.is_object() && props.body.contains("default_generation_settings")) {
    if (const auto n = count_in(props.body["default_generation_settings"], "n_ctx")) return n;
  }
  return count_in(call("/tokenize", {{"model", options_.model}, {"prompt", "a"}}).body,
                  "max_model_len");
}

std::string ServerApi::path_of(const std::string& path) const {
  if (path.starts_with("/v1/")) return serve::api_target(options_.url, path.substr(3));
  std::string root = options_.url.path;
  if (root.ends_with("/v1")) root.resize(root.size() - 3);
  return root + path;
}

ServerApi::Response ServerApi::send(serve::ClientRequest request) {
  struct State {
    std::string body;
    serve::ClientResult end;
    bool over = false;
  };
  const auto state = std::make_shared<State>();
  request.target = path_of(request.target);
  request.headers = serve::api_headers(options_.api_key);
  request.timeout_seconds = kShortTimeout;
  client_.send(std::move(request), {.received =
                                        [state](int, std::string_view bytes) {
                                          if (state->body.size() < kMostBody) state->body += bytes;
                                        },
                                    .done =
                                        [state](const serve::ClientResult& result) {
                                          state->end = result;
                                          state->over = true;
                                        }});
  while (!state->over) run_some();
  Response response{.status = state->end.status, .error = state->end.error, .body = nullptr};
  if (!response.error.empty()) return response;
  if (response.status != 200) {
    response.error = serve::http_error_text(response.status, state->body);
    return response;
  }
  response.body = Json::parse(state->body, nullptr, false);
  if (response.body.is_discarded()) {
    response.body = nullptr;
    response.error = "the answer is not JSON";
  }
  return response;
}

ServerApi::Response ServerApi::call(const std::string& path, const Json& body) {
  return send({.target = path, .body = body.dump(-1, ' ', false, Json::error_handler_t::replace)});
}

ServerApi::Response ServerApi::get(const std::string& path) {
  return send({.method = "GET", .target = path});
}

void ServerApi::stream(
    bool chat,
    const Json& body,
    std::function<void()> begun,
    std::function<void(serve::StreamedAnswer&, const serve::ClientResult&)> done) {
  const auto answer = std::make_shared<serve::StreamedAnswer>(chat);
  answer->allow_empty = true;
  client_.send({.target = path_of(chat ? "/v1/chat/completions" : "/v1/completions"),
                .headers = serve::api_headers(options_.api_key),
                .body = body.dump(-1, ' ', false, Json::error_handler_t::replace),
                .timeout_seconds = options_.timeout_seconds},
               {.received =
                    [answer, begun = std::move(begun)](int status, std::string_view bytes) {
                      const bool before = answer->begun();
                      answer->received(status, bytes);
                      if (!before && answer->begun()) begun();
                    },
                .done = [answer, done = std::move(done)](
                            const serve::ClientResult& result) { done(*answer, result); }});
}

void ServerApi::run_some() {
  if (io_.stopped()) io_.restart();
  io_.run_one_for(std::chrono::milliseconds(100));
}

}  // namespace heddle::needle
