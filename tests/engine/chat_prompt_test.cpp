// Where a conversation may be departed from, and that a hybrid's state is there.

#include "engine/chat_prompt.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "tests/support/small_llama.h"
#include "tests/support/tiny_model.h"

namespace heddle {
namespace {

using testing::ElementsAre;
using Messages = std::vector<ChatMessage>;

TEST(SnapshotPositions, OneServesItsWholeBlock) {
  EXPECT_THAT(snapshot_positions({5, 20, 31, 40}, 60, 16), ElementsAre(5, 31, 40));
  EXPECT_THAT(snapshot_positions({47, 50, 59}, 60, 16), ElementsAre(47));  // 60 serves from 48 on
  EXPECT_THAT(snapshot_positions({-3, 0, 60, 75}, 60, 16), ElementsAre());
  // The same prompt again needs 63 tokens, and a state after 64 serves none of them.
  EXPECT_THAT(snapshot_positions({}, 64, 16), ElementsAre(63));
  EXPECT_THAT(snapshot_positions({50, 33}, 64, 16), ElementsAre(33, 63));
  EXPECT_THAT(snapshot_positions({4, 5}, 9, 1), ElementsAre(4, 5, 8));
}

class ChatDepartures : public testing::Test {
 protected:
  ChatDepartures() : file_(".gguf", test::small_llama(DType::kQ4_1, 5).serialise()) {
    EngineOptions options;
    options.model = file_.path();
    options.backend.threads = 1;
    engine_ = Engine::load(options);
  }

  /// The texts before the positions that are found.
  std::vector<std::string> begins(const std::string& source, const Messages& messages) const {
    const ChatTemplate chat_template(source);
    const Tokenizer& tokenizer = engine_->tokenizer();
    const std::vector<TokenId> tokens = encode_messages(chat_template, tokenizer, messages, true);
    std::vector<std::string> texts;
    for (const std::int64_t n : chat_departures(chat_template, tokenizer, messages, tokens)) {
      texts.push_back(tokenizer.decode({tokens.begin(), tokens.begin() + n}, true));
    }
    return texts;
  }

  static constexpr const char* kPlain =
      "{% for m in messages %}<s>{{ m['role'] }}:{{ m['content'] }}</s>{% endfor %}"
      "{% if add_generation_prompt %}<s>assistant:{% endif %}";

  test::TemporaryFile file_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(ChatDepartures, AreTheEndsOfMessages) {
  const std::string s = "<s>system:be</s>";
  const std::string u = s + "<s>user:one</s>";
  const std::string a = u + "<s>assistant:two</s>";
  EXPECT_THAT(begins(kPlain, {{"system", "be", ""},
                              {"user", "one", ""},
                              {"assistant", "two", ""},
                              {"user", "three", ""}}),
              ElementsAre(s, u, a, a + "<s>user:three</s>"));
}

TEST_F(ChatDepartures, WithoutASystemMessageTheFirstMessageMayBeAnother) {
  EXPECT_THAT(begins(kPlain, {{"user", "one", ""}}), ElementsAre("<s>user:", "<s>user:one</s>"));
  // What the template says to all is in it.
  EXPECT_THAT(begins(std::string("<s>hello</s>") + kPlain, {{"user", "A", ""}}),
              ElementsAre("<s>hello</s><s>user:", "<s>hello</s><s>user:A</s>"));
}

TEST_F(ChatDepartures, OfALongConversationAreThoseOfItsLastMessages) {
  Messages messages = {{"system", "be", ""}};
  for (int i = 0; i < 40; ++i) messages.push_back({i % 2 == 0 ? "user" : "assistant", "x", ""});
  const std::vector<std::string> found = begins(kPlain, messages);
  EXPECT_EQ(found.size(), 17U);
  EXPECT_EQ(found.front(), "<s>system:be</s>");
  EXPECT_THAT(found[1], testing::EndsWith("<s>user:x</s>"));
  EXPECT_EQ(std::count(found[1].begin(), found[1].end(), 'x'), 25);
}

TEST_F(ChatDepartures, ConversationsThatTheTemplateRefusesAreLeftOut) {
  const std::string strict =
      std::string("{% if messages[-1]['role'] != 'user' %}{{ raise_exception('no') }}{% endif %}") +
      kPlain;
  EXPECT_THAT(begins(strict, {{"system", "be", ""},
                              {"user", "one", ""},
                              {"assistant", "two", ""},
                              {"user", "three", ""}}),
              ElementsAre("<s>system:be</s><s>user:one</s>",
                          "<s>system:be</s><s>user:one</s><s>assistant:two</s><s>user:three</s>"));
}

TEST_F(ChatDepartures, ATemplateThatWritesEarlierMessagesAnotherWayIsSeenThrough) {
  // The thoughts of an answer are shown only while it is the last message.
  const std::string source =
      "{% for m in messages %}<s>{{ m['role'] }}:{% if loop.last %}think {% endif %}"
      "{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}<s>assistant:{% endif %}";
  EXPECT_THAT(begins(source, {{"user", "one", ""}, {"assistant", "wo", ""}, {"user", "three", ""}}),
              ElementsAre("<s>user:", "<s>user:one</s><s>assistant:",
                          "<s>user:one</s><s>assistant:wo</s><s>user:think three</s>"));
}

TEST_F(ChatDepartures, AModelWithoutStatesNeedsNone) {
  const ChatPrompt prompt = engine_->encode_conversation({{"user", "one", ""}});
  EXPECT_EQ(prompt.tokens, engine_->encode_chat({{"user", "one", ""}}));
  EXPECT_TRUE(prompt.departures.empty());
}

/// A hybrid with a chat template.
class ChatSnapshots : public testing::Test {
 protected:
  ChatSnapshots() : model_({"--family", "minicpm_sala", "--seed", "9"}, "safetensors") {}

  std::unique_ptr<Engine> load() const {
    EngineOptions options;
    options.model = model_.path();
    options.backend.threads = 2;
    options.context = 512;
    options.snapshots = 32;
    return Engine::load(options);
  }
  /// `at_departures`: with snapshots where the template says.
  static ReuseReport run(Engine& engine, const Messages& messages, bool at_departures) {
    ChatPrompt prompt = engine.encode_conversation(messages);
    Request request{.prompt = prompt.tokens, .max_new_tokens = 2, .ignore_eos = true};
    if (at_departures) request.snapshot_at = prompt.departures;
    return run(engine, std::move(request));
  }
  static ReuseReport run(Engine& engine, Request request) {
    ReuseReport report;
    engine.submit(std::move(request), [&](const RequestEvent& event) { report = event.reuse; });
    engine.run();
    return report;
  }
  static std::string text_of(int i) {
    std::string text;
    for (int k = 0; k < 5; ++k) text += fmt::format("thread {} of the loom, ", i * 10 + k);
    return text;
  }
  static Messages conversation(int turns) {
    Messages messages = {{"system", text_of(90), ""}};
    for (int i = 0; i < turns; ++i) {
      messages.push_back({"user", text_of(2 * i), ""});
      if (i + 1 < turns) messages.push_back({"assistant", text_of(2 * i + 1), ""});
    }
    return messages;
  }

  test::TinyModel model_;
};

TEST_F(ChatSnapshots, AnEditedMessageIsComputedFromItsBegin) {
  for (const bool at_departures : {true, false}) {
    for (int edited = 1; edited <= 3; ++edited) {
      const auto engine = load();
      // A client sends the whole conversation at once; its answers are not ours.
      run(*engine, conversation(4), at_departures);
      Messages messages = conversation(edited);
      messages.back().content = "Another question";
      const ReuseReport report = run(*engine, messages, at_departures);
      EXPECT_EQ(report.known_tokens, report.cached_tokens + report.replayed_tokens);
      if (at_departures) {
        EXPECT_LE(report.replayed_tokens, 8) << edited;  // "<|im_start|>user\n"
      } else {
        EXPECT_GT(report.replayed_tokens, 50) << edited;
      }
    }
  }
}

TEST_F(ChatSnapshots, ACommonSystemMessageIsReusedThroughItsEnd) {
  for (const bool at_departures : {true, false}) {
    const auto engine = load();
    run(*engine, {{"system", text_of(90), ""}, {"user", text_of(1), ""}}, at_departures);
    const Messages other = {{"system", text_of(90), ""}, {"user", "Another question", ""}};
    const ReuseReport report = run(*engine, other, at_departures);
    const auto system = static_cast<std::int64_t>(engine->encode_chat({other[0]}, false).size());
    if (at_departures) {
      EXPECT_GE(report.cached_tokens, system);
      EXPECT_LE(report.replayed_tokens, 8);
    } else {
      EXPECT_EQ(report.cached_tokens, 0);
    }
  }
}

TEST_F(ChatSnapshots, ATurnThatGoesOnTakesFewStepsMore) {
  const auto engine = load();
  run(*engine, conversation(3), true);
  const std::int64_t steps = engine->stats().steps;
  run(*engine, conversation(4), true);  // an answer and a message are new
  // The answer's end, the message's end, the prompt's end, and one more token.
  EXPECT_LE(engine->stats().steps - steps, 4);
}

TEST_F(ChatSnapshots, APromptOfWholeBlocksThatComesAgainIsReusedWhole) {
  const auto engine = load();
  for (const int n : {64, 65, 79, 80}) {
    Request request{.max_new_tokens = 2, .ignore_eos = true};
    for (int i = 0; i < n; ++i) request.prompt.push_back(3 + (i * 37 + n) % 300);
    EXPECT_EQ(run(*engine, request).cached_tokens, 0) << n;
    EXPECT_EQ(run(*engine, request).cached_tokens, n - 1) << n;
  }
}

}  // namespace
}  // namespace heddle
