#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tools/serve/api/api_error.h"
#include "tools/serve/api/fields.h"
#include "tools/serve/api/routes.h"
#include "tools/serve/client/http_client.h"
#include "tools/serve/client/response_reader.h"
#include "tools/serve/fake_driver.h"
#include "tools/serve/http/head_check.h"
#include "tools/serve/http/request_reader.h"
#include "tools/serve/metrics.h"

namespace heddle::serve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Heads and requests.

std::string head_of(std::string_view line, std::string_view headers = "Host: a\r\n") {
  return std::string(line) + "\r\n" + std::string(headers) + "\r\n";
}

/// 0: the head is taken.
int refusal_of(const std::string& head) {
  const HeadCheck check = check_head(head, ServerLimits());
  return check.refusal ? check.refusal->status : 0;
}

TEST(ServeHeadCheck, RefusesWhatTwoReadersCouldReadInTwoWays) {
  const std::string get = "GET / HTTP/1.1";
  EXPECT_EQ(refusal_of(head_of(get)), 0);
  EXPECT_EQ(refusal_of(head_of("GET / HTTP/1.0", "")), 0);
  EXPECT_EQ(refusal_of(head_of(get, "Host: a\r\nContent-Length: 3\r\n")), 0);
  EXPECT_EQ(refusal_of(head_of(get, "Host: a\r\nTransfer-Encoding: Chunked\r\n")), 0);
  for (const char* headers :
       {"", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host: a/b\r\n", "Host : a\r\n",
        "Host: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n",
        "Host: a\r\nContent-Length: +3\r\n", "Host: a\r\nContent-Length: 3, 3\r\n",
        "Host: a\r\nContent-Length: \r\n", "Host: a\r\nContent-Length: 0x3\r\n",
        "Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Host: a\r\n folded\r\n", "Host: a\r\nX\r\n", "Host: a\r\nX: \x01\r\n",
        "Host: a\r\n: x\r\n", "Host: a\r\nX\xC3: x\r\n", "Host: a\r\nUpgrade: websocket\r\n"}) {
    EXPECT_EQ(refusal_of(head_of(get, headers)), 400) << headers;
  }
  EXPECT_EQ(refusal_of(head_of(get, "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n")), 501);
  EXPECT_EQ(refusal_of(head_of("GET / HTTP/1.0", "Transfer-Encoding: chunked\r\n")), 400);
  EXPECT_EQ(refusal_of(head_of(get, "Host: a\r\nExpect: 200-maybe\r\n")), 417);
  EXPECT_EQ(refusal_of(head_of(get, "Host: a\r\nContent-Encoding: gzip\r\n")), 415);
  for (const char* line : {"GET  HTTP/1.1", "GET / HTTP/1.1 x", "GET a HTTP/1.1", "GET /", "/",
                           "G\tT / HTTP/1.1", "GET / HTTP/1.10", "GET /\x80 HTTP/1.1"}) {
    EXPECT_EQ(refusal_of(head_of(line)), 400) << line;
  }
  for (const char* version : {"HTTP/2.0", "HTTP/0.9", "HTTP/1.2"}) {
    EXPECT_EQ(refusal_of(head_of("GET / " + std::string(version))), 505) << version;
  }
}

TEST(ServeHeadCheck, LimitsHoldToTheByte) {
  ServerLimits limits;
  const auto status = [&](const std::string& head) {
    const HeadCheck check = check_head(head, limits);
    return check.refusal ? check.refusal->status : 0;
  };
  const std::string rest(limits.target_bytes - 1, 'a');
  EXPECT_EQ(status(head_of("GET /" + rest + " HTTP/1.1")), 0);
  EXPECT_EQ(status(head_of("GET /" + rest + "a HTTP/1.1")), 414);
  std::string lines = "Host: a\r\n";
  for (int i = 1; i < limits.header_lines; ++i) lines += "X: y\r\n";
  EXPECT_EQ(status(head_of("GET / HTTP/1.1", lines)), 0);
  EXPECT_EQ(status(head_of("GET / HTTP/1.1", lines + "X: y\r\n")), 431);
  std::string large = head_of("GET / HTTP/1.1", "Host: a\r\nX: \r\n");
  large.insert(large.size() - 4, limits.header_bytes - large.size(), 'y');
  ASSERT_EQ(large.size(), limits.header_bytes);
  EXPECT_EQ(status(large), 0);
  EXPECT_EQ(status(large.insert(large.size() - 4, "y")), 431);
  const auto length = [&](std::size_t n) {
    return head_of("POST / HTTP/1.1", "Host: a\r\nContent-Length: " + std::to_string(n) + "\r\n");
  };
  EXPECT_EQ(status(length(limits.body_bytes)), 0);
  EXPECT_EQ(status(length(limits.body_bytes + 1)), 413);
  EXPECT_EQ(
      status(head_of("POST / HTTP/1.1", "Host: a\r\nContent-Length: 99999999999999999999999\r\n")),
      413);
}

TEST(ServeHeadCheck, ATargetMayNameItsHost) {
  for (const char* target : {"http://a/", "HTTP://a:80/b?c", "https://[::1]:8080/b", "http://a"}) {
    EXPECT_EQ(refusal_of(head_of("GET " + std::string(target) + " HTTP/1.1")), 0) << target;
  }
  for (const char* target : {"http:///b", "http://", "http://u@a/", "http:/a", "ftp://a/", "a.b:80",
                             "http://a?b", "http://a\\/b", "http://a#b/"}) {
    EXPECT_EQ(refusal_of(head_of("GET " + std::string(target) + " HTTP/1.1")), 400) << target;
  }
  EXPECT_EQ(refusal_of(head_of("GET http://a/ HTTP/1.1", "")), 400);  // Host is needed all the same
}

/// All that a reader says of a stream of bytes, cut at these places.
std::string read_all(std::string_view bytes, const std::vector<std::size_t>& cuts) {
  const ServerLimits limits;
  RequestReader reader(limits);
  std::string out;
  std::size_t begin = 0;
  const auto push = [&](std::string_view piece) {
    while (!piece.empty()) {
      const std::size_t used = reader.push(piece);
      piece.remove_prefix(used);
      if (reader.take_continue()) out += "[continue]";
      if (reader.state() == RequestReader::State::kComplete) {
        const HttpRequest r = reader.take();
        out += r.method + " " + r.path + "?" + r.query + " " + std::to_string(r.minor_version) +
               (r.keep_alive ? " keeps" : " closes");
        for (const auto& [name, value] : r.headers) out += " " + name + "=" + value;
        out += " {" + r.body + "}\n";
      } else if (reader.state() == RequestReader::State::kRefused) {
        out += std::to_string(reader.refusal().status) + " " + reader.refusal().message + "\n";
        return false;
      } else if (used == 0) {
        break;
      }
    }
    return true;
  };
  for (const std::size_t cut : cuts) {
    if (!push(bytes.substr(begin, cut - begin))) return out;
    begin = cut;
  }
  push(bytes.substr(begin));
  return out;
}

const std::vector<std::string>& streams_of_bytes() {
  static const std::vector<std::string> kStreams = {
      "GET /a?b=c HTTP/1.1\r\nHost: a\r\nX-Y:  z \r\n\r\n",
      "\r\nGET / HTTP/1.0\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: "
      "b\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
      "a;x=y\r\n0123456789\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
      "GET http://b:80/c?d HTTP/1.1\r\nHost: a\r\n\r\nGET http://b HTTP/1.1\r\nHost: a\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
      "chunked\r\n\r\n0a\r\n0123456789\r\n00\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na;x=\"y\r\n0123456789\r\n",
      "GET / HTTP/1.1\nHost: a\n\n",
      "GET / HTTP/3.1\r\nHost: a\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"};
  return kStreams;
}

TEST(ServeRequestReader, EveryWayToCutGivesTheSame) {
  for (const std::string& bytes : streams_of_bytes()) {
    const std::string whole = read_all(bytes, {});
    EXPECT_NE(whole, "");
    std::vector<std::size_t> each;
    for (std::size_t i = 1; i < bytes.size(); ++i) {
      EXPECT_EQ(read_all(bytes, {i}), whole) << bytes << "\nat " << i;
      each.push_back(i);
    }
    EXPECT_EQ(read_all(bytes, each), whole) << bytes;
    std::mt19937 random(3);
    for (int round = 0; round < 50; ++round) {
      std::vector<std::size_t> some;
      for (const std::size_t i : each) {
        if (random() % 7 == 0) some.push_back(i);
      }
      EXPECT_EQ(read_all(bytes, some), whole) << bytes;
    }
  }
}

TEST(ServeRequestReader, ReadsRequestsOneBehindTheOther) {
  EXPECT_EQ(read_all(streams_of_bytes()[3], {}),
            "POST /? 1 keeps host=a transfer-encoding=chunked {abc0123456789}\n"
            "GET /next? 1 keeps host=a {}\n");
  EXPECT_EQ(read_all(streams_of_bytes()[1], {}),
            "GET /? 0 closes {}\nGET /b? 1 closes host=a connection=close {}\n");
}

TEST(ServeRequestReader, ABodyThatWaitsForContinueSaysSoOnce) {
  const std::string head =
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
  EXPECT_EQ(read_all(head + "ab", {head.size()}),
            "[continue]POST /? 1 keeps host=a content-length=2 expect=100-continue {ab}\n");
}

TEST(ServeRequestReader, ABodyOverTheLimitIsRefusedHoweverItComes) {
  ServerLimits limits;
  limits.body_bytes = 1000;
  const auto status = [&](std::size_t n) {
    RequestReader reader(limits);
    reader.push("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (std::size_t i = 0; i < n; ++i) reader.push("1\r\nx\r\n");
    reader.push("0\r\n\r\n");
    return reader.state() == RequestReader::State::kComplete ? 200 : reader.refusal().status;
  };
  EXPECT_EQ(status(1000), 200);
  EXPECT_EQ(status(1001), 413);
}

TEST(ServeRequestReader, TheBodiesOfAllReadersHaveABound) {
  const ServerLimits limits;
  const auto bodies = std::make_shared<ByteBudget>();
  bodies->most = 1000;
  bodies->free_bytes = 10;
  const auto open = [&] {
    auto reader = std::make_unique<RequestReader>(limits, bodies);
    reader->push("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n");
    return reader;
  };
  const auto first = open();
  auto second = open();
  first->push(std::string(500, 'x'));
  second->push(std::string(499, 'x'));
  EXPECT_EQ(bodies->used, 999U);
  const auto third = open();
  third->push(std::string(10, 'x'));  // what is small is never refused
  EXPECT_EQ(third->state(), RequestReader::State::kBody);
  third->push("x");
  ASSERT_EQ(third->state(), RequestReader::State::kRefused);
  EXPECT_EQ(third->refusal().status, 503);
  EXPECT_EQ(bodies->used, 999U);
  second.reset();
  EXPECT_EQ(bodies->used, 500U);
  {
    const HttpRequest taken = first->take();  // it goes with its request
    EXPECT_EQ(bodies->used, 500U);
  }
  EXPECT_EQ(bodies->used, 0U);
}

// The client's side.

std::string response_text(std::string_view bytes, std::size_t piece) {
  ResponseReader reader;
  std::string body;
  for (std::size_t i = 0; i < bytes.size(); i += piece) {
    reader.push(bytes.substr(i, piece), [&](std::string_view part) { body += part; });
  }
  const bool complete = reader.state() == ResponseReader::State::kComplete;
  if (!complete) reader.end();
  return std::to_string(reader.status()) + (complete ? " " : " ended ") +
         (reader.state() == ResponseReader::State::kBroken ? "broken " : "") +
         (reader.keeps_alive() ? "keeps " : "closes ") + body;
}

TEST(ServeResponseReader, ReadsEveryFramingHoweverItIsCut) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "200 keeps abc"},
      {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "404 keeps "},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n",
       "200 keeps abc"},
      {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc", "200 ended closes abc"},
      {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", "200 closes a"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "200 ended broken keeps abc"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
       "200 ended broken keeps ab"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "200 ended broken keeps "},
      {"SSH-2.0-x\r\n\r\n", "0 ended broken keeps "},
      {"", "0 ended broken keeps "}};
  for (const auto& [bytes, wanted] : cases) {
    for (std::size_t piece = 1; piece <= bytes.size() + 1; ++piece) {
      ASSERT_EQ(response_text(bytes, piece), wanted) << bytes << " in pieces of " << piece;
    }
  }
}

TEST(ServeEventReader, JoinsLinesOfAnEventHoweverItIsCut) {
  const std::string bytes =
      ": comment\n\ndata: a\n\ndata:b\r\ndata:  c\r\n\r\nevent: x\ndata: d\rdata: e\r\rdata: cut";
  for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
    EventReader reader;
    std::vector<std::string> events;
    for (std::size_t i = 0; i < bytes.size(); i += piece) {
      EXPECT_TRUE(reader.push(std::string_view(bytes).substr(i, piece),
                              [&](std::string_view data) { events.emplace_back(data); }));
    }
    ASSERT_THAT(events, ElementsAre("a", "b\n c", "d\ne")) << "in pieces of " << piece;
  }
}

TEST(ServeUrl, IsReadStrictly) {
  const Url url = parse_url("http://host:8000/v1/", "--url");
  EXPECT_EQ(url.host + "|" + url.port + "|" + url.path, "host|8000|/v1");
  EXPECT_EQ(parse_url("https://[::1]", "x").host + parse_url("https://[::1]", "x").port, "::1443");
  for (const char* text :
       {"", "host", "ftp://a", "http://", "http://:80", "http://a:0", "http://a:65536",
        "http://a:x", "http://a b", "http://u@a", "http://[::1", "http://a/?q"}) {
    try {
      parse_url(text, "--url");
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
      EXPECT_THAT(e.what(), testing::StartsWith("--url: "));
    }
  }
}

// Fields: every row of the table at its edges.

constexpr Endpoint kEndpoints[] = {
    Endpoint::kChat,     Endpoint::kCompletions, Endpoint::kResponses, Endpoint::kEmbeddings,
    Endpoint::kTokenize, Endpoint::kDetokenize,  Endpoint::kTemplate};

/// A body with all that is required, and the field.
Json body_with(Endpoint endpoint, const FieldSpec& field, const Json& value) {
  Json body = Json::object();
  for (const FieldSpec* spec : fields_of(endpoint)) {
    if (!spec->required) continue;
    body[std::string(spec->name)] = spec->kind == FieldKind::kArray ? Json::array({1}) : Json("x");
  }
  body[std::string(field.name)] = value;
  return body;
}

/// The error's code, "" if it is taken.
std::string code_of(Endpoint endpoint, const Json& body, bool strict = true) {
  try {
    Fields::read(body.dump(), endpoint, ServerLimits(), strict);
    return "";
  } catch (const ApiError& e) {
    EXPECT_EQ(e.spec().status, 400);
    EXPECT_FALSE(e.spec().message.empty());
    return e.spec().code;
  }
}

std::vector<Json> values_of_each_kind() {
  return {true, 3, 0.5, "x", Json::array(), Json::object()};
}

bool fits(FieldKind kind, const Json& value) {
  switch (kind) {
    case FieldKind::kBool:
      return value.is_boolean();
    case FieldKind::kInt:
      return value.is_number_integer();
    case FieldKind::kNumber:
      return value.is_number();
    case FieldKind::kText:
    case FieldKind::kChoice:
      return value.is_string();
    case FieldKind::kArray:
      return value.is_array();
    case FieldKind::kObject:
      return value.is_object();
    case FieldKind::kAny:
      return true;
  }
  return false;
}

template <typename Visit>
void for_every_row(const Visit& visit) {
  for (const Endpoint endpoint : kEndpoints) {
    for (const FieldSpec* field : fields_of(endpoint)) {
      SCOPED_TRACE(std::string(field->name) + " of " +
                   std::to_string(static_cast<unsigned>(endpoint)));
      visit(endpoint, *field);
    }
  }
}

TEST(ServeFields, EveryRowTakesItsKindAndNoOther) {
  for_every_row([](Endpoint endpoint, const FieldSpec& field) {
    if (field.support == Support::kRefused) return;
    for (const Json& value : values_of_each_kind()) {
      const std::string code = code_of(endpoint, body_with(endpoint, field, value));
      EXPECT_EQ(code == "invalid_type", !fits(field.kind, value)) << value << " " << code;
    }
    const std::string absent = code_of(endpoint, body_with(endpoint, field, nullptr));
    EXPECT_EQ(absent, field.required ? "missing_required_parameter" : "");
  });
}

TEST(ServeFields, EveryRangeHoldsAtItsEdges) {
  for_every_row([](Endpoint endpoint, const FieldSpec& field) {
    const bool number = field.kind == FieldKind::kInt || field.kind == FieldKind::kNumber;
    if (field.support == Support::kRefused || !number) return;
    const auto code = [&](const Json& value) {
      return code_of(endpoint, body_with(endpoint, field, value));
    };
    const bool whole = field.kind == FieldKind::kInt;
    const double step = whole ? 1.0 : 1e-6;
    if (std::isfinite(field.low) && std::fabs(field.low) < 1e15) {
      EXPECT_EQ(code(field.low), field.low_open ? "invalid_value" : "");
      EXPECT_EQ(code(field.low - step), "invalid_value");
      EXPECT_EQ(code(field.low + step), "");
    }
    if (std::isfinite(field.high) && std::fabs(field.high) < 1e15) {
      EXPECT_EQ(code(field.high), "");
      EXPECT_EQ(code(field.high + step), "invalid_value");
      EXPECT_EQ(code(field.high - step), "");
    }
    EXPECT_NE(code(1e300), "");
    EXPECT_NE(code(-1e300), "");
    if (whole) {
      EXPECT_EQ(code(2.5), "invalid_type");
      EXPECT_EQ(code(Json::parse("18446744073709551615")), "invalid_type");
      EXPECT_EQ(code(Json::parse("9223372036854775808.0")), "invalid_type");
    }
  });
}

TEST(ServeFields, EveryChoiceAndEveryHarmlessValueIsTaken) {
  for_every_row([](Endpoint endpoint, const FieldSpec& field) {
    const auto code = [&](const Json& value) {
      return code_of(endpoint, body_with(endpoint, field, value));
    };
    if (field.support == Support::kRefused) {
      EXPECT_EQ(code("no such value"), "unsupported_parameter");
      if (field.harmless.empty()) return;
      for (const Json& value : Json::parse(field.harmless)) EXPECT_EQ(code(value), "");
    } else if (field.kind == FieldKind::kChoice) {
      std::string word;
      for (const char c : std::string(field.choices) + " ") {
        if (c != ' ') {
          word += c;
          continue;
        }
        EXPECT_EQ(code(word), "");
        EXPECT_EQ(code(word + "x"), "invalid_value");
        word.clear();
      }
    }
  });
}

TEST(ServeFields, UnknownOnesAreNotedOrRefused) {
  const Json body = {{"messages", Json::array({1})}, {"no\n\"such", 1}};
  EXPECT_EQ(code_of(Endpoint::kChat, body), "unknown_parameter");
  const Fields fields = Fields::read(body.dump(), Endpoint::kChat, ServerLimits(), false);
  EXPECT_THAT(fields.unknown(), ElementsAre("no??such"));
}

TEST(ServeFields, BodiesThatAreNoObjectOfJsonAreRefused) {
  for (const char* body : {"", "x", "[]", "1", "{\"a\":1,\"a\":2}", "{}x", "\xEF\xBB\xBF{}",
                           "{\"messages\":[\"\xFF\"]}", "{\"a\":1e999}"}) {
    try {
      Fields::read(body, Endpoint::kChat, ServerLimits(), false);
      ADD_FAILURE() << body;
    } catch (const ApiError& e) {
      EXPECT_EQ(e.spec().code, "invalid_json") << body;
    }
  }
  ServerLimits limits;
  const auto nested = [](int n) {
    return "{\"messages\":" + std::string(static_cast<std::size_t>(n), '[') +
           std::string(static_cast<std::size_t>(n), ']') + "}";
  };
  EXPECT_NO_THROW(Fields::read(nested(limits.json_depth - 1), Endpoint::kChat, limits, false));
  EXPECT_THROW(Fields::read(nested(limits.json_depth), Endpoint::kChat, limits, false), ApiError);
}

TEST(ServeFields, TheSchemaOfEveryRowIsAnObject) {
  for_every_row([](Endpoint, const FieldSpec& field) {
    EXPECT_TRUE(field_schema(field, ServerLimits()).is_object());
  });
}

// Routes.

TEST(ServeRoutes, EveryRowIsFoundByItsPathAndMethod) {
  for (const RouteSpec& route : route_table()) {
    std::string path(route.path);
    const std::size_t at = path.find("{}");
    if (at != std::string::npos)
      path.replace(at, 2, route.id == RouteId::kSession ? "s/save" : "m");
    const RouteMatch match = match_route(route.method, path);
    EXPECT_EQ(match.id, route.id) << path;
    EXPECT_TRUE(match.allowed);
    EXPECT_EQ(match.needs_key, route.needs_key);
    EXPECT_EQ(match_route("HEAD", path).allowed, route.method == "GET");
    EXPECT_FALSE(match_route("DELETE", path).allowed);
    const bool any = at != std::string::npos && route.id != RouteId::kSession;
    EXPECT_EQ(match_route(route.method, path + "/").id == route.id, any) << path;
  }
}

TEST(ServeRoutes, AParameterIsDecodedOnceAndNothingElseIs) {
  EXPECT_EQ(match_route("GET", "/v1/models/a%2Fb%2520").parameter, "a/b%20");
  for (const char* path :
       {"/v1/models/", "/v1/models/%", "/v1/models/%4", "/v1/models/%zz", "/v1/models/%00",
        "/v1/models/%0a", "/v1%2Fmodels", "//v1/models", "/v1/sessions/a", "/v1/sessions/a/b",
        "/v1/sessions//save", "/v1/sessions/../save", "/v1/sessions/a.b/save", "/V1/models", ""}) {
    EXPECT_EQ(match_route("GET", path).id, RouteId::kNone) << path;
    EXPECT_EQ(match_route("POST", path).id, RouteId::kNone) << path;
  }
  const std::string longest(64, 'a');
  EXPECT_EQ(match_route("POST", "/v1/sessions/" + longest + "/save").id, RouteId::kSession);
  EXPECT_EQ(match_route("POST", "/v1/sessions/" + longest + "a/save").id, RouteId::kNone);
}

// Texts.

TEST(ServeJsonString, IsJsonAndSafeWhereverLinesAreSplit) {
  std::string all;
  for (int c = 1; c < 128; ++c) all += static_cast<char>(c);
  all += "\u00e9\u0085\u2028\u2029\u2030\u00c5\U0001F600";
  all.push_back('\0');
  const std::string quoted = json_string(all);
  EXPECT_EQ(Json::parse(quoted).get<std::string>(), all);
  EXPECT_EQ(Json::parse(to_text(Json(all))).get<std::string>(), all);
  for (const std::string& text : {quoted, to_text(Json(all))}) {
    for (const char* end : {"\n", "\r", "\x0b", "\x0c", "\u0085", "\u2028", "\u2029"}) {
      EXPECT_EQ(text.find(end), std::string::npos);
    }
  }
  EXPECT_EQ(json_string(""), "\"\"");
  EXPECT_EQ(json_string("\xC2"), "\"\xC2\"") << "half a character is passed on";
  EXPECT_NO_THROW(to_text(Json("\xFF\xC2")));
}

TEST(ServeErrors, EveryStatusHasATypeAndABody) {
  for (const int status : {400, 401, 403, 404, 413, 415, 417, 429, 431, 500, 501, 503, 505}) {
    const HttpReply reply =
        error_reply({.status = status, .code = "c", .message = "a \"text\"\n", .retry_after_s = 3});
    const Json error = Json::parse(reply.body)["error"];
    EXPECT_EQ(error["code"], "c");
    EXPECT_EQ(error["message"], "a \"text\"\n");
    EXPECT_TRUE(error["param"].is_null());
    EXPECT_EQ(error["type"], error_type(status));
    EXPECT_NE(reason_phrase(status), "<unknown-status>");
  }
}

// Metrics.

TEST(ServeMetrics, AHistogramCountsUpToEachBoundWithItsEnd) {
  static constexpr double kBounds[] = {1.0, 2.0};
  Histogram histogram(kBounds);
  for (const double value : {0.5, 1.0, 1.5, 2.0, 9.0}) histogram.observe(value);
  std::string out;
  histogram.write(out, "n", "a=\"b\"");
  EXPECT_EQ(out,
            "n_bucket{a=\"b\",le=\"1\"} 2\nn_bucket{a=\"b\",le=\"2\"} 4\n"
            "n_bucket{a=\"b\",le=\"+Inf\"} 5\nn_sum{a=\"b\"} 14\nn_count{a=\"b\"} 5\n");
}

TEST(ServeMetrics, EverySeriesHasItsHeadAndANameIsEscaped) {
  EngineHost host(std::make_unique<FakeDriver>(FakeDriverOptions{.id = "a\"b\\c\nd"}), {});
  ServerMetrics metrics;
  metrics.count_reply(RouteLabel::kChat, 200);
  metrics.count_reply(RouteLabel::kChat, 499);
  metrics.count_reply(RouteLabel::kOther, 1234);
  const std::string text = metrics.write(host, {.connections = 7});
  EXPECT_THAT(text, HasSubstr("heddle:http_replies_total{route=\"chat\",status=\"4xx\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("heddle:http_replies_total{route=\"other\",status=\"5xx\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("heddle:http_connections 7\n"));
  EXPECT_THAT(text, HasSubstr(R"(model_name="a\"b\\c d")"));
  std::string name;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line.starts_with("# TYPE ")) {
      name = line.substr(7, line.find(' ', 7) - 7);
    } else if (!line.starts_with("#")) {
      EXPECT_TRUE(line.starts_with(name)) << line;
    }
  }
}

}  // namespace
}  // namespace heddle::serve
