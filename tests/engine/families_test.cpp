// The engine's promises on a tiny checkpoint of every family, in both formats.

#include "models/families/families.h"

#include <gtest/gtest.h>

#include "engine/selftest.h"
#include "tests/support/sanitizers.h"
#include "tests/support/selftest_rows.h"
#include "tests/support/tiny_model.h"

namespace heddle {
namespace {

/// A family of make_tiny_model.py, and a format that it exists in.
using NameAndFormat = std::pair<std::string, std::string>;
class EveryFamily : public testing::TestWithParam<NameAndFormat> {};

std::vector<NameAndFormat> cases() {
  std::vector<NameAndFormat> cases;
  for (const Family& family : families()) {
    cases.emplace_back(family.name, "safetensors");
    if (family.read_gguf != nullptr) cases.emplace_back(family.name, "gguf");
  }
  for (const char* name : {"minimax_m1", "moh_llama3"}) cases.emplace_back(name, "safetensors");
  return cases;
}

TEST_P(EveryFamily, PassesTheSelftest) {
  const auto& [family, format] = GetParam();
  const test::TinyModel model({"--family", family, "--seed", "21"}, format);
  EngineOptions options;
  options.model = model.path();
  options.backend.threads = 2;
  const std::vector<SelftestRow> rows = run_selftest(options, test::kSanitized);
  EXPECT_EQ(test::names_of(rows), test::selftest_rows());
  for (const SelftestRow& row : rows) {
    EXPECT_TRUE(row.ok) << row.name << ": " << row.detail;
    EXPECT_FALSE(row.detail.starts_with("skipped")) << row.name << ": " << row.detail;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, EveryFamily, testing::ValuesIn(cases()), [](const auto& param) {
  return param.param.first + "_" + param.param.second;
});

}  // namespace
}  // namespace heddle
