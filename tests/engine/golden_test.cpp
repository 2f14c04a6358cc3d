// Logits of the public reference on tiny checkpoints of every family, in both formats, with the
// default kernels and with the oracle. tests/models/golden/logits/README.md says how they were
// made.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/engine.h"
#include "models/families/families.h"
#include "tests/support/compare.h"
#include "tests/support/tiny_model.h"

namespace heddle {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kRoot = HEDDLE_SOURCE_DIR;
const fs::path kGoldens = kRoot / "tests/models/golden/logits";

struct Golden {
  std::vector<std::string> make;
  std::vector<std::int32_t> ids;
  std::vector<std::int64_t> positions;
  std::size_t vocab = 0;
  std::vector<float> logits;  // [positions, vocab]
};

std::vector<float> floats_of_base64(const std::string& text) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int n_bits = 0;
  for (const char c : text) {
    const std::size_t value = kAlphabet.find(c);
    if (value == std::string_view::npos) break;  // the padding
    bits = bits << 6U | static_cast<std::uint32_t>(value);
    n_bits += 6;
    if (n_bits < 8) continue;
    n_bits -= 8;
    bytes += static_cast<char>(bits >> n_bits & 0xFFU);
  }
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

Golden read_golden(const std::string& name) {
  const json value = json::parse(std::ifstream(kGoldens / (name + ".json")));
  Golden golden;
  golden.make = value.at("make").get<std::vector<std::string>>();
  golden.ids = value.at("ids").get<std::vector<std::int32_t>>();
  golden.positions = value.at("positions").get<std::vector<std::int64_t>>();
  golden.vocab = value.at("vocab").get<std::size_t>();
  golden.logits = floats_of_base64(value.at("logits_f32_base64").get<std::string>());
  return golden;
}

std::vector<std::string> names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kGoldens)) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// A golden and a format that its checkpoint exists in ("formats"; absent: both).
using NameAndFormat = std::pair<std::string, std::string>;
std::vector<NameAndFormat> cases() {
  std::vector<NameAndFormat> cases;
  for (const std::string& name : names()) {
    const json value = json::parse(std::ifstream(kGoldens / (name + ".json")));
    for (const std::string& format :
         value.value("formats", std::vector<std::string>{"safetensors", "gguf"})) {
      cases.emplace_back(name, format);
    }
  }
  return cases;
}

/// Every logit is finite and within `allowed` times the golden's largest.
testing::AssertionResult reaches(std::span<const float> row,
                                 std::span<const float> want,
                                 double allowed) {
  double largest = 0;
  for (std::size_t v = 0; v < want.size(); ++v) {
    // No NaN reaches std::max, which would drop it.
    if (!std::isfinite(want[v])) return testing::AssertionFailure() << "golden[" << v << "] is bad";
    largest = std::max(largest, std::abs(static_cast<double>(want[v])));
  }
  return test::within(row, want, allowed * largest);
}

TEST(GoldenLogits, AreNotReachedByWhatIsNotFinite) {
  const std::vector<float> want = {1, -4, 2};
  EXPECT_TRUE(reaches(want, want, 1e-5));
  EXPECT_FALSE(reaches(std::vector<float>{1, -4.001F, 2}, want, 1e-5));
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (std::size_t i = 0; i < want.size(); ++i) {
      std::vector<float> row = want;
      row[i] = bad;
      EXPECT_FALSE(reaches(row, want, 1e-5)) << bad << " at " << i;
      EXPECT_FALSE(reaches(row, row, 1e-5)) << bad << " in both at " << i;
    }
  }
}

class GoldenCase : public testing::TestWithParam<std::tuple<NameAndFormat, std::string>> {};

TEST_P(GoldenCase, AreReached) {
  const std::string& name = std::get<0>(GetParam()).first;
  const std::string& format = std::get<0>(GetParam()).second;
  const std::string& kernels = std::get<1>(GetParam());
  const Golden golden = read_golden(name);
  ASSERT_EQ(golden.logits.size(), golden.positions.size() * golden.vocab);
  const test::TinyModel model(golden.make, format);
  EngineOptions options;
  options.model = model.path();
  options.context = 256;
  options.kv_dtype = DType::kF32;
  options.backend.threads = 2;
  if (kernels == "ref") options.backend.forced["all"] = "ref";
  const std::unique_ptr<Engine> engine = Engine::load(options);

  std::map<std::int64_t, std::vector<float>> rows;
  Request request;
  request.prompt = golden.ids;
  request.max_new_tokens = 1;
  request.all_logits = true;
  request.on_logits = [&](std::int64_t position, std::span<const float> row) {
    rows[position].assign(row.begin(), row.end());
  };
  engine->submit(std::move(request), [](const RequestEvent&) {});
  engine->run();

  // The fast kernels round the inputs of quantised experts to int16.
  const double fast = name.starts_with("gpt_oss") ? 2e-4 : 1e-4;
  const double allowed = kernels == "ref" ? 1e-5 : fast;
  for (std::size_t i = 0; i < golden.positions.size(); ++i) {
    const std::vector<float>& row = rows[golden.positions[i]];
    ASSERT_EQ(row.size(), golden.vocab) << "position " << golden.positions[i];
    const auto want = std::span(golden.logits).subspan(i * golden.vocab, golden.vocab);
    EXPECT_TRUE(reaches(row, want, allowed)) << "position " << golden.positions[i];
  }
}

TEST(GoldenLogits, AreThereForEveryFamily) {
  const std::vector<std::string> cases = names();
  for (const Family& family : families()) {
    EXPECT_NE(std::find(cases.begin(), cases.end(), family.name), cases.end()) << family.name;
  }
  for (const char* name : {"minimax_m1", "moh_llama3"}) {  // of other families
    EXPECT_NE(std::find(cases.begin(), cases.end(), name), cases.end()) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden,
                         GoldenCase,
                         testing::Combine(testing::ValuesIn(cases()),
                                          testing::Values("default", "ref")),
                         [](const auto& param) {
                           std::string name = std::get<0>(param.param).first + "_" +
                                              std::get<0>(param.param).second + "_" +
                                              std::get<1>(param.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace heddle
