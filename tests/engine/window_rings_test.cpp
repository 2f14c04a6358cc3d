// Layers with a window that keep no more than it: the bits are those of an engine that keeps all
// tokens, wherever the ring begins again, and the memory is much less.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/cache_rings.h"
#include "engine/engine.h"
#include "engine/memory_plan.h"
#include "engine/session_layout.h"
#include "tests/support/tiny_model.h"

namespace heddle {
namespace {

using Tokens = std::vector<std::int32_t>;
using Change = std::function<void(EngineOptions&)>;

struct Answer {
  Tokens tokens;
  std::map<std::int64_t, std::vector<float>> logits;
};

/// Every row of logits, from the first token on.
Answer run(Engine& engine, const Tokens& prompt, std::int64_t n_new) {
  Answer answer;
  Request request{.prompt = prompt, .max_new_tokens = n_new, .ignore_eos = true};
  request.on_logits = [&](std::int64_t position, std::span<const float> row) {
    answer.logits[position].assign(row.begin(), row.end());
  };
  request.all_logits = true;
  engine.submit(std::move(request), [&](const RequestEvent& event) {
    if (event.token) answer.tokens.push_back(*event.token);
    EXPECT_NE(event.finish, FinishReason::kError) << event.error;
  });
  engine.run();
  EXPECT_EQ(std::ssize(answer.tokens), n_new);
  return answer;
}

Tokens prompt_of(std::int64_t n, int salt = 0) {
  Tokens prompt;
  for (int i = 0; i < n; ++i) prompt.push_back(3 + (i * 37 + i / 7 + salt * 11) % 300);
  return prompt;
}

void expect_same(const Answer& got, const Answer& want, const std::string& what) {
  EXPECT_EQ(got.tokens, want.tokens) << what;
  ASSERT_EQ(got.logits.size(), want.logits.size()) << what;
  for (const auto& [position, row] : want.logits) {
    ASSERT_EQ(got.logits.at(position), row) << what << ", position " << position;
  }
}

class Model {
 public:
  explicit Model(const std::string& family, std::string attention = {})
      : model_({"--family", family, "--seed", "9"}, "safetensors"),
        attention_(std::move(attention)) {}

  EngineOptions options(const Change& change = {}) const {
    EngineOptions o;
    o.model = model_.path();
    o.attention = attention_;
    o.backend.threads = 2;
    if (change) change(o);
    return o;
  }
  std::unique_ptr<Engine> load(const Change& change = {}) const {
    return Engine::load(options(change));
  }
  ModelConfig config() const { return open_model(options()).config; }
  /// With which every layer that may keep rings does.
  std::int64_t ring_context() const { return ring_contexts(config()).front(); }
  /// With which none does.
  std::int64_t pool_context() const { return ring_contexts(config()).back() - 1; }

 private:
  test::TinyModel model_;
  std::string attention_;
};

std::vector<std::int64_t> rings_of(const Engine& engine) {
  return ring_sizes(placed_needs(engine.config(), engine.options()));
}

class WindowRings : public testing::TestWithParam<const char*> {};

TEST_P(WindowRings, GiveTheBitsOfAllTokensKept) {
  const Model model(GetParam());
  const auto all = model.load([&](EngineOptions& o) { o.context = model.pool_context(); });
  ASSERT_TRUE(rings_of(*all).empty());
  const Tokens prompt = prompt_of(700);
  const Answer want = run(*all, prompt, 60);
  for (const auto& [chunk, block] : {std::pair{0, 16}, std::pair{5, 32}, std::pair{16, 16},
                                     std::pair{16, 64}, std::pair{100, 32}, std::pair{333, 64}}) {
    const auto engine = model.load([&, chunk = chunk, block = block](EngineOptions& o) {
      o.context = model.ring_context();
      o.max_chunk = chunk;
      o.block_tokens = block;
      o.random_chunks = block == 32 ? 3 : 0;
    });
    const std::vector<std::int64_t> rings = rings_of(*engine);
    ASSERT_FALSE(rings.empty());
    if (chunk > 0 && chunk <= 16) {
      EXPECT_LT(3 * rings.back() * block, 760) << "it begins again and again";
    }
    expect_same(run(*engine, prompt, 60), want,
                "chunks of " + std::to_string(chunk) + ", blocks of " + std::to_string(block));
  }
}

TEST_P(WindowRings, EveryLengthAroundARingIsTheSame) {
  const Model model(GetParam());
  const auto all = model.load([&](EngineOptions& o) { o.context = model.pool_context(); });
  const auto engine = model.load([&](EngineOptions& o) {
    o.context = model.ring_context();
    o.max_chunk = 32;
  });
  const std::int64_t ring = rings_of(*engine).back() * 16;
  for (const std::int64_t around : {ring - 16, ring, ring + 16, 2 * ring}) {
    for (const std::int64_t n : {around - 1, around, around + 1}) {
      expect_same(run(*engine, prompt_of(n, 2), 3), run(*all, prompt_of(n, 2), 3),
                  "prompt of " + std::to_string(n));
    }
  }
}

TEST_P(WindowRings, BeginWhereThreeAreNotMoreThanTheContext) {
  const Model model(GetParam());
  const Tokens prompt = prompt_of(150);
  Answer want;
  for (const std::int64_t context :
       {model.pool_context(), model.pool_context() + 1, model.pool_context() + 2}) {
    const auto engine = model.load([&](EngineOptions& o) {
      o.context = context;
      o.max_chunk = 16;
    });
    EXPECT_EQ(rings_of(*engine).empty(), context == model.pool_context());
    EXPECT_EQ(engine->memory().window_bytes_per_sequence > 0, context > model.pool_context());
    const Answer got = run(*engine, prompt, 10);
    if (want.tokens.empty()) want = got;
    expect_same(got, want, "context " + std::to_string(context));
  }
}

TEST_P(WindowRings, BatchedIsAlone) {
  const Model model(GetParam());
  const Change change = [&](EngineOptions& o) {
    o.context = model.ring_context();
    o.max_sequences = 5;
    o.max_chunk = 24;
    o.max_step_tokens = 60;
    o.shuffle_blocks = 3;
  };
  const auto engine = model.load(change);
  std::vector<std::map<std::int64_t, std::vector<float>>> logits(5);
  for (int i = 0; i < 5; ++i) {
    Request request{.prompt = prompt_of(40 + 90 * i, i), .max_new_tokens = 30, .ignore_eos = true};
    request.on_logits = [&logits, i](std::int64_t position, std::span<const float> row) {
      logits[static_cast<std::size_t>(i)][position].assign(row.begin(), row.end());
    };
    request.all_logits = true;
    engine->submit(std::move(request), [](const RequestEvent&) {});
  }
  engine->run();
  const auto alone = model.load(change);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(logits[static_cast<std::size_t>(i)],
              run(*alone, prompt_of(40 + 90 * i, i), 30).logits)
        << i;
  }
}

// Turn after turn, with snapshots every 1024 tokens too, through a text of many rings.
TEST_P(WindowRings, ALongConversationIsTheSameAsCold) {
  const Model model(GetParam());
  const auto engine = model.load([](EngineOptions& o) { o.max_chunk = 64; });
  const auto cold = model.load([](EngineOptions& o) { o.prefix_cache = false; });
  Tokens text = prompt_of(900);
  for (int turn = 0; turn < 3; ++turn) {
    std::map<std::int64_t, std::vector<float>> got;
    Request request{.prompt = text, .max_new_tokens = 20, .ignore_eos = true};
    request.on_logits = [&](std::int64_t position, std::span<const float> row) {
      got[position].assign(row.begin(), row.end());
    };
    Tokens answer;
    std::int64_t cached = 0;
    engine->submit(std::move(request), [&](const RequestEvent& event) {
      if (event.token) answer.push_back(*event.token);
      cached = event.reuse.cached_tokens;
    });
    engine->run();
    if (turn > 0) {
      EXPECT_GE(cached, 900 + (turn - 1) * 630);
    }
    const Answer want = run(*cold, text, 20);
    EXPECT_EQ(answer, want.tokens) << turn;
    for (const auto& [position, row] : got) EXPECT_EQ(row, want.logits.at(position)) << position;
    text.insert(text.end(), answer.begin(), answer.end());
    const Tokens more = prompt_of(630, turn + 3);
    text.insert(text.end(), more.begin(), more.end());
  }
}

INSTANTIATE_TEST_SUITE_P(Families,
                         WindowRings,
                         testing::Values("gemma3", "mistral", "gpt_oss", "heddle"),
                         [](const auto& param) { return std::string(param.param); });

/// Windows of any size, and several sizes in one model, by --attention.
class AnyWindow : public testing::TestWithParam<const char*> {};

TEST_P(AnyWindow, GivesTheBitsOfAllTokensKept) {
  const Model model("llama", GetParam());
  const auto all = model.load([&](EngineOptions& o) { o.context = model.pool_context(); });
  const Tokens prompt = prompt_of(300);
  const Answer want = run(*all, prompt, 40);
  for (const std::int64_t chunk : {1, 16, 31}) {
    for (const int block : {16, 64}) {
      const auto engine = model.load([&](EngineOptions& o) {
        o.context = model.ring_context();
        o.max_chunk = chunk;
        o.block_tokens = block;
      });
      ASSERT_FALSE(rings_of(*engine).empty());
      expect_same(run(*engine, prompt, 40), want,
                  "chunks of " + std::to_string(chunk) + ", blocks of " + std::to_string(block));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Windows,
                         AnyWindow,
                         testing::Values("sliding:1",
                                         "sliding:2",
                                         "sliding:15",
                                         "sliding:16",
                                         "sliding:17",
                                         "sliding:18",
                                         "sliding:33",
                                         "sliding:100",
                                         "sliding:3@0;sliding:70@1",
                                         "sliding:20@1",
                                         "streaming:4,20@0;sliding:20@1"),
                         [](const auto& param) {
                           std::string name = param.param;
                           for (char& c : name) {
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           }
                           return name;
                         });

TEST(WindowRingsOf, FirstKeysAndPatternsKeepAllTokens) {
  for (const char* mode : {"streaming:4,20", "power:16", "strided:16,3"}) {
    const Model model("llama", mode);
    EXPECT_TRUE(ring_contexts(model.config()).empty()) << mode;
    EXPECT_TRUE(ring_sizes(placed_needs(model.config(), model.options([](EngineOptions& o) {
                  o.context = 8192;
                }))).empty());
  }
}

TEST(WindowRingsOf, ARingHoldsTheWindowAndTheChunk) {
  const auto blocks = [](std::int64_t window, std::int64_t chunk, int block_tokens) {
    CacheNeed need;
    need.paged = {{.n_kv_heads = 1, .head_dim = 16, .n_q_heads = 1, .window = window}};
    EngineOptions o;
    o.context = least_ring_context(window);
    o.max_chunk = chunk;
    o.block_tokens = block_tokens;
    return placed(need, o).paged.front().ring_blocks;
  };
  for (const int block : {16, 32, 64}) {
    for (const std::int64_t window : {1, 2, 15, 16, 17, 63, 64, 65, 512, 4096}) {
      for (const std::int64_t chunk : {1, 7, 15, 16, 17, 100, 512, 4096}) {
        const std::int64_t n = blocks(window, chunk, block);
        EXPECT_LE(n * block, most_ring_tokens(window));
        const std::int64_t written = std::min(chunk, kRingChunk);
        // The first row of a chunk finds all its keys, whatever position it begins at, also where
        // the tokens up to the next multiple of 16 had been there before.
        for (std::int64_t start = 0; start < 2 * block; ++start) {
          const std::int64_t first = start + 5 * block;
          const std::int64_t last = std::max(first + written - 1, first / 16 * 16 + 14);
          EXPECT_GT((first + 8192 - window + 1) / block, (last + 8192) / block - n)
              << window << " " << chunk << " " << block << " " << start;
        }
      }
    }
  }
  EXPECT_EQ(blocks(64, 0, 16), (64 + 512 - 2 + 15) / 16 + 1) << "chunks of 512";
}

TEST(WindowRingsOf, ChunksAreNoLargerThanRingsAreMadeFor) {
  const Model model("mistral");
  const auto change = [&](std::int64_t context) {
    return model
        .load([&](EngineOptions& o) {
          o.context = context;
          o.max_step_tokens = 4096;
        })
        ->options()
        .max_chunk;
  };
  EXPECT_EQ(change(model.ring_context()), kRingChunk);
  EXPECT_EQ(change(model.pool_context()), 4096);
}

TEST(WindowRingsOf, ALongContextTakesMuchLessMemory) {
  const Model model("gemma3");  // 7 layers, 6 of which have a window of 64
  const auto plan = [&](std::int64_t context, std::int64_t sequences) {
    EngineOptions o = model.options();
    o.context = context;
    o.max_sequences = sequences;
    const Checkpoint checkpoint = open_model(o);
    return plan_memory(checkpoint.config, *checkpoint.weights, o);
  };
  constexpr std::uint64_t kLayerToken = 256;  // 2 KV heads of 32 or the like, K and V, f16
  for (const std::int64_t sequences : {1, 8}) {
    const auto n = static_cast<std::uint64_t>(sequences);
    const MemoryPlan large = plan(8192, sequences);
    EXPECT_EQ(large.kv_bytes_per_token, kLayerToken);
    EXPECT_EQ(large.window_bytes_per_sequence, 6 * kLayerToken * 37 * 16) << "37 blocks of 16";
    EXPECT_EQ(large.kv, n * (8192 * kLayerToken + large.window_bytes_per_sequence));
    EXPECT_EQ(large.state, 0U);
    EXPECT_EQ(large.snapshots % large.window_bytes_per_sequence, 0U);
    const std::uint64_t all = n * 8192 * 7 * kLayerToken;
    EXPECT_LT(large.kv, all / 4);
    EXPECT_LT(large.kv + large.snapshots, all / 2);
    EXPECT_EQ(plan(4096, sequences).window_bytes_per_sequence, large.window_bytes_per_sequence);
  }
  // Never more than all tokens would take, with what is kept of prefixes.
  for (const std::int64_t context : {model.ring_context(), std::int64_t{3000}}) {
    for (const std::int64_t sequences : {1, 2, 7}) {
      const MemoryPlan rings = plan(context, sequences);
      EXPECT_GT(rings.window_bytes_per_sequence, 0U);
      EXPECT_GE(rings.snapshots, 2 * rings.window_bytes_per_sequence);
      EXPECT_LE(rings.kv + rings.snapshots,
                static_cast<std::uint64_t>(sequences * (context + 15)) * 7 * kLayerToken);
    }
  }
}

TEST(WindowRingsOf, SnapshotsDependOnNeitherBlocksNorChunks) {
  for (const char* family : {"gemma3", "mistral", "heddle"}) {
    const Model model(family);
    std::int64_t want = -1;
    for (const int block : {16, 32, 64}) {
      for (const std::int64_t chunk : {1, 13, 512}) {
        EngineOptions o = model.options();
        o.context = model.ring_context();
        o.kv_tokens = o.context;
        o.block_tokens = block;
        o.max_chunk = chunk;
        const std::int64_t n = snapshot_slots(model.config(), o);
        EXPECT_GE(n, 2);
        if (want < 0) want = n;
        EXPECT_EQ(n, want) << family << " " << block << " " << chunk;
      }
    }
  }
}

/// A slot whose bytes tell the position and the byte of its key or value.
std::vector<std::byte> slot_of(const PagedKvNeed& kv, std::int64_t position, int block_tokens) {
  const std::int64_t ring = kv.ring_blocks * block_tokens;
  std::vector<std::byte> slot(static_cast<std::size_t>(kv.elements_per_token() * ring * 2),
                              std::byte{0xff});
  const std::int64_t rows = std::int64_t{kv.n_kv_heads} * kv.head_dim;
  const std::int64_t values = rows * ring;
  const std::int64_t oldest = ((position - 1) / block_tokens - kv.ring_blocks + 1) * block_tokens;
  for (std::int64_t p = std::max<std::int64_t>(0, oldest); p < position; ++p) {
    const std::int64_t page = p / block_tokens % kv.ring_blocks;
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t k = page * rows * block_tokens + row * block_tokens + p % block_tokens;
      const std::int64_t v = values + page * rows * block_tokens +
                             (row / kv.head_dim * block_tokens + p % block_tokens) * kv.head_dim +
                             row % kv.head_dim;
      for (const auto& [element, tag] : {std::pair{k, 0}, std::pair{v, 100}}) {
        slot[static_cast<std::size_t>(2 * element)] = static_cast<std::byte>(p);
        slot[static_cast<std::size_t>(2 * element + 1)] = static_cast<std::byte>(tag + row);
      }
    }
  }
  return slot;
}

TEST(WindowRingsOf, ASavedStateIsTheSameWhateverTheRing) {
  for (const std::int64_t window : {1, 2, 16, 17, 18, 50}) {
    for (const std::int64_t position : {1, 15, 16, 17, 31, 32, 100, 113, 250}) {
      std::vector<std::byte> want;
      for (const int block : {16, 32, 64}) {
        for (const std::int64_t chunk : {1, 40}) {
          CacheNeed need;
          need.paged = {{.n_kv_heads = 2, .head_dim = 3, .n_q_heads = 2, .window = window}};
          EngineOptions o;
          o.context = 8192;
          o.max_chunk = chunk;
          o.block_tokens = block;
          need = placed(need, o);
          const SessionLayout layout({need}, DType::kF16, block);
          EXPECT_EQ(layout.group_bytes(), 0U);
          const std::vector<std::byte> slot = slot_of(need.paged[0], position, block);
          std::vector<std::byte> state(layout.state_bytes(), std::byte{0x77});
          layout.gather_state(slot, position, state);
          EXPECT_EQ(std::ranges::count(state, std::byte{0xff}), 0)
              << "window " << window << " position " << position;
          if (want.empty()) want = state;
          EXPECT_EQ(state, want) << "window " << window << " position " << position;
          // And back.
          std::vector<std::byte> other(slot.size(), std::byte{0xfe});
          layout.scatter_state(state, position, other);
          EXPECT_EQ(std::ranges::count(other, std::byte{0xfe}), 0);
          std::vector<std::byte> again(state.size());
          layout.gather_state(other, position, again);
          EXPECT_EQ(again, want);
        }
      }
      // As many tokens as the row at the last multiple of 16 sees, and those from there on.
      const std::int64_t from = position / 16 * 16;
      const std::int64_t tokens = position - std::max<std::int64_t>(0, from - window + 1);
      std::int64_t tagged = 0;
      for (std::size_t i = 1; i < want.size(); i += 2) {
        tagged += want[i] == std::byte{5} || want[i] == std::byte{105} ? 1 : 0;
      }
      EXPECT_EQ(tagged, 2 * tokens) << "window " << window << " position " << position;
    }
  }
}

}  // namespace
}  // namespace heddle
