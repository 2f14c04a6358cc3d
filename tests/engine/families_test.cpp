// The engine's promises on a tiny checkpoint of every family, in both formats.

#include "models/families/families.h"

#include <gtest/gtest.h>

#include "engine/selftest.h"
#include "tests/support/tiny_model.h"

namespace heddle {
namespace {

class EveryFamily : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

std::vector<std::string> family_list() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.emplace_back(family.name);
  return names;
}

TEST_P(EveryFamily, PassesTheSelftest) {
  const auto& [family, format] = GetParam();
  const test::TinyModel model({"--family", family, "--seed", "21"}, format);
  EngineOptions options;
  options.model = model.path();
  options.backend.threads = 2;
  const std::vector<SelftestRow> rows = run_selftest(options, false);
  EXPECT_GE(rows.size(), 8U);
  for (const SelftestRow& row : rows) EXPECT_TRUE(row.ok) << row.name << ": " << row.detail;
}

INSTANTIATE_TEST_SUITE_P(Families,
                         EveryFamily,
                         testing::Combine(testing::ValuesIn(family_list()),
                                          testing::Values("safetensors", "gguf")),
                         [](const auto& param) {
                           return std::get<0>(param.param) + "_" + std::get<1>(param.param);
                         });

}  // namespace
}  // namespace heddle
